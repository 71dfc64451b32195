--[[ Put dead letters back to ready, place kept, attempts and crashes forgotten, as many as there is room for.

  KEYS[1]  dead:jobs  hash  id -> the letter
  KEYS[2]  dead       zset  id -> died at, ms
  KEYS[3]  shed       zset  id -> died at, ms
  KEYS[4]  jobs       hash  id -> sequence, rank, a space, record
  KEYS[5]  ready      zset  sequence .. id -> rank
  KEYS[6]  suspects   zset  sequence .. id -> rank
  KEYS[7]  scheduled  zset  id -> due time, ms
  KEYS[8]  wake       list  hints for workers
  KEYS[9]  meta       hash  capacity, paused
  KEYS[10] stats      hash  totals
  ARGV[1]  force      int   0 .. 1; 1: pass the capacity
  ARGV[2]  ids        ...   1 .. 1000 letters

  Returns  {"ok", {ids that went back}}
  Writes   result:ID
  Model    gqueue.core.scheduling.redrive
  Cost     O(ids * log n)
]]
local dead_jobs, dead, shed, jobs, ready = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local suspects, scheduled, wake, meta, stats = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local force = ARGV[1] == '1'
local FIRST = 2
-- include: clock
-- include: entry
-- include: count
-- include: wake

local known = redis.call('HMGET', meta, 'capacity_set', 'capacity')
local capacity = kept(known[1], kept(known[2], 0))
local depth = redis.call('ZCARD', ready) + redis.call('ZCARD', suspects) + redis.call('ZCARD', scheduled)
local prefix, went = string.sub(jobs, 1, -5) .. 'result:', {}
for i = FIRST, #ARGV do
  local id = ARGV[i]
  local letter = redis.call('HGET', dead_jobs, id)
  if letter then
    if not force and capacity > 0 and depth >= capacity then
      break
    end
    local _, ends = string.find(letter, '^[^\n]*\n[^\n]*\n')
    local entry = string.sub(letter, (ends or 0) + 1)
    local sequence, rank = head(entry)
    redis.call('ZADD', ready, rank, sequence .. id) -- first: a full Redis refuses it, and the letter stays
    redis.call('HDEL', dead_jobs, '\0') -- what is refused is refused before there is a record: who claims drops the rest
    redis.call('ZREM', dead, '')
    redis.call('UNLINK', prefix .. id)
    redis.call('HSET', jobs, id, entry)
    redis.call('HDEL', dead_jobs, id)
    redis.call('ZREM', dead, id)
    redis.call('ZREM', shed, id)
    went[#went + 1] = id
    depth = depth + 1
  end
end
count('redriven', #went)
if #went > 0 then
  hint_workers()
end
return {'ok', went}
