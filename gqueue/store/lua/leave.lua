--[[ Give jobs of a worker back, place kept and no attempt used; deregister it with the last of them.

  KEYS[1]   workers         zset  worker -> lease deadline, ms
  KEYS[2]   lapsed          zset  worker -> when it was fenced, ms
  KEYS[3]   calls           hash  worker -> number of its last call
  KEYS[4]   asked           hash  worker -> quiet | stop
  KEYS[5]   running:WORKER  hash  id -> number of the call that claimed it, claimed at (ms)
  KEYS[6]   ready           zset  sequence .. id -> rank
  KEYS[7]   suspects        zset  sequence .. id -> rank
  KEYS[8]   jobs            hash  id -> sequence, rank, a space, record
  KEYS[9]   attempts        hash  id -> failed attempts
  KEYS[10]  crashes         hash  id -> workers it lost
  KEYS[11]  cancels         hash  id -> when it was asked for
  KEYS[12]  progress        hash  id -> what the job reported
  KEYS[13]  awaited         zset  id -> until, ms
  KEYS[14]  wake            list  hints for workers
  KEYS[15]  leases          hash  worker -> the lease it brought, ms; of any type
  KEYS[16]  meta            hash  lease, paused
  KEYS[17]  stats           hash  totals
  ARGV[1]   now_ms         int  '': the server's TIME
  ARGV[2]   worker         str  its id
  ARGV[3]   limit          int  1 .. 1000 jobs a call
  ARGV[4]   max_crashes    int  >= 1
  ARGV[5]   result_ttl_ms  int  how long the outcome of a job that is cancelled here is kept

  Returns  {"ok", left} | {"lease_lost"}
  Writes   result:ID
  Model    gqueue.core.scheduling.leave
  Cost     O(held * log held + limit * log n), and O(workers) at the end
]]
local workers, lapsed, calls, asked, running = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ready, suspects, jobs, attempts, crashes = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local cancels, progress, awaited = KEYS[11], KEYS[12], KEYS[13]
local wake, leases, meta, stats = KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local worker, limit, max_crashes, result_ttl_ms = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
-- include: clock
-- include: agree
-- include: entry
-- include: first
-- include: suspect
-- include: count
-- include: finish
-- include: wake

if redis.call('ZSCORE', lapsed, worker) then
  return {'lease_lost'}
end
if not redis.call('ZSCORE', workers, worker) then
  return {'ok', 0}
end
redis.call('HDEL', running, '\0') -- needs no memory: a full Redis lets the writes after it pass
local given_back, cancelled = 0, 0
for _, id in ipairs(within_bytes(first(redis.call('HKEYS', running), limit))) do
  local entry = redis.call('HGET', jobs, id)
  if not entry then
    drop(id)
  elseif redis.call('HEXISTS', cancels, id) == 1 then
    cancel_now(id, result_ttl_ms)
    cancelled = cancelled + 1
  else
    redis.call('HDEL', progress, id)
    local sequence, rank = head(entry)
    make_ready(id, sequence, rank, max_crashes)
    given_back = given_back + 1
  end
  redis.call('HDEL', running, id) -- last: if Redis refuses the others, the worker holds it still
end
count('given_back', given_back)
count('cancelled', cancelled)
if given_back > 0 then
  hint_workers()
end
local left = redis.call('HLEN', running)
if left == 0 then
  agree(clock(ARGV[1]), {[worker] = true})
  redis.call('ZREM', workers, worker)
  redis.call('HDEL', calls, worker)
  redis.call('HDEL', asked, worker)
end
return {'ok', left}
