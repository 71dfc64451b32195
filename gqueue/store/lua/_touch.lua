-- Note that a worker was heard. After half a lease of silence, or a clock that went back by a sixth, Redis was away or
-- its clock was stepped: first every deadline is set into [now + lease/3, now + lease]. Returns the lease in force.
-- *known*: `seen` and `lease`, if they were read before.
local function touch(now, lease_brought, known)
  local was = known or redis.call('HMGET', meta, 'seen', 'lease')
  local seen = kept(was[1], now)
  local lease = math.max(1, lease_kept(was[2], tonumber(lease_brought)))
  if 2 * (now - seen) > lease or 6 * (seen - now) > lease then
    local first, last = now + math.floor(lease / 3), now + lease
    local all = redis.call('ZRANGE', workers, 0, -1, 'WITHSCORES')
    for i = 1, #all, 2 do
      local deadline = math.min(math.max(tonumber(all[i + 1]), first), last)
      redis.call('ZADD', workers, 'XX', whole(deadline), all[i])
    end
  end
  redis.call('HSET', meta, 'seen', whole(now))
  return lease
end
