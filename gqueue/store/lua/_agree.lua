-- Put the longest lease that registered workers brought in force, and let no deadline count on a longer one. A worker
-- without a sound entry, as of a version that made none, counts on the lease in force; entries of others are removed.
-- *gone*: workers that are about to be taken out, each true; they are, behind all that may be refused here.
local function agree(now, gone)
  local was, longest, brought = lease_kept(redis.call('HGET', meta, 'lease'), 0), 0, {}
  local entries, all = redis.pcall('HGETALL', leases), redis.call('ZRANGE', workers, 0, -1, 'WITHSCORES')
  if entries.err and not string.find(entries.err, 'WRONGTYPE', 1, true) then
    redis.call('HGETALL', leases) -- the same error once more ends the call
  end
  for i = 1, #entries, 2 do
    brought[entries[i]] = entries[i + 1]
  end
  for i = 1, #all, 2 do
    if not gone[all[i]] then
      longest = math.max(longest, lease_kept(brought[all[i]] ~= '0' and brought[all[i]], was))
      brought[all[i]] = nil
    end
  end
  for worker in pairs(brought) do
    redis.call('HDEL', leases, worker)
  end
  if longest == 0 then
    return was
  end
  redis.call('HSET', meta, 'lease', whole(longest))
  for i = 1, #all, 2 do
    local score, last = tonumber(all[i + 1]), now + longest
    if score > last then
      local graces = score < 2 ^ 53 and math.ceil(score) - score or 0 -- _touch.lua
      redis.call('ZADD', workers, 'XX', string.format('%.3f', last - graces), all[i])
    end
  end
  return longest
end
