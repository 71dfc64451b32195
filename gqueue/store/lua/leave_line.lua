--[[ Take a ticket out of the line; hint the waiters that room now reaches.

  KEYS[1]  waiters    zset  place .. ticket -> rank
  KEYS[2]  tickets    zset  place .. ticket -> live until, ms
  KEYS[3]  ready      zset  sequence .. id -> rank
  KEYS[4]  suspects   zset  sequence .. id -> rank
  KEYS[5]  scheduled  zset  id -> due time, ms
  KEYS[6]  meta       hash  capacity
  ARGV[1]  now_ms     int   '': the server's TIME
  ARGV[2]  place      int   number of the place
  ARGV[3]  ticket     str   PRODUCER.N
  ARGV[4]  ticket_ms  int   how long a ticket lives

  Returns  {"ok"}
  Writes   room:PRODUCER
  Model    gqueue.core.scheduling.leave_line
  Cost     O(log waiters)
]]
local waiters, tickets, ready, suspects, scheduled, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local place, ticket, ticket_ms = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
-- include: clock
-- include: room
-- include: line

local now = clock(ARGV[1])
drop_lapsed_tickets(now, ticket_ms)
local stands = string.format('%013x', place) .. ticket
redis.call('ZREM', waiters, stands)
redis.call('ZREM', tickets, stands)
hint_room(now)
return {'ok'}
