--[[ Forget dead letters.

  KEYS[1]  dead:jobs  hash  id -> the letter
  KEYS[2]  dead       zset  id -> died at, ms
  KEYS[3]  shed       zset  id -> died at, ms
  ARGV[1]  ids        ...   1 .. 1000 letters

  Returns  {"ok", how many there were}
  Model    gqueue.core.scheduling.delete_letters
  Cost     O(ids * log letters)
]]
local dead_jobs, dead, shed = KEYS[1], KEYS[2], KEYS[3]

redis.call('ZREM', dead, '') -- what is refused is refused now
local deleted = redis.call('HDEL', dead_jobs, unpack(ARGV))
redis.call('ZREM', dead, unpack(ARGV))
redis.call('ZREM', shed, unpack(ARGV))
return {'ok', deleted}
