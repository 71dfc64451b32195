-- Take the tickets that were not renewed out of the line, and those whose deadline lies beyond any that could be given
-- now: the clock was stepped back, and their producers may be dead. A live one comes back where it stood. Returns how many.
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
  return dropped
end
