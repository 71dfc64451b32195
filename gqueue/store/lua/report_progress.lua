--[[ Keep what a running job reports of itself.

  KEYS[1]  workers         zset  worker -> lease deadline, ms
  KEYS[2]  running:WORKER  hash  id -> number of the call that claimed it, claimed at (ms)
  KEYS[3]  progress        hash  id -> what the job reported
  ARGV[1]  worker          str   its id
  ARGV[2]  id              str   the job
  ARGV[3]  report          str   JSON

  Returns  {"ok", 1 if the worker holds the job, else 0}
  Model    gqueue.core.scheduling.report_progress
  Cost     O(1)
]]
local workers, running, progress = KEYS[1], KEYS[2], KEYS[3]
local worker, id, report = ARGV[1], ARGV[2], ARGV[3]

if not redis.call('ZSCORE', workers, worker) or redis.call('HEXISTS', running, id) == 0 then
  return {'ok', 0}
end
redis.call('HSET', progress, id, report)
return {'ok', 1}
