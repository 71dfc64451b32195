--[[ Give a worker a lease. The longest that registered workers brought is in force for all of them.

  KEYS[1]  workers   zset  worker -> lease deadline, ms
  KEYS[2]  meta      hash  lease
  ARGV[1]  now_ms    int   '': the server's TIME
  ARGV[2]  worker    str   its id, new for every registration
  ARGV[3]  lease_ms  int   > 0

  Returns  {"ok"}
  Model    gqueue.core.scheduling.register
  Cost     O(log workers)
]]
local workers, meta = KEYS[1], KEYS[2]
local worker, lease = ARGV[2], tonumber(ARGV[3])
-- include: clock

local now = clock(ARGV[1])
redis.call('ZREM', workers, '') -- needs no memory: a full Redis lets the writes after it pass
if redis.call('EXISTS', workers) == 1 then
  lease = math.max(lease, lease_kept(redis.call('HGET', meta, 'lease'), 0))
end
redis.call('HSET', meta, 'lease', whole(lease))
redis.call('ZADD', workers, whole(now + lease), worker)
return {'ok'}
