--[[ Drop waiting jobs, worst first: of the ready, then of the suspects, then the scheduled that are due last.

  KEYS[1]   ready      zset  sequence .. id -> rank
  KEYS[2]   suspects   zset  sequence .. id -> rank
  KEYS[3]   scheduled  zset  id -> due time, ms
  KEYS[4]   jobs       hash  id -> sequence, rank, a space, record
  KEYS[5]   attempts   hash  id -> failed attempts
  KEYS[6]   crashes    hash  id -> workers it lost
  KEYS[7]   cancels    hash  id -> when it was asked for
  KEYS[8]   progress   hash  id -> what the job reported
  KEYS[9]   awaited    zset  id -> until, ms
  KEYS[10]  waiters    zset  place .. ticket -> rank
  KEYS[11]  tickets    zset  place .. ticket -> live until, ms
  KEYS[12]  meta       hash  capacity
  KEYS[13]  stats      hash  totals
  ARGV[1]   now_ms  int  '': the server's TIME
  ARGV[2]   limit   int  1 .. 1000 jobs a call

  Returns  {"ok", how many wait still}
  Writes   room:PRODUCER
  Model    gqueue.core.scheduling.purge
  Cost     O(limit * log n)
]]
local ready, suspects, scheduled, jobs, attempts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local crashes, cancels, progress, awaited = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local waiters, tickets, meta, stats = KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local limit = tonumber(ARGV[2])
-- include: clock
-- include: count
-- include: finish
-- include: room

local now, purged = clock(ARGV[1]), 0
redis.call('ZREM', ready, '') -- what is refused is refused now
for _, from in ipairs({{ready, 14}, {suspects, 14}, {scheduled, 1}}) do
  if limit > purged then
    for _, member in ipairs(redis.call('ZREVRANGE', from[1], 0, limit - purged - 1)) do
      local id = string.sub(member, from[2])
      drop(id)
      redis.call('ZREM', from[1], member)
      tell(id)
      purged = purged + 1
    end
  end
end
count('purged', purged)
hint_room(now)
return {'ok', depth()}
