--[[ Give a job the one place it should have, and mend what is kept of it; do nothing if all is well.

  KEYS[1]   jobs       hash  id -> sequence, rank, a space, record
  KEYS[2]   ready      zset  sequence .. id -> rank
  KEYS[3]   suspects   zset  sequence .. id -> rank
  KEYS[4]   scheduled  zset  id -> due time, ms
  KEYS[5]   attempts   hash  id -> failed attempts
  KEYS[6]   crashes    hash  id -> workers it lost
  KEYS[7]   cancels    hash  id -> when it was asked for
  KEYS[8]   progress   hash  id -> what the job reported
  KEYS[9]   dead       zset  id -> died at, ms
  KEYS[10]  shed       zset  id -> died at, ms
  KEYS[11]  dead:jobs  hash  id -> the letter
  KEYS[12]  awaited    zset  id -> until, ms
  KEYS[13]  workers    zset  worker -> lease deadline, ms
  KEYS[14]  lapsed     zset  worker -> when it was fenced, ms
  KEYS[15]  wake       list  hints for workers
  KEYS[16]  meta       hash  paused
  KEYS[17]  stats      hash  totals
  ARGV[1]   now_ms         int  '': the server's TIME
  ARGV[2]   id             str  the job
  ARGV[3]   unreadable     str  SHA1 of its entry if nobody can read that, else ''
  ARGV[4]   max_crashes    int  >= 1
  ARGV[5]   result_ttl_ms  int  how long the outcome of a job that is buried here is kept
  ARGV[6]   others         int  how many workers follow that are neither registered nor lapsed
  ARGV[7]   names          ...  these workers; then members of ready and suspects that name the job

  Returns  {"ok", how many things were mended}
  Writes   result:ID, running:WORKER
  Model    gqueue.core.audit.places_of
  Cost     O(workers + names * log n)
]]
local jobs, ready, suspects, scheduled, attempts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local crashes, cancels, progress = KEYS[6], KEYS[7], KEYS[8]
local dead, shed, dead_jobs, awaited = KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local workers, lapsed, wake, meta, stats = KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local id, unreadable, max_crashes, result_ttl_ms = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local others = tonumber(ARGV[6])
local FIRST = 7
local LONGEST = 315360000000 -- core.retry.MAX_DELAY_MS: nothing is due, or has died, further ahead than that
local NO_LIMITS = {letters_max = 2 ^ 53, letters_ms = 2 ^ 53, shed_max = 2 ^ 53} -- no other letter makes room for it
local REPORT = '{"error":"its record cannot be read"}'
local OUTCOME = '{"state":"dead","reason":"bad_record","error":"its record cannot be read"}'
-- include: clock
-- include: entry
-- include: count
-- include: finish
-- include: bury
-- include: suspect
-- include: wake
-- include: audit

local now, mended = clock(ARGV[1]), 0
redis.call('ZREM', ready, '') -- needs no memory: a full Redis lets what takes none pass
know_workers({unpack(ARGV, FIRST, FIRST + others - 1)})
local entry, letter = redis.call('HGET', jobs, id), redis.call('HGET', dead_jobs, id)
local sequence, rank = head(entry or '')
local stands = sequence .. id

local function mend(changed)
  if changed > 0 then
    mended = mended + 1
  end
end

for i = FIRST + others, #ARGV do
  if string.sub(ARGV[i], 14) == id and not (entry and ARGV[i] == stands) then
    mend(redis.call('ZREM', ready, ARGV[i]) + redis.call('ZREM', suspects, ARGV[i]))
  end
end
for _, counters in ipairs({attempts, crashes}) do
  local text = redis.call('HGET', counters, id)
  if text and (counter(counters, id) == 0 and text ~= '0' or not string.match(text, '^%d+$')) then
    mend(redis.call('HDEL', counters, id))
  end
end

-- The order of places: gqueue.core.audit.places_of.
local function claimed_at(run)
  return tonumber(string.match(run[2], '^%d+ (%d+)$') or '0')
end

local PREFERENCE = {registered = 1, lapsed = 2, [''] = 3}
local runs = runs_of(id)
table.sort(runs, function(a, b)
  local first, second = PREFERENCE[a[3]], PREFERENCE[b[3]]
  if first ~= second then
    return first < second
  elseif claimed_at(a) ~= claimed_at(b) then
    return claimed_at(a) > claimed_at(b)
  end
  return a[1] < b[1]
end)

local function leave_waiting()
  return redis.call('ZREM', suspects, stands) + redis.call('ZREM', ready, stands) + redis.call('ZREM', scheduled, id)
end

local function list_letter()
  local reason, _, numbers = read_letter(letter)
  local died_at = whole(now)
  if reason == '' then
    reason = 'bad_record'
    redis.call('HSET', dead_jobs, id, string.format('bad_record 0 0 %s\n%s\n', died_at, REPORT) .. letter)
    mended = mended + 1
  else
    local failures, lost, written = string.match(numbers, '(%d+) (%d+) (%d+)')
    local late = tonumber(written) > now + LONGEST
    died_at = late and died_at or written
    if late or not (kept(failures) and kept(lost)) then
      local first = string.format('%s %s %s %s', reason, whole(kept(failures, 0)), whole(kept(lost, 0)), died_at)
      redis.call('HSET', dead_jobs, id, first .. string.sub(letter, (string.find(letter, '\n', 1, true))))
      mended = mended + 1
    end
  end
  local belongs, other = dead, shed
  if reason == 'shed' then
    belongs, other = shed, dead
  end
  mend(redis.call('ZADD', belongs, 'CH', died_at, id))
  mend(redis.call('ZREM', other, id))
end

local function mend_letter()
  if letter then
    list_letter()
  else
    mend(redis.call('ZREM', dead, id) + redis.call('ZREM', shed, id))
  end
end

if not entry then
  mend(redis.call('ZREM', scheduled, id))
  for _, run in ipairs(runs) do
    mend(redis.call('HDEL', running .. run[1], id))
  end
  for _, side in ipairs({attempts, crashes, cancels, progress}) do
    mend(redis.call('HDEL', side, id))
  end
  mend_letter()
  return {'ok', mended}
end

for _, run in ipairs(runs) do
  if not string.match(run[2], '^%d+ %d+$') then
    redis.call('HSET', running .. run[1], id, '0 ' .. whole(now))
    mended = mended + 1
  end
end
local in_hand = runs[1] and runs[1][3] ~= ''
if unreadable ~= '' and redis.sha1hex(entry) == unreadable then
  if in_hand then -- its worker settles it
    mend_letter()
    return {'ok', mended}
  end
  leave_waiting()
  for _, run in ipairs(runs) do
    redis.call('HDEL', running .. run[1], id)
  end
  mend_letter()
  if letter then -- it may be readable
    drop(id)
  else
    bury(id, 'bad_record', counter(attempts, id), REPORT, OUTCOME, result_ttl_ms, now, NO_LIMITS)
  end
  count('dead', 1)
  return {'ok', mended + 1}
end

for i = 2, #runs do
  mend(redis.call('HDEL', running .. runs[i][1], id))
end
if runs[1] then
  mend(leave_waiting())
else
  local kept
  for _, from in ipairs({{suspects, stands}, {ready, stands}, {scheduled, id}}) do
    local score = redis.call('ZSCORE', from[1], from[2])
    if score and kept then
      mend(redis.call('ZREM', from[1], from[2]))
    elseif score then
      kept = from[1]
      if kept ~= scheduled and tonumber(score) ~= tonumber(rank) then
        redis.call('ZADD', kept, rank, stands)
        mended = mended + 1
      elseif kept == scheduled and (tonumber(score) > now + LONGEST or tonumber(score) == -math.huge) then
        redis.call('ZADD', scheduled, whole(now), id)
        mended = mended + 1
        hint_workers()
      end
    end
  end
  if not kept then
    make_ready(id, sequence, rank, max_crashes)
    hint_workers()
    mended = mended + 1
  end
end
mend(redis.call('HDEL', dead_jobs, id) + redis.call('ZREM', dead, id) + redis.call('ZREM', shed, id))
return {'ok', mended}
