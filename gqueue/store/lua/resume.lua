--[[ Let jobs be claimed again, and hint the workers.

  KEYS[1]  meta  hash  paused
  KEYS[2]  wake  list  hints for workers

  Returns  {"ok"}
  Model    gqueue.store.memory.MemoryStore.resume
  Cost     O(1)
]]
local meta, wake = KEYS[1], KEYS[2]
-- include: wake

redis.call('HDEL', meta, 'paused')
hint_workers()
return {'ok'}
