-- Hint the waiting producers that room reaches now, best first. Hints may be doubled: 16 a call are enough, since each
-- admission and each later call brings more, and a waiter asks every 2 s anyway.
local ROOM_HINTS = 16

local function depth()
  return redis.call('ZCARD', ready) + redis.call('ZCARD', suspects) + redis.call('ZCARD', scheduled)
end

local function capacity()
  local known = redis.call('HMGET', meta, 'capacity_set', 'capacity')
  return kept(known[1], kept(known[2], 0))
end

local function hint_room(now)
  if redis.call('EXISTS', waiters) == 0 then
    return
  end
  local room = math.min(capacity() - depth(), ROOM_HINTS)
  if room <= 0 then
    return
  end
  local prefix = string.sub(meta, 1, -5) .. 'room:'
  for _, place in ipairs(redis.call('ZRANGE', waiters, 0, 4 * ROOM_HINTS - 1)) do
    if tonumber(redis.call('ZSCORE', tickets, place) or '0') > now then
      local ticket = string.sub(place, 14)
      local list = prefix .. (string.match(ticket, '^(.*)%.') or ticket)
      local hints = redis.pcall('LLEN', list) -- a hint may be lost: no error of it is one of the call
      if type(hints) == 'number' and hints < 256 then
        redis.pcall('RPUSH', list, ticket)
      end
      redis.call('PEXPIRE', list, 10000)
      room = room - 1
      if room == 0 then
        return
      end
    end
  end
end
