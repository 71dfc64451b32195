--[[ Mend what is kept of a worker: one that cannot go on is fenced, so that its jobs are taken back.

  KEYS[1]  workers   zset  worker -> lease deadline, ms
  KEYS[2]  lapsed    zset  worker -> when it was fenced, ms
  KEYS[3]  calls     hash  worker -> number of its last call
  KEYS[4]  asked     hash  worker -> quiet | stop
  KEYS[5]  leases    hash  worker -> the lease it brought, ms
  KEYS[6]  meta      hash  lease
  ARGV[1]  now_ms    int   '': the server's TIME
  ARGV[2]  worker    str   its id

  Returns  {"ok", how many things were mended}
  Reads    running:WORKER
  Model    gqueue.core.audit.judge_worker
  Cost     O(workers)
]]
local workers, lapsed, calls, asked, leases, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local worker = ARGV[2]
-- include: clock
-- include: agree

local now, mended = clock(ARGV[1]), 0
-- No worker is without a name; and it needs no memory: a full Redis lets the writes after it pass.
mended = redis.call('ZREM', workers, '') + redis.call('ZREM', lapsed, '')
local running = string.sub(workers, 1, -8) .. 'running:' .. worker
local deadline = redis.call('ZSCORE', workers, worker)
local call = redis.call('HGET', calls, worker)
if deadline and (redis.call('ZSCORE', lapsed, worker) or call and not string.match(call, '^%d+$')) then
  redis.call('ZREM', workers, worker)
  deadline, mended = false, mended + 1
  redis.call('ZADD', lapsed, 'NX', whole(now), worker)
end
if deadline then
  local brought = redis.call('HGET', leases, worker)
  if brought and (brought == '0' or lease_kept(brought, -1) < 0) then
    mended = mended + redis.call('HDEL', leases, worker)
  end
  local lease = tonumber(redis.call('HGET', meta, 'lease') or '')
  if lease and tonumber(deadline) > now + 2 * lease then
    redis.call('ZADD', workers, 'XX', whole(now + lease), worker)
    mended = mended + 1
  end
  return {'ok', mended}
end
for _, from in ipairs({calls, asked, leases}) do
  mended = mended + redis.call('HDEL', from, worker)
end
if worker ~= '' and redis.call('HLEN', running) > 0 then
  mended = mended + redis.call('ZADD', lapsed, 'NX', whole(now), worker)
end
agree(now, {})
return {'ok', mended}
