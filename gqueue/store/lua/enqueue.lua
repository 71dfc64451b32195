--[[ Admit jobs or a prefix of them; give the rest a place in line if they are to wait.

  KEYS[1]   call:LANE   string  the lane's last number and reply
  KEYS[2]   ready       zset    sequence .. id -> rank
  KEYS[3]   suspects    zset    sequence .. id -> rank
  KEYS[4]   scheduled   zset    id -> due time, ms
  KEYS[5]   jobs        hash    id -> sequence, rank, a space, record
  KEYS[6]   attempts    hash    id -> failed attempts
  KEYS[7]   crashes     hash    id -> workers it lost
  KEYS[8]   cancels     hash    id -> when it was asked for
  KEYS[9]   progress    hash    id -> what the job reported
  KEYS[10]  dead        zset    id -> died at, ms
  KEYS[11]  shed        zset    id -> died at, ms
  KEYS[12]  dead:jobs   hash    id -> the letter
  KEYS[13]  awaited     zset    id -> until, ms
  KEYS[14]  waiters     zset    place .. ticket -> rank
  KEYS[15]  tickets     zset    place .. ticket -> live until, ms
  KEYS[16]  wake        list    hints for workers
  KEYS[17]  meta        hash    sequence, places, epoch, capacity
  KEYS[18]  stats       hash    totals
  ARGV[1]   now_ms         int    '': the server's TIME
  ARGV[2]   call           int    number of the call in its lane, from 1
  ARGV[3]   when_full      str    wait | reject | shed
  ARGV[4]   capacity       int    most jobs that may wait, if no operator says otherwise
  ARGV[5]   ticket         str    PRODUCER.N, or ''
  ARGV[6]   place          int    number of the place the ticket has, or ''
  ARGV[7]   place_rank     float  its rank, or ''
  ARGV[8]   aging          float  rank added for each second since the epoch
  ARGV[9]   letters_max    int    dead letters kept
  ARGV[10]  letters_ms     int    for so long
  ARGV[11]  shed_max       int    shed ones kept
  ARGV[12]  result_ttl_ms  int    how long the outcome of a shed job is kept
  ARGV[13]  lane_ms        int    > 0: how long the reply is kept
  ARGV[14]  ticket_ms      int    > 0: how long a ticket lives
  ARGV[15]  jobs           ...    4 each: id, priority, delay_ms, record; 1 .. 1000 jobs

  Returns  {"ok", "ACCEPTED DEPTH CAPACITY PLACE_RANK PLACE AHEAD TAKEN,TAKEN,..."} | {"stale_call"}; "-" for none
  Writes   result:ID, room:PRODUCER
  Model    gqueue.core.scheduling.enqueue
  Cost     O(jobs * log n)
]]
local lane, ready, suspects, scheduled, jobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local attempts, crashes, cancels, progress = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local dead, shed, dead_jobs, awaited = KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local waiters, tickets, wake, meta, stats = KEYS[14], KEYS[15], KEYS[16], KEYS[17], KEYS[18]
local call, when_full, brought = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local ticket, place, place_rank = ARGV[5], ARGV[6], ARGV[7]
local aging = tonumber(ARGV[8])
local limits = {letters_max = tonumber(ARGV[9]), letters_ms = tonumber(ARGV[10]), shed_max = tonumber(ARGV[11])}
local result_ttl_ms, lane_ms, ticket_ms = ARGV[12], ARGV[13], tonumber(ARGV[14])
local FIRST, FIELDS = 15, 4
local NO_REPLY = '0 0 0 0 - - 0 -'
local MOST_ID = 512 -- names have 100 characters at most; other versions may allow more
local SHED_REPORT = '{"error":"a more urgent job took its place in the full queue"}'
local SHED_OUTCOME = '{"state":"dead","reason":"shed","error":"a more urgent job took its place in the full queue"}'
-- include: clock
-- include: entry
-- include: count
-- include: finish
-- include: bury
-- include: room
-- include: line
-- include: wake

-- The last number given. 13 digits are written of it, and of one too large for any queue (audit.py) that is not enough: it
-- was damaged. From 0 on, jobs come before older ones of their rank; with a 14th digit they would be found by no id.
local function given(text)
  local number = kept(text, 0)
  return number < 2 ^ 51 and number or 0
end

local last = redis.call('GET', lane)
if last then
  local number, reply = string.match(last, '^(%d+) (.*)$')
  number = tonumber(number or '')
  if number == call then
    return {'ok', reply}
  elseif not number or number + 1 ~= call then
    return {'stale_call'}
  end
end
if (place == '') ~= (place_rank == '') then
  return refuse('place_rank')
end
for at = FIRST, #ARGV, FIELDS do
  local id, priority, delay_ms = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if id == '' or #id > MOST_ID then
    return refuse('the id of a job')
  elseif priority ~= '0' and not finite(priority) then
    return refuse('the priority of a job')
  elseif delay_ms ~= '0' and not whole_from(0, 2 ^ 53, delay_ms) then
    return refuse('the delay of a job')
  end
end

if call == 1 then -- of its lane, and so the next after a refused one: what comes last of all must not be refused then
  redis.call('SET', lane, NO_REPLY, 'PX', lane_ms)
  redis.call('HDEL', jobs, '\0')
  redis.call('ZREM', ready, '')
  if ticket ~= '' or place ~= '' then
    redis.call('ZREM', waiters, '')
    redis.call('ZREM', tickets, '')
    redis.call('ZADD', waiters, 'XX', 0, '')
    redis.call('ZADD', tickets, 'XX', 0, '')
    redis.call('ZRANK', waiters, '')
  end
  if when_full == 'shed' then
    redis.call('ZREVRANGE', ready, 0, 0)
  end
end
local total = (#ARGV - FIRST + 1) / FIELDS
local known = redis.call('HMGET', meta, 'epoch', 'sequence', 'largest', 'capacity_set', 'places', 'capacity')
local sequence, largest = given(known[2]), kept(known[3], 0)
local in_force = kept(known[4], tonumber(brought))
-- Most calls bring jobs that are ready, to a queue where nobody stands in line: then the time is not asked for.
local rare = redis.call('EXISTS', suspects, scheduled, dead_jobs, waiters, tickets) > 0
local epoch, now = kept(known[1], nil), nil
local function time()
  now = now or clock(ARGV[1])
  return now
end

-- The first write is one that a full Redis refuses: nothing has been written then. It is this one, or that of the jobs.
local dropped, others = 0, 0
if rare or not epoch or known[6] ~= brought or place ~= '' or when_full == 'shed' then
  epoch = epoch or time()
  redis.call('HSET', meta, 'capacity', brought, 'epoch', whole(epoch))
  dropped = drop_lapsed_tickets(time(), ticket_ms)
  others = redis.call('ZCARD', waiters)
end
local waiting = rare and depth() or redis.call('ZCARD', ready)

local function rank_of(priority)
  return aging == 0 and tonumber(priority) or tonumber(priority) + aging * ((time() - epoch) / 1000)
end

local function text(rank)
  return string.format('%.17g', rank)
end

local function standing(number)
  return string.format('%013x', number) .. ticket
end

local first_rank, ahead = rank_of(ARGV[FIRST + 1]), 0
local room, mine = math.max(0, in_force - waiting), nil
local may_enter
if place ~= '' then
  mine = standing(tonumber(place))
  redis.call('ZADD', waiters, place_rank, mine)
  others = redis.call('ZCARD', waiters) - 1
  ahead = redis.call('ZRANK', waiters, mine)
  may_enter = math.max(0, room - ahead)
else
  if others > 0 then
    ahead = redis.call('ZCOUNT', waiters, '-inf', text(first_rank))
  end
  may_enter = ahead == 0 and room or 0
end
local may_shed = when_full == 'shed' and ahead == 0
local has_dead = rare and redis.call('EXISTS', dead_jobs) == 1
local accepted, entered, shed_now, taken = 0, 0, 0, {}
local made_ready, sooner, soonest = false, false, nil
local to_jobs, to_ready, to_schedule, old_results, gathered = {}, {}, {}, {}, 0

-- Whether Redis refused a write behind that of the records; these are taken back then. A job with a record and no place
-- would be acknowledged to whoever brings it again, and run never.
local function undone(reply)
  if type(reply) == 'number' then
    return false
  end
  for i = 1, gathered do
    redis.pcall('HDEL', jobs, to_jobs[2 * i - 1])
  end
  for i = 2, #to_ready, 2 do
    redis.pcall('ZREM', ready, to_ready[i])
  end
  return true
end

local function flush()
  if gathered == 0 then
    return
  end
  redis.call('HSET', jobs, unpack(to_jobs))
  if undone(redis.pcall('UNLINK', unpack(old_results))) then
    redis.call('UNLINK', unpack(old_results)) -- the same error once more ends the call
  end
  if #to_ready > 0 and undone(redis.pcall('ZADD', ready, unpack(to_ready))) then
    redis.call('ZADD', ready, unpack(to_ready))
  end
  if #to_schedule > 0 and undone(redis.pcall('ZADD', scheduled, unpack(to_schedule))) then
    redis.call('ZADD', scheduled, unpack(to_schedule))
  end
  made_ready = made_ready or #to_ready > 0
  to_jobs, to_ready, to_schedule, old_results, gathered = {}, {}, {}, {}, 0
end

-- Ids in `jobs`: looked up together, if the records that come along can be borne.
local held = {}
local looked = total > 1 and total * largest <= MOVE_BYTES
if looked then
  local ids = {}
  for index = 1, total do
    ids[index] = ARGV[FIRST + (index - 1) * FIELDS]
  end
  for index, entry in ipairs(redis.call('HMGET', jobs, unpack(ids))) do
    held[ids[index]] = entry and true or nil
  end
end

local function is_taken(id)
  local waits_or_runs = held[id] or (not looked and redis.call('HEXISTS', jobs, id) == 1)
  return waits_or_runs or (has_dead and redis.call('HEXISTS', dead_jobs, id) == 1)
end

local function enter(id, rank, at)
  sequence, gathered = sequence + 1, gathered + 1
  local priority, delay_ms, record = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local digits = string.format('%013x', sequence)
  local score = aging == 0 and priority or text(rank)
  to_jobs[2 * gathered - 1], to_jobs[2 * gathered] = id, digits .. score .. ' ' .. record
  old_results[gathered] = root .. 'result:' .. id
  held[id] = true
  if #record + 64 > largest then
    largest = #record + 64
  end
  if delay_ms == '0' then
    to_ready[#to_ready + 1] = score
    to_ready[#to_ready + 1] = digits .. id
  else
    local due = time() + tonumber(delay_ms)
    soonest = soonest or tonumber(redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2] or math.huge)
    sooner = sooner or due < soonest
    to_schedule[#to_schedule + 1] = whole(due)
    to_schedule[#to_schedule + 1] = id
  end
end

local function shed_for(rank)
  flush()
  local worst = redis.call('ZREVRANGE', ready, 0, 0, 'WITHSCORES')
  if not worst[1] or tonumber(worst[2]) <= rank then
    return false
  end
  local victim = string.sub(worst[1], 14)
  bury(victim, 'shed', counter(attempts, victim), SHED_REPORT, SHED_OUTCOME, result_ttl_ms, time(), limits)
  redis.call('ZREM', ready, worst[1])
  held[victim] = nil
  shed_now, has_dead = shed_now + 1, true
  return true
end

for index = 0, total - 1 do
  local at = FIRST + index * FIELDS
  local id, rank = ARGV[at], rank_of(ARGV[at + 1])
  local overtakes = others > 0 and rank > first_rank -- a worse job of the batch, who waits between the two
  if is_taken(id) then
    taken[#taken + 1] = index
  elseif entered < may_enter and not overtakes then
    enter(id, rank, at)
    entered = entered + 1
  elseif not overtakes and may_shed and shed_for(rank) then
    enter(id, rank, at)
  else
    break
  end
  accepted = accepted + 1
end
flush()
if entered + shed_now > 0 then
  redis.call('HSET', meta, 'sequence', whole(sequence), 'largest', whole(largest))
end
count('enqueued', entered + shed_now)
count('shed', shed_now)
waiting = waiting + entered

local reply_place = '- - 0'
if mine then
  redis.call('ZREM', waiters, mine)
  redis.call('ZREM', tickets, mine)
end
local waits = ticket ~= '' and when_full == 'wait' and accepted < total
if waits then
  local number, rank = place, place_rank
  if number == '' or accepted > 0 then
    number = given(known[5]) + 1
    redis.call('HSET', meta, 'places', whole(number))
    rank = text(rank_of(ARGV[FIRST + accepted * FIELDS + 1]))
  end
  local stands = standing(tonumber(number))
  redis.call('ZADD', waiters, rank, stands)
  redis.call('ZADD', tickets, whole(time() + ticket_ms), stands)
  reply_place = string.format('%s %s %d', rank, whole(tonumber(number)), redis.call('ZRANK', waiters, stands))
end

if made_ready or sooner then
  hint_workers()
end
if dropped > 0 or waits or (mine and entered == 0) then
  hint_room(time())
end
local reply = string.format(
  '%d %d %s %s %s', accepted, waiting, whole(in_force), reply_place, #taken > 0 and table.concat(taken, ',') or '-')
redis.call('SET', lane, ARGV[2] .. ' ' .. reply, 'PX', lane_ms)
return {'ok', reply}
