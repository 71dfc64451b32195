--[[ Take a place out of the line that has no ticket, or a ticket that has no place; its producer comes again.

  KEYS[1]  waiters    zset  place .. ticket -> rank
  KEYS[2]  tickets    zset  place .. ticket -> live until, ms
  KEYS[3]  ready      zset  sequence .. id -> rank
  KEYS[4]  suspects   zset  sequence .. id -> rank
  KEYS[5]  scheduled  zset  id -> due time, ms
  KEYS[6]  meta       hash  capacity
  ARGV[1]  now_ms     int   '': the server's TIME
  ARGV[2]  name       str   the member

  Returns  {"ok", how many things were mended}
  Writes   room:PRODUCER
  Model    gqueue.core.audit.judge_place
  Cost     O(log waiters)
]]
local waiters, tickets, ready, suspects, scheduled, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local name = ARGV[2]
-- include: clock
-- include: room

if redis.call('ZSCORE', waiters, name) and redis.call('ZSCORE', tickets, name) then
  return {'ok', 0}
end
local mended = redis.call('ZREM', waiters, name) + redis.call('ZREM', tickets, name)
if mended > 0 then
  hint_room(clock(ARGV[1]))
end
return {'ok', mended}
