--[[ Let no more jobs be claimed.

  KEYS[1]  meta  hash  paused

  Returns  {"ok"}
  Model    gqueue.store.memory.MemoryStore.pause
  Cost     O(1)
]]
local meta = KEYS[1]

redis.call('HSET', meta, 'paused', '1')
return {'ok'}
