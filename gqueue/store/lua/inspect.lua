--[[ Read waiting jobs in their order, suspects after the ready ones.

  KEYS[1]  ready      zset  sequence .. id -> rank
  KEYS[2]  suspects   zset  sequence .. id -> rank
  KEYS[3]  scheduled  zset  id -> due time, ms
  KEYS[4]  jobs       hash  id -> sequence, rank, a space, record
  ARGV[1]  state      str   ready | scheduled
  ARGV[2]  offset     int   >= 0
  ARGV[3]  limit      int   0 .. 1000

  Returns  {"ok", {id, rank or due time, entry, ...}}
  Model    gqueue.store.memory.MemoryStore.inspect
  Cost     O(limit + log n)
]]
local ready, suspects, scheduled, jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local state, offset, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local reply = {}
local function tell(from, id_at, skip, most)
  local all = most > 0 and redis.call('ZRANGE', from, skip, skip + most - 1, 'WITHSCORES') or {}
  for i = 1, #all, 2 do
    local id = string.sub(all[i], id_at)
    reply[#reply + 1] = id
    reply[#reply + 1] = all[i + 1]
    reply[#reply + 1] = redis.call('HGET', jobs, id) or ''
  end
  return #all / 2
end

if state == 'scheduled' then
  tell(scheduled, 1, offset, limit)
else
  local told = tell(ready, 14, offset, limit)
  tell(suspects, 14, math.max(0, offset - redis.call('ZCARD', ready)), limit - told)
end
return {'ok', reply}
