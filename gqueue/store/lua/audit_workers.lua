--[[ Tell all that is kept of some workers, at one moment; change nothing.

  KEYS[1]  workers  zset  worker -> lease deadline, ms
  KEYS[2]  lapsed   zset  worker -> when it was fenced, ms
  KEYS[3]  calls    hash  worker -> number of its last call
  KEYS[4]  asked    hash  worker -> quiet | stop
  KEYS[5]  leases   hash  worker -> the lease it brought, ms
  KEYS[6]  meta     hash  lease
  ARGV[1]  now_ms   int   '': the server's TIME
  ARGV[2]  names    ...   1 .. 1000 workers

  Returns  {"ok", now, lease in force or false, {lease deadline, fenced at, call, asked, jobs held, lease brought}, ...};
           false: none
  Reads    running:WORKER
  Model    gqueue.core.audit.WorkerSeen
  Cost     O(workers)
]]
local workers, lapsed, calls, asked, leases, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local FIRST = 2
-- include: clock

local running = string.sub(workers, 1, -8) .. 'running:'
local reply = {'ok', whole(clock(ARGV[1])), redis.call('HGET', meta, 'lease')}
for i = FIRST, #ARGV do
  local worker = ARGV[i]
  reply[#reply + 1] = {
    redis.call('ZSCORE', workers, worker),
    redis.call('ZSCORE', lapsed, worker),
    redis.call('HGET', calls, worker),
    redis.call('HGET', asked, worker),
    worker == '' and 0 or redis.call('HLEN', running .. worker),
    redis.call('HGET', leases, worker),
  }
end
return reply
