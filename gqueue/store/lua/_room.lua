-- Hint the waiting producers that room reaches now, best first; not those that were hinted before, and have neither asked
-- nor renewed their tickets since: half a millisecond is missing from their deadlines. A call hints so many, since each
-- later one brings more. Hints may be lost or doubled: a ticket is renewed every 0.9 s, and a waiter asks every 2 s anyway.
local ROOM_HINTS = 32

local function depth()
  return redis.call('ZCARD', ready) + redis.call('ZCARD', suspects) + redis.call('ZCARD', scheduled)
end

local function capacity()
  local known = redis.call('HMGET', meta, 'capacity_set', 'capacity')
  return kept(known[1], kept(known[2], 0))
end

local function hint(now)
  if redis.call('EXISTS', waiters) == 0 then
    return
  end
  local room = math.min(capacity() - depth(), ROOM_HINTS)
  if room <= 0 then
    return
  end
  local places = redis.call('ZRANGE', waiters, 0, room + ROOM_HINTS - 1) -- some may be of the dead
  local deadlines = redis.call('ZMSCORE', tickets, unpack(places))
  local found = {}
  for index, place in ipairs(places) do
    local deadline = tonumber(deadlines[index] or '0')
    if deadline > now and room > 0 then
      room = room - 1
      if deadline == math.floor(deadline) then
        local ticket = string.sub(place, 14)
        local producer = string.match(ticket, '^(.*)%.') or ticket
        local its = found[producer] or {names = {}, marks = {}}
        its.names[#its.names + 1] = ticket
        its.marks[#its.marks + 1] = string.format('%.1f', deadline - 0.5)
        its.marks[#its.marks + 1] = place
        found[producer] = its
      end
    end
  end
  for producer, its in pairs(found) do
    local list = string.sub(meta, 1, -5) .. 'room:' .. producer
    local hints = redis.pcall('LLEN', list)
    if type(hints) == 'number' and hints < 256 then
      redis.pcall('RPUSH', list, unpack(its.names))
      redis.pcall('ZADD', tickets, 'XX', unpack(its.marks))
    end
    redis.pcall('PEXPIRE', list, 10000)
  end
end

-- The line, or a list, may be damaged, Redis full, or the user without a right: no error of a hint is one of the call.
local function hint_room(now)
  pcall(hint, now)
end
