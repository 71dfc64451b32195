-- Take the tickets that were not renewed out of the line; returns how many.
local function drop_lapsed_tickets(now)
  local lapsed = redis.call('ZRANGEBYSCORE', tickets, '-inf', whole(now), 'LIMIT', 0, 1000)
  if #lapsed > 0 then
    redis.call('ZREM', tickets, unpack(lapsed))
    redis.call('ZREM', waiters, unpack(lapsed))
  end
  return #lapsed
end
