--[[ Put an operator's capacity in force over what producers bring, or take it back; hint whom new room reaches.

  KEYS[1]  meta       hash  capacity_set
  KEYS[2]  ready      zset  sequence .. id -> rank
  KEYS[3]  suspects   zset  sequence .. id -> rank
  KEYS[4]  scheduled  zset  id -> due time, ms
  KEYS[5]  waiters    zset  place .. ticket -> rank
  KEYS[6]  tickets    zset  place .. ticket -> live until, ms
  ARGV[1]  now_ms     int   '': the server's TIME
  ARGV[2]  brings     int   >= 1, or '': theirs again

  Returns  {"ok"}
  Writes   room:PRODUCER
  Model    gqueue.store.memory.MemoryStore.set_capacity
  Cost     O(1)
]]
local meta, ready, suspects, scheduled, waiters, tickets = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
-- include: clock
-- include: room

if ARGV[2] == '' then
  redis.call('HDEL', meta, 'capacity_set')
else
  redis.call('HSET', meta, 'capacity_set', ARGV[2])
end
hint_room(clock(ARGV[1]))
return {'ok'}
