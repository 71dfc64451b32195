--[[ Renew a worker's lease; tell it what to cancel, what is asked of it, and how many jobs it holds.

  KEYS[1]  workers         zset  worker -> lease deadline, ms
  KEYS[2]  running:WORKER  hash  id -> number of the call that claimed it, claimed at (ms)
  KEYS[3]  cancels         hash  id -> when it was asked for
  KEYS[4]  asked           hash  worker -> quiet | stop
  KEYS[5]  meta            hash  seen, lease
  ARGV[1]  now_ms          int   '': the server's TIME
  ARGV[2]  worker          str   its id
  ARGV[3]  lease_ms        int   if none is in force

  Returns  {"ok", held, asked or "", {cancels, sorted}} | {"lease_lost"}
  Model    gqueue.core.scheduling.heartbeat
  Cost     O(cancels + log workers)
]]
local workers, running, cancels, asked, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local worker, lease_ms = ARGV[2], ARGV[3]
-- include: clock
-- include: touch

if not redis.call('ZSCORE', workers, worker) then
  return {'lease_lost'}
end
local now = clock(ARGV[1])
redis.call('ZREM', workers, '') -- needs no memory: a full Redis lets the writes after it pass
redis.call('ZADD', workers, 'XX', whole(now + touch(now, lease_ms)), worker)
local mine = {}
for _, id in ipairs(redis.call('HKEYS', cancels)) do
  if redis.call('HEXISTS', running, id) == 1 then
    mine[#mine + 1] = id
  end
end
table.sort(mine)
return {'ok', redis.call('HLEN', running), redis.call('HGET', asked, worker) or '', mine}
