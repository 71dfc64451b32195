--[[ Tell settings, counters and how many records there are, at one moment; change nothing.

  KEYS[1]  meta   hash  settings in force, numbers given
  KEYS[2]  stats  hash  totals
  KEYS[3]  jobs   hash  id -> sequence, rank, a space, record

  Returns  {"ok", {field, value, ...}, {counter, total, ...}, records}
  Model    gqueue.core.audit.TotalsSeen
  Cost     O(1)
]]
local meta, stats, jobs = KEYS[1], KEYS[2], KEYS[3]

return {'ok', redis.call('HGETALL', meta), redis.call('HGETALL', stats), redis.call('HLEN', jobs)}
