--[[ Record what ended, promote what is due, claim what comes next: the heart, one round trip.

  KEYS[1]   workers         zset  worker -> lease deadline, ms
  KEYS[2]   calls           hash  worker -> number of its last call
  KEYS[3]   running:WORKER  hash  id -> number of the call that claimed it, claimed at (ms)
  KEYS[4]   ready           zset  sequence .. id -> rank
  KEYS[5]   suspects        zset  sequence .. id -> rank
  KEYS[6]   scheduled       zset  id -> due time, ms
  KEYS[7]   jobs            hash  id -> sequence, rank, a space, record
  KEYS[8]   attempts        hash  id -> failed attempts
  KEYS[9]   crashes         hash  id -> workers it lost
  KEYS[10]  cancels         hash  id -> when it was asked for
  KEYS[11]  progress        hash  id -> what the job reported
  KEYS[12]  dead            zset  id -> died at, ms
  KEYS[13]  shed            zset  id -> died at, ms
  KEYS[14]  dead:jobs       hash  id -> the letter
  KEYS[15]  awaited         zset  id -> until, ms
  KEYS[16]  waiters         zset  place .. ticket -> rank
  KEYS[17]  tickets         zset  place .. ticket -> live until, ms
  KEYS[18]  wake            list  hints for workers
  KEYS[19]  meta            hash  seen, lease, paused, largest
  KEYS[20]  stats           hash  totals
  ARGV[1]   now_ms       int  '': the server's TIME
  ARGV[2]   worker       str  its id
  ARGV[3]   call         int  last + 1: applied; last, last - 1: answered again
  ARGV[4]   limit        int  0 .. 1000 jobs to claim
  ARGV[5]   lease_ms     int  if none is in force
  ARGV[6]   max_crashes  int  >= 1
  ARGV[7]   letters_max  int  dead letters kept
  ARGV[8]   letters_ms   int  for so long
  ARGV[9]   shed_max     int  shed ones kept
  ARGV[10]  done         int  how many ids follow: 0 .. 1000
  ARGV[11]  ended        ...  ids of jobs that succeeded without a result; then 7 each of the others: id, move,
                              delay_ms, reason, report, outcome, ttl_ms; 0 .. 1000 of them

  Returns  {"ok", left, due_in_ms or "", {skipped}, {id, entry, ...}, {failures}, {crashes}}
           | {"lease_lost"} | {"stale_call"}; failures and crashes are empty if all are 0
  Writes   result:ID, room:PRODUCER
  Model    gqueue.core.scheduling.settle_and_claim
  Cost     O((ended + due + limit) * log n)
]]
local workers, calls, running, ready, suspects = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local scheduled, jobs, attempts, crashes, cancels = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local progress, dead, shed, dead_jobs, awaited = KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local waiters, tickets, wake, meta, stats = KEYS[16], KEYS[17], KEYS[18], KEYS[19], KEYS[20]
local worker, call, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease_ms, max_crashes = ARGV[5], tonumber(ARGV[6])
local limits = {letters_max = tonumber(ARGV[7]), letters_ms = tonumber(ARGV[8]), shed_max = tonumber(ARGV[9])}
local done = tonumber(ARGV[10])
local FIRST, FIELDS = 11, 7
-- Redis looks through a hash of up to 512 short fields one by one. A longer value, though another is written over it,
-- makes a table of it until it is empty; a few claims do not pay for it, and where they come few Redis is not busy.
local FEW, LONG = 32, string.rep('.', 65)
local MOVES = {succeed = true, retry = true, bury = true, cancel = true}
-- include: clock
-- include: entry
-- include: touch
-- include: suspect
-- include: count
-- include: finish
-- include: bury
-- include: room
-- include: wake

if not redis.call('ZSCORE', workers, worker) then
  return {'lease_lost'}
end
local others = (#ARGV - FIRST + 1 - done) / FIELDS
if others < 0 or others > MOVE_LIMIT or others ~= math.floor(others) then
  return refuse('the number of what ended')
end
for at = FIRST + done, #ARGV, FIELDS do
  local move, delay_ms, ttl_ms = ARGV[at + 1], ARGV[at + 2], ARGV[at + 6]
  if not MOVES[move] then
    return refuse('the move of a job')
  elseif not whole_from(0, 2 ^ 53, ttl_ms) or (move == 'retry' and not whole_from(0, 2 ^ 53, delay_ms)) then
    return refuse('the delay_ms or ttl_ms of a job')
  elseif move == 'bury' and (string.find(ARGV[at + 3], '[^%l_]') or string.find(ARGV[at + 4], '\n', 1, true)) then
    return refuse('the reason or report of a job') -- they would be read as other parts of the letter
  end
end
local last = kept(redis.call('HGET', calls, worker), 0)
if call < last - 1 or call > last + 1 then
  return {'stale_call'}
end
local now = clock(ARGV[1])
local known = redis.call('HMGET', meta, 'seen', 'lease', 'paused', 'largest')
local paused = known[3] == '1'
redis.call('HDEL', running, '\0') -- needs no memory: a full Redis lets the writes after it pass; what is refused is now
redis.call('ZADD', workers, 'XX', whole(now + touch(now, lease_ms, known)), worker)

-- Most batches are successes of jobs of which nothing is kept elsewhere, and only ready jobs wait: then these are 0.
local sparse, aside, ready_left = 1, 1, nil

local function holds_suspect()
  if redis.call('EXISTS', crashes) == 0 then
    return false
  end
  for _, id in ipairs(redis.call('HKEYS', running)) do
    if is_suspect(id, max_crashes) then
      return true
    end
  end
  return false
end

local function answer(ids, entries, skipped)
  local left = 'nothing'
  if paused then
    left = 'paused'
  elseif ready_left or (ready_left == nil and redis.call('EXISTS', ready) == 1) then
    left = 'more'
  elseif aside > 0 and redis.call('EXISTS', suspects) == 1 and not holds_suspect() then
    left = 'more'
  end
  if left == 'more' then
    hint_workers()
  end
  local due = aside > 0 and redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]
  local claimed, failures, lost = {}, {}, {}
  for i, id in ipairs(ids) do
    claimed[2 * i - 1], claimed[2 * i] = id, entries[i]
  end
  if #ids > 0 and sparse > 0 and redis.call('EXISTS', attempts) == 1 then
    failures = redis.call('HMGET', attempts, unpack(ids))
  end
  if #ids > 0 and sparse > 0 and redis.call('EXISTS', crashes) == 1 then
    lost = redis.call('HMGET', crashes, unpack(ids))
  end
  local due_in_ms = tonumber(due or 'inf') < 2 ^ 53 and whole(math.max(0, tonumber(due) - now)) or ''
  return {'ok', left, due_in_ms, skipped, claimed, failures, lost}
end

if call <= last then
  local again = {}
  local all = redis.call('HGETALL', running)
  for i = 1, #all, 2 do
    if string.match(all[i + 1], '^%d+') == ARGV[3] then
      local entry = redis.call('HGET', jobs, all[i])
      if entry then
        local sequence, rank = head(entry)
        again[#again + 1] = {all[i], entry, tonumber(rank), sequence}
      end
    end
  end
  table.sort(again, function(a, b)
    return a[3] < b[3] or (a[3] == b[3] and a[4] < b[4])
  end)
  local ids, entries = {}, {}
  for i, job in ipairs(again) do
    ids[i], entries[i] = job[1], job[2]
  end
  return answer(ids, entries, {})
end

local named, mine, finished, skipped = {unpack(ARGV, FIRST, FIRST + done - 1)}, {}, {}, {}
local succeeded, retried, cancelled, died = 0, 0, 0, 0
for at = FIRST + done, #ARGV, FIELDS do
  named[#named + 1] = ARGV[at]
end
sparse = redis.call('EXISTS', attempts, crashes, cancels, progress, awaited)
if #named > 0 then
  local held = redis.call('HMGET', running, unpack(named))
  for i, id in ipairs(named) do
    if held[i] and not mine[id] then
      mine[#mine + 1] = id
      mine[id] = i
    else
      skipped[#skipped + 1] = id
    end
  end
end

-- First the outcomes, which Redis may refuse for want of a right: then nothing is settled, and the call is sent again.
-- What comes behind them takes commands alone that have passed before, so that no attempt is counted twice.
local rest, moves = {}, {}
for _, id in ipairs(mine) do
  if mine[id] <= done then
    finished[#finished + 1] = id
  else
    local at = FIRST + done + (mine[id] - done - 1) * FIELDS
    local move, outcome = ARGV[at + 1], ARGV[at + 5]
    if move == 'succeed' then
      finished[#finished + 1] = id
    else
      if move == 'cancel' or (sparse > 0 and redis.call('HEXISTS', cancels, id) == 1) then
        move, outcome = 'cancel', CANCELLED
      elseif move == 'retry' then
        outcome = ''
      end
      rest[#rest + 1] = id
      moves[id] = move
    end
    save(id, outcome, ARGV[at + 6])
  end
end
succeeded = #finished
if sparse > 0 then
  for _, id in ipairs(finished) do
    drop(id)
    tell(id)
  end
elseif #finished > 0 then
  redis.call('HDEL', jobs, unpack(finished))
end
for _, id in ipairs(rest) do
  local at = FIRST + done + (mine[id] - done - 1) * FIELDS
  if moves[id] == 'cancel' then
    drop(id)
    tell(id)
    cancelled = cancelled + 1
  elseif moves[id] == 'retry' then
    redis.call('HDEL', progress, id)
    redis.call('ZADD', scheduled, whole(now + tonumber(ARGV[at + 2])), id)
    redis.call('HSET', attempts, id, whole(counter(attempts, id) + 1)) -- last: sent again, it is counted once
    retried = retried + 1
  else
    bury(id, ARGV[at + 3], counter(attempts, id) + 1, ARGV[at + 4], '', '0', now, limits)
    died = died + 1
  end
end
if #mine > 0 then
  redis.call('HDEL', running, unpack(mine))
end
redis.call('HSET', calls, worker, ARGV[3]) -- settled: should Redis refuse the rest, the same call is answered as before
sparse = sparse + retried

aside = redis.call('EXISTS', suspects, scheduled, waiters)
if aside > 0 then
  local due = redis.call('ZRANGEBYSCORE', scheduled, '-inf', whole(now), 'LIMIT', 0, MOVE_LIMIT)
  redis.call('ZREM', scheduled, '') -- what is refused is refused now
  for _, id in ipairs(within_bytes(due)) do
    local entry = redis.call('HGET', jobs, id)
    if entry then
      local sequence, rank = head(entry)
      make_ready(id, sequence, rank, max_crashes)
    end
    redis.call('ZREM', scheduled, id)
  end
end

local ids, entries, from_ready, claims_suspect = {}, {}, 0, false
if limit > 0 and not paused then
  local members = redis.call('ZRANGE', ready, 0, limit)
  ready_left = members[limit + 1] ~= nil
  members[limit + 1] = nil
  local suspect
  if aside > 0 and redis.call('EXISTS', suspects) == 1 and not holds_suspect() then
    ready_left = nil
    suspect = redis.call('ZRANGE', suspects, 0, 0, 'WITHSCORES')
    local better = redis.call('ZCOUNT', ready, '-inf', '(' .. suspect[2])
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', ready, suspect[2], suspect[2], 'LIMIT', 0, limit)) do
      better = better + (member < suspect[1] and 1 or 0)
    end
    if better < limit then
      table.insert(members, better + 1, suspect[1])
      members[limit + 1] = nil
    else
      suspect = nil
    end
  end
  for i, member in ipairs(members) do
    ids[i] = string.sub(member, 14)
  end
  if limit * kept(known[4], 0) > MOVE_BYTES then
    ids, ready_left = within_bytes(ids), nil
  end
  if #ids > 0 then
    local found, claims, there = redis.call('HMGET', jobs, unpack(ids)), {}, {}
    local value = ARGV[3] .. ' ' .. whole(now)
    for i, id in ipairs(ids) do
      if suspect and members[i] == suspect[1] then
        claims_suspect = true
      else
        from_ready = from_ready + 1
      end
      if found[i] then -- else a member without a record: it is dropped from where it waited
        there[#there + 1], entries[#entries + 1] = id, found[i]
        claims[#claims + 1] = id
        claims[#claims + 1] = value
      end
    end
    if from_ready > 0 then
      redis.call('ZREMRANGEBYRANK', ready, 0, from_ready - 1)
    end
    if #claims > 2 * FEW then
      redis.call('HSET', running, claims[1], LONG, unpack(claims))
    elseif #claims > 0 then
      redis.call('HSET', running, unpack(claims))
    end
    if claims_suspect then
      redis.call('ZREM', suspects, suspect[1])
    end
    ids = there
  end
end
count('skipped', #skipped)
count('succeeded', succeeded)
count('retried', retried)
count('cancelled', cancelled)
count('dead', died)
count('claimed', #ids)
if #ids > 0 and aside > 0 then
  hint_room(now)
end
return answer(ids, entries, skipped)
