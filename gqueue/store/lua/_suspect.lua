-- A job that lost max_crashes - 1 workers is a suspect: it waits among the suspects, and a worker holds one at most.
local function is_suspect(lost, max_crashes)
  return max_crashes > 1 and tonumber(lost or '0') >= max_crashes - 1
end

local function make_ready(id, sequence, rank, max_crashes)
  local to = is_suspect(redis.call('HGET', crashes, id), max_crashes) and suspects or ready
  redis.call('ZADD', to, rank, sequence .. id)
  return to
end
