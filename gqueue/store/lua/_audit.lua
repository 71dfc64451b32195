-- Where a job runs: {worker, claim, standing} each. The workers are those that `workers` and `lapsed` name, and `others`,
-- whose running:WORKER nobody owns. These keys are derived: only now is it known which workers there are.
local LETTER = '^(%S+) (%d+ %d+ %d+)\n[^\n]*\n'
local all_workers, standing = {}, {}
local running = string.sub(jobs, 1, -5) .. 'running:'

local function know_workers(others)
  for _, from in ipairs({{workers, 'registered'}, {lapsed, 'lapsed'}, {nil, ''}}) do
    for _, worker in ipairs(from[1] and redis.call('ZRANGE', from[1], 0, -1) or others) do
      if worker ~= '' and not standing[worker] and redis.call('EXISTS', running .. worker) == 1 then
        all_workers[#all_workers + 1] = worker
        standing[worker] = from[2]
      end
    end
  end
end

local function runs_of(id)
  local runs = {}
  for _, worker in ipairs(all_workers) do
    local claim = redis.call('HGET', running .. worker, id)
    if claim then
      runs[#runs + 1] = {worker, claim, standing[worker]}
    end
  end
  return runs
end

-- Whether the head of an entry is as it was written; `head` reads any.
local function is_sound(entry, sequence, rank)
  local begins = sequence .. rank .. ' '
  return string.sub(entry, 1, #begins) == begins
end

-- The reason of a letter, the entry in it, and its numbers: failures, crashes and died at, as written. The reason is '',
-- and there are none, if its first two lines are damaged.
local function read_letter(letter)
  local _, ends, reason, numbers = string.find(letter, LETTER)
  return reason or '', string.sub(letter, (ends or 0) + 1), numbers or false
end
