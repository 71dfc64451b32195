-- Note that a worker was heard. After half a lease of silence, or a clock that went back by a sixth, Redis was away or
-- its clock was stepped: first every deadline is set into [now + lease/3, now + lease]. Returns the lease in force.
-- A deadline is less by an eighth of a ms for each such silence since its worker was heard; after 3 of them it stands.
-- *known*: `seen` and `lease`, if they were read before.
local function touch(now, lease_brought, known)
  local was = known or redis.call('HMGET', meta, 'seen', 'lease')
  local seen = kept(was[1], now)
  local lease = math.max(1, lease_kept(was[2], tonumber(lease_brought)))
  local silent = 2 * (now - seen) > lease or 6 * (seen - now) > lease
  local all = silent and redis.call('ZRANGE', workers, 0, -1, 'WITHSCORES')
  if silent then
    redis.call('ZADD', workers, 'XX', 0, '') -- what is refused is refused now: a silence is granted once
  end
  redis.call('HSET', meta, 'seen', whole(now))
  if silent then
    local first, last = now + math.floor(lease / 3), now + lease
    for i = 1, #all, 2 do
      local deadline, graces = math.ceil(tonumber(all[i + 1])), 0
      if math.abs(deadline) < 2 ^ 53 then -- else it is damaged: it may be infinite
        graces = math.floor(8 * (deadline - tonumber(all[i + 1])))
      end
      if graces < 3 then
        deadline, graces = math.max(deadline, first), graces + 1
      end
      redis.call('ZADD', workers, 'XX', string.format('%.3f', math.min(deadline, last) - graces / 8), all[i])
    end
  end
  return lease
end
