--[[ Count everything.

  KEYS[1]   ready      zset  sequence .. id -> rank
  KEYS[2]   suspects   zset  sequence .. id -> rank
  KEYS[3]   scheduled  zset  id -> due time, ms
  KEYS[4]   jobs       hash  id -> sequence, rank, a space, record
  KEYS[5]   dead       zset  id -> died at, ms
  KEYS[6]   shed       zset  id -> died at, ms
  KEYS[7]   tickets    zset  place .. ticket -> live until, ms
  KEYS[8]   workers    zset  worker -> lease deadline, ms
  KEYS[9]   lapsed     zset  worker -> when it was fenced, ms
  KEYS[10]  meta       hash  capacity, paused
  KEYS[11]  stats      hash  totals
  ARGV[1]   now_ms  int  '': the server's TIME

  Returns  {"ok", ready, suspects, scheduled, jobs, dead, shed, waiters, workers, lapsed, capacity, paused, {totals}}
  Model    gqueue.core.scheduling.stats
  Cost     O(log n)
]]
local ready, suspects, scheduled, jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, shed, tickets, workers, lapsed = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local meta, stats = KEYS[10], KEYS[11]
-- include: clock

local known = redis.call('HMGET', meta, 'capacity_set', 'capacity', 'paused')
return {
  'ok',
  redis.call('ZCARD', ready),
  redis.call('ZCARD', suspects),
  redis.call('ZCARD', scheduled),
  redis.call('HLEN', jobs),
  redis.call('ZCARD', dead),
  redis.call('ZCARD', shed),
  redis.call('ZCOUNT', tickets, '(' .. whole(clock(ARGV[1])), '+inf'),
  redis.call('ZCARD', workers),
  redis.call('ZCARD', lapsed),
  whole(kept(known[1], kept(known[2], 0))),
  known[3] == '1' and 1 or 0,
  redis.call('HGETALL', stats),
}
