--[[ Rank a waiting job anew; its sequence stays.

  KEYS[1]  jobs       hash   id -> sequence, rank, a space, record
  KEYS[2]  ready      zset   sequence .. id -> rank
  KEYS[3]  suspects   zset   sequence .. id -> rank
  KEYS[4]  scheduled  zset   id -> due time, ms
  KEYS[5]  dead:jobs  hash   id -> the letter
  KEYS[6]  meta       hash   epoch
  ARGV[1]  now_ms     int    '': the server's TIME
  ARGV[2]  id         str    the job
  ARGV[3]  priority   float  finite
  ARGV[4]  aging      float  rank added for each second since the epoch

  Returns  {"ok", ready | scheduled | running | dead | unknown} | {"ok", "finished", outcome}
  Reads    result:ID
  Model    gqueue.core.scheduling.set_priority
  Cost     O(log n)
]]
local jobs, ready, suspects, scheduled, dead_jobs, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, rank, aging = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
-- include: clock
-- include: entry

local now = clock(ARGV[1])
local entry = redis.call('HGET', jobs, id)
if not entry then
  local outcome = redis.call('GET', string.sub(jobs, 1, -5) .. 'result:' .. id)
  if redis.call('HEXISTS', dead_jobs, id) == 1 then
    return {'ok', 'dead'}
  elseif outcome then
    return {'ok', 'finished', outcome}
  end
  return {'ok', 'unknown'}
end
if aging ~= 0 then
  rank = rank + aging * ((now - kept(redis.call('HGET', meta, 'epoch'), 0)) / 1000)
end
local sequence, old_rank = head(entry)
local stands, score = sequence .. id, string.format('%.17g', rank)
local state, among = 'running', nil
if redis.call('ZSCORE', ready, stands) then
  state, among = 'ready', ready
elseif redis.call('ZSCORE', suspects, stands) then
  state, among = 'ready', suspects
elseif redis.call('ZSCORE', scheduled, id) then
  state = 'scheduled'
end
if among then
  redis.call('ZADD', among, 'XX', 0, '') -- what is refused is refused now
end
if state ~= 'running' then
  redis.call('HSET', jobs, id, sequence .. score .. string.sub(entry, 14 + #old_rank))
end
if among then
  redis.call('ZADD', among, score, stands)
end
return {'ok', state}
