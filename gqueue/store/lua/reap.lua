--[[ Take jobs of a fenced worker back, place kept, one crash more; it leaves `lapsed` with the last of them.

  KEYS[1]   lapsed          zset  worker -> when it was fenced, ms
  KEYS[2]   running:WORKER  hash  id -> number of the call that claimed it, claimed at (ms)
  KEYS[3]   workers         zset  worker -> lease deadline, ms
  KEYS[4]   ready           zset  sequence .. id -> rank
  KEYS[5]   suspects        zset  sequence .. id -> rank
  KEYS[6]   jobs            hash  id -> sequence, rank, a space, record
  KEYS[7]   attempts        hash  id -> failed attempts
  KEYS[8]   crashes         hash  id -> workers it lost
  KEYS[9]   cancels         hash  id -> when it was asked for
  KEYS[10]  progress        hash  id -> what the job reported
  KEYS[11]  dead            zset  id -> died at, ms
  KEYS[12]  shed            zset  id -> died at, ms
  KEYS[13]  dead:jobs       hash  id -> the letter
  KEYS[14]  awaited         zset  id -> until, ms
  KEYS[15]  wake            list  hints for workers
  KEYS[16]  meta            hash  seen, lease, paused
  KEYS[17]  stats           hash  totals
  ARGV[1]   now_ms         int  '': the server's TIME
  ARGV[2]   worker         str  its id
  ARGV[3]   limit          int  1 .. 1000 jobs a call
  ARGV[4]   lease_ms       int  if none is in force
  ARGV[5]   max_crashes    int  >= 1
  ARGV[6]   letters_max    int  dead letters kept
  ARGV[7]   letters_ms     int  for so long
  ARGV[8]   shed_max       int  shed ones kept
  ARGV[9]   result_ttl_ms  int  how long the outcome of a job that is buried or cancelled here is kept

  Returns  {"ok", ready, suspect, {buried id, ...}, cancelled, left} | {"not_lapsed"}
  Writes   result:ID
  Model    gqueue.core.scheduling.reap
  Cost     O(held * log held + limit * log n)
]]
local lapsed, running, workers, ready, suspects = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local jobs, attempts, crashes, cancels, progress = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local dead, shed, dead_jobs, awaited = KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local wake, meta, stats = KEYS[15], KEYS[16], KEYS[17]
local worker, limit, lease_ms, max_crashes = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local limits = {letters_max = tonumber(ARGV[6]), letters_ms = tonumber(ARGV[7]), shed_max = tonumber(ARGV[8])}
local result_ttl_ms = ARGV[9]
local LOST_REPORT = '{"error":"its workers were lost while they ran it"}'
local LOST_OUTCOME = '{"state":"dead","reason":"worker_lost","error":"its workers were lost while they ran it"}'
-- include: clock
-- include: entry
-- include: first
-- include: touch
-- include: suspect
-- include: count
-- include: finish
-- include: bury
-- include: wake

if not redis.call('ZSCORE', lapsed, worker) then
  return {'not_lapsed'}
end
local now = clock(ARGV[1])
redis.call('ZREM', ready, '') -- needs no memory: a full Redis lets the writes after it pass
touch(now, lease_ms)
redis.call('HDEL', running, '\0') -- what is refused is refused now: no crash is counted twice
redis.call('ZADD', lapsed, 'XX', 0, '')
local went_ready, went_suspect, buried, cancelled = 0, 0, {}, 0
for _, id in ipairs(within_bytes(first(redis.call('HKEYS', running), limit))) do
  local entry = redis.call('HGET', jobs, id)
  if not entry then
    drop(id)
  elseif redis.call('HEXISTS', cancels, id) == 1 then
    cancel_now(id, result_ttl_ms)
    cancelled = cancelled + 1
  else
    local lost = counter(crashes, id) + 1
    if lost >= max_crashes then
      save(id, LOST_OUTCOME, result_ttl_ms)
    end
    redis.call('HDEL', progress, id)
    redis.call('HSET', crashes, id, whole(lost))
    if lost >= max_crashes then
      bury(id, 'worker_lost', counter(attempts, id), LOST_REPORT, '', '0', now, limits)
      buried[#buried + 1] = id
    else
      local sequence, rank = head(entry)
      if make_ready(id, sequence, rank, max_crashes) == ready then
        went_ready = went_ready + 1
      else
        went_suspect = went_suspect + 1
      end
    end
  end
  redis.call('HDEL', running, id) -- last: if Redis refuses the others, it is still to be taken back
end
count('crashed', went_ready + went_suspect + #buried + cancelled)
count('dead', #buried)
count('cancelled', cancelled)
if went_ready + went_suspect > 0 then
  hint_workers()
end
local left = redis.call('HLEN', running)
if left == 0 then
  redis.call('ZREM', lapsed, worker)
end
return {'ok', went_ready, went_suspect, buried, cancelled, left}
