--[[ Tell state and outcome of jobs.

  KEYS[1]  jobs       hash  id -> sequence, rank, a space, record
  KEYS[2]  ready      zset  sequence .. id -> rank
  KEYS[3]  suspects   zset  sequence .. id -> rank
  KEYS[4]  scheduled  zset  id -> due time, ms
  KEYS[5]  attempts   hash  id -> failed attempts
  KEYS[6]  crashes    hash  id -> workers it lost
  KEYS[7]  dead:jobs  hash  id -> the letter
  ARGV[1]  ids        ...   1 .. 1000 jobs

  Returns  {"ok", {state, failures, crashes, outcome, reason, report, ...}}; state is finished if the outcome tells
           it, unknown if there is none
  Reads    result:ID
  Model    gqueue.core.scheduling.look
  Cost     O(ids)
]]
local jobs, ready, suspects, scheduled = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local attempts, crashes, dead_jobs = KEYS[5], KEYS[6], KEYS[7]
local root = string.sub(jobs, 1, -5)
-- include: entry

local reply = {}
local function tell(...)
  for _, value in ipairs({...}) do
    reply[#reply + 1] = value
  end
end

for i = 1, #ARGV do
  local id = ARGV[i]
  local entry = redis.call('HGET', jobs, id)
  if entry then
    local sequence = head(entry)
    local state = 'running'
    if redis.call('ZSCORE', scheduled, id) then
      state = 'scheduled'
    elseif redis.call('ZSCORE', ready, sequence .. id) or redis.call('ZSCORE', suspects, sequence .. id) then
      state = 'ready'
    end
    tell(state, counter(attempts, id), counter(crashes, id), '', '', '')
  else
    local outcome = redis.call('GET', root .. 'result:' .. id)
    local letter = redis.call('HGET', dead_jobs, id)
    if letter then
      local reason, failures, lost, report = string.match(letter, '^(%S+) (%d+) (%d+) %d+\n([^\n]*)\n')
      tell('dead', failures or '0', lost or '0', outcome or '', reason or '', report or '')
    else
      tell(outcome and 'finished' or 'unknown', '0', '0', outcome or '', '', '')
    end
  end
end
return {'ok', reply}
