-- A job that lost max_crashes - 1 workers is a suspect: it waits among the suspects, and a worker holds one at most.
local function is_suspect(id, max_crashes)
  return max_crashes > 1 and counter(crashes, id) >= max_crashes - 1
end

local function make_ready(id, sequence, rank, max_crashes)
  local to = is_suspect(id, max_crashes) and suspects or ready
  redis.call('ZADD', to, rank, sequence .. id)
  return to
end
