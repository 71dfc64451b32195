--[[ Note what an operator asks of a worker; its heartbeats tell it.

  KEYS[1]  workers  zset  worker -> lease deadline, ms
  KEYS[2]  asked    hash  worker -> quiet | stop
  ARGV[1]  worker   str   its id
  ARGV[2]  what     str   quiet | stop

  Returns  {"ok", 1 if there is such a worker, else 0}
  Model    gqueue.core.scheduling.ask
  Cost     O(1)
]]
local workers, asked = KEYS[1], KEYS[2]
local worker, what = ARGV[1], ARGV[2]

if not redis.call('ZSCORE', workers, worker) then
  return {'ok', 0}
end
redis.call('HSET', asked, worker, what)
return {'ok', 1}
