--[[ Tell all that the queue's keys say of some jobs, at one moment; change nothing.

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
  KEYS[12]  workers    zset  worker -> lease deadline, ms
  KEYS[13]  lapsed     zset  worker -> when it was fenced, ms
  ARGV[1]   now_ms     int   '': the server's TIME
  ARGV[2]   walk       str   where the names were met: ready, suspects, or another kind
  ARGV[3]   others     int   how many workers follow that are neither registered nor lapsed
  ARGV[4]   names      ...   these workers; then 1 .. 1000 names, as they stand in the key that was walked

  Returns  {"ok", now, {record, sequence, rank, ready, suspects, scheduled, letter, its sequence, dead, shed, attempts,
           crashes, cancels, progress, whether the name stands, {worker, claim, standing, ...}, the letter's numbers},
           ...} for the first of the names, as many as are looked up in one call; record is "", ok or damaged, letter a
           reason, or "" if it is damaged; what is not there is false
  Reads    running:WORKER
  Model    gqueue.core.audit.JobSeen
  Cost     O(names * workers + names * log n)
]]
local jobs, ready, suspects, scheduled, attempts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local crashes, cancels, progress = KEYS[6], KEYS[7], KEYS[8]
local dead, shed, dead_jobs, workers, lapsed = KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local walk, others = ARGV[2], tonumber(ARGV[3])
local FIRST = 4
local LOOKS = 10000 -- in running:WORKER, of one call: some milliseconds
-- include: clock
-- include: entry
-- include: audit

know_workers({unpack(ARGV, FIRST, FIRST + others - 1)})
local members = walk == 'ready' and ready or walk == 'suspects' and suspects or nil
local some_suspects, some_scheduled = redis.call('EXISTS', suspects) == 1, redis.call('EXISTS', scheduled) == 1
local some_letters = redis.call('EXISTS', dead_jobs, dead, shed) > 0
local some_counters = redis.call('EXISTS', attempts, crashes, cancels, progress) > 0

local reply, bytes, looks = {'ok', whole(clock(ARGV[1]))}, 0, 0
for i = FIRST + others, #ARGV do
  local name = ARGV[i]
  local id = members and string.sub(name, 14) or name
  bytes = bytes + redis.call('HSTRLEN', jobs, id) + (some_letters and redis.call('HSTRLEN', dead_jobs, id) or 0)
  looks = looks + #all_workers
  if #reply > 2 and (bytes > MOVE_BYTES or looks > LOOKS) then
    return reply
  end
  local entry = redis.call('HGET', jobs, id)
  local record, sequence, rank = '', '0', '0'
  if entry then
    sequence, rank = head(entry)
    record = is_sound(entry, sequence, rank) and 'ok' or 'damaged'
  end
  local stands = sequence .. id
  local row = {
    record, sequence, rank,
    entry and redis.call('ZSCORE', ready, stands),
    entry and some_suspects and redis.call('ZSCORE', suspects, stands),
    some_scheduled and redis.call('ZSCORE', scheduled, id),
    false, '0', false, false, false, false, 0, 0, 1, {}, false,
  }
  if some_letters then
    local letter = redis.call('HGET', dead_jobs, id)
    if letter then
      local reason, entry_of, numbers = read_letter(letter)
      row[7], row[8], row[17] = reason, (head(entry_of)), numbers
    end
    row[9], row[10] = redis.call('ZSCORE', dead, id), redis.call('ZSCORE', shed, id)
  end
  if some_counters then
    row[11], row[12] = redis.call('HGET', attempts, id), redis.call('HGET', crashes, id)
    row[13], row[14] = redis.call('HEXISTS', cancels, id), redis.call('HEXISTS', progress, id)
  end
  if members and name ~= stands then
    row[15] = redis.call('ZSCORE', members, name) and 1 or 0
  elseif members then
    row[15] = row[walk == 'ready' and 4 or 5] and 1 or 0
  end
  for _, run in ipairs(runs_of(id)) do
    for _, part in ipairs(run) do
      table.insert(row[16], part)
    end
  end
  reply[#reply + 1] = row
end
return reply
