--[[ Cancel a job that waits; note it of one that runs, for its worker's next heartbeat.

  KEYS[1]   jobs       hash  id -> sequence, rank, a space, record
  KEYS[2]   ready      zset  sequence .. id -> rank
  KEYS[3]   suspects   zset  sequence .. id -> rank
  KEYS[4]   scheduled  zset  id -> due time, ms
  KEYS[5]   attempts   hash  id -> failed attempts
  KEYS[6]   crashes    hash  id -> workers it lost
  KEYS[7]   cancels    hash  id -> when it was asked for
  KEYS[8]   progress   hash  id -> what the job reported
  KEYS[9]   dead:jobs  hash  id -> the letter
  KEYS[10]  awaited    zset  id -> until, ms
  KEYS[11]  waiters    zset  place .. ticket -> rank
  KEYS[12]  tickets    zset  place .. ticket -> live until, ms
  KEYS[13]  meta       hash  capacity
  KEYS[14]  stats      hash  totals
  ARGV[1]   now_ms  int  '': the server's TIME
  ARGV[2]   id      str  the job
  ARGV[3]   ttl_ms  int  how long the outcome is kept

  Returns  {"ok", cancelled | running | dead | unknown} | {"ok", "finished", outcome}
  Writes   result:ID, room:PRODUCER
  Model    gqueue.core.scheduling.cancel
  Cost     O(log n)
]]
local jobs, ready, suspects, scheduled, attempts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local crashes, cancels, progress, dead_jobs, awaited = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local waiters, tickets, meta, stats = KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local id, ttl_ms = ARGV[2], ARGV[3]
-- include: clock
-- include: entry
-- include: count
-- include: finish
-- include: room

local now = clock(ARGV[1])
local entry = redis.call('HGET', jobs, id)
if not entry then
  local outcome = redis.call('GET', root .. 'result:' .. id)
  if redis.call('HEXISTS', dead_jobs, id) == 1 then
    return {'ok', 'dead'}
  elseif outcome then
    return {'ok', 'finished', outcome}
  end
  return {'ok', 'unknown'}
end
local stands = head(entry) .. id
local waits = redis.call('ZSCORE', ready, stands) or redis.call('ZSCORE', suspects, stands)
if not (waits or redis.call('ZSCORE', scheduled, id)) then
  redis.call('HSETNX', cancels, id, whole(now))
  return {'ok', 'running'}
end
redis.call('ZREM', ready, '') -- needs no memory: a full Redis lets the writes after it pass
redis.call('HDEL', jobs, '\0') -- what is refused is refused now, and the job waits on
cancel_now(id, ttl_ms)
redis.call('ZREM', ready, stands)
redis.call('ZREM', suspects, stands)
redis.call('ZREM', scheduled, id)
count('cancelled', 1)
hint_room(now)
return {'ok', 'cancelled'}
