--[[ Give a worker a lease. The longest that registered workers brought is in force for all of them.

  KEYS[1]  workers   zset  worker -> lease deadline, ms
  KEYS[2]  leases    hash  worker -> the lease it brought, ms
  KEYS[3]  meta      hash  lease
  ARGV[1]  now_ms    int   '': the server's TIME
  ARGV[2]  worker    str   its id, new for every registration
  ARGV[3]  lease_ms  int   > 0

  Returns  {"ok"}
  Model    gqueue.core.scheduling.register
  Cost     O(workers)
]]
local workers, leases, meta = KEYS[1], KEYS[2], KEYS[3]
local worker, lease = ARGV[2], tonumber(ARGV[3])
-- include: clock
-- include: agree

local now = clock(ARGV[1])
redis.call('ZREM', workers, '') -- needs no memory: a full Redis lets the writes after it pass
redis.call('HSET', leases, worker, whole(lease))
redis.call('ZADD', workers, whole(now), worker)
redis.call('ZADD', workers, whole(now + agree(now, {})), worker)
return {'ok'}
