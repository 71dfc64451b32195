--[[ Note that someone waits for the outcomes of jobs; name those that neither wait nor run any more.

  KEYS[1]  awaited     zset  id -> until, ms
  KEYS[2]  jobs        hash  id -> sequence, rank, a space, record
  ARGV[1]  now_ms      int   '': the server's TIME
  ARGV[2]  awaited_ms  int   > 0: how long the note lives
  ARGV[3]  ids         ...   1 .. 1000 jobs

  Returns  {"ok", {ids that are done, or unknown}}
  Model    gqueue.core.scheduling.await_done
  Cost     O(ids * log awaited)
]]
local awaited, jobs = KEYS[1], KEYS[2]
local awaited_ms = tonumber(ARGV[2])
local FIRST = 3
-- include: clock

local now = clock(ARGV[1])
redis.call('ZREMRANGEBYSCORE', awaited, '-inf', whole(now))
local done = {}
for i = FIRST, #ARGV do
  redis.call('ZADD', awaited, whole(now + awaited_ms), ARGV[i])
  if redis.call('HEXISTS', jobs, ARGV[i]) == 0 then
    done[#done + 1] = ARGV[i]
  end
end
return {'ok', done}
