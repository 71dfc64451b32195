--[[ List the registered workers and how much lease each has left.

  KEYS[1]  workers  zset  worker -> lease deadline, ms
  ARGV[1]  now_ms   int   '': the server's TIME

  Returns  {"ok", {worker, ms left, ...}}; negative: about to be fenced
  Model    gqueue.store.memory.MemoryStore.workers
  Cost     O(workers)
]]
local workers = KEYS[1]
-- include: clock

local now, all = clock(ARGV[1]), redis.call('ZRANGE', workers, 0, -1, 'WITHSCORES')
for i = 2, #all, 2 do
  all[i] = whole(math.ceil(tonumber(all[i])) - now) -- a part of a ms may be missing: _touch.lua
end
return {'ok', all}
