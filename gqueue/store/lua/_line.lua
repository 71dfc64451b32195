-- Take the tickets that were not renewed out of the line, and those whose deadline lies beyond any that could be given
-- now: the clock was stepped back, and their producers may be dead. A live one comes back where it stood. A place without
-- a ticket, which no script leaves, goes too: it would lapse never, and hold up all who come. Returns how many went.
local function drop_lapsed_tickets(now, ticket_ms)
  local dropped = 0
  for _, lapsed in ipairs({
    redis.call('ZRANGEBYSCORE', tickets, '-inf', whole(now), 'LIMIT', 0, 1000),
    redis.call('ZRANGEBYSCORE', tickets, '(' .. whole(now + ticket_ms), '+inf', 'LIMIT', 0, 1000),
  }) do
    if #lapsed > 0 then
      redis.call('ZREM', tickets, unpack(lapsed))
      redis.call('ZREM', waiters, unpack(lapsed))
      dropped = dropped + #lapsed
    end
  end
  if redis.call('ZCARD', waiters) ~= redis.call('ZCARD', tickets) then
    for _, stands in ipairs(redis.call('ZRANGE', waiters, 0, 999)) do
      if not redis.call('ZSCORE', tickets, stands) then
        dropped = dropped + redis.call('ZREM', waiters, stands)
      end
    end
  end
  return dropped
end
