--[[ Fence the workers whose lease is over: all later calls of theirs are refused. Their jobs are taken back by reap.
     Forget who waited for an outcome and no longer does: while anyone is noted, settle_and_claim does more.

  KEYS[1]  workers   zset  worker -> lease deadline, ms
  KEYS[2]  lapsed    zset  worker -> when it was fenced, ms
  KEYS[3]  calls     hash  worker -> number of its last call
  KEYS[4]  asked     hash  worker -> quiet | stop
  KEYS[5]  leases    hash  worker -> the lease it brought, ms; of any type
  KEYS[6]  awaited   zset  id -> until, ms; of any type: no damage of these two stops a take-over
  KEYS[7]  meta      hash  seen, lease
  ARGV[1]  now_ms    int   '': the server's TIME
  ARGV[2]  lease_ms  int   if none is in force

  Returns  {"ok", {all lapsed workers, sorted, at most 1,000}}
  Model    gqueue.core.scheduling.fence
  Cost     O((workers over + awaited over) * log n), and O(workers) if there are such workers
]]
local workers, lapsed, calls, asked = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leases, awaited, meta = KEYS[5], KEYS[6], KEYS[7]
local lease_ms = ARGV[2]
-- include: clock
-- include: first
-- include: touch
-- include: agree

local now = clock(ARGV[1])
redis.call('ZREM', workers, '') -- needs no memory: a full Redis lets the writes after it pass
redis.call('ZREM', lapsed, '') -- no worker, but damage: it has no key of jobs, so nobody could take it out by reap
touch(now, lease_ms)
redis.pcall('ZREMRANGEBYSCORE', awaited, '-inf', whole(now))
local over = redis.call('ZRANGEBYSCORE', workers, '-inf', whole(now), 'LIMIT', 0, 1000)
local gone = {}
for _, worker in ipairs(over) do
  gone[worker] = true
end
if #over > 0 then
  agree(now, gone)
end
for _, worker in ipairs(over) do
  redis.call('ZADD', lapsed, whole(now), worker) -- first: nobody would take back the jobs of one that stands nowhere
  redis.call('ZREM', workers, worker)
  redis.call('HDEL', calls, worker)
  redis.call('HDEL', asked, worker)
end
return {'ok', first(redis.call('ZRANGE', lapsed, 0, -1), 1000)}
