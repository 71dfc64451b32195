-- An entry of `jobs` is 13 hex digits of sequence, the rank, a space, the record. A damaged head does not stop the queue:
-- the job goes first, and the worker that cannot read it buries it.
local MOVE_LIMIT = 1000
local MOVE_BYTES = 4 * 1024 * 1024

local function head(entry)
  local sequence, rank = string.match(entry, '^(%x%x%x%x%x%x%x%x%x%x%x%x%x)([-+.%deE]+) ')
  local number = tonumber(rank or '')
  if not number or math.abs(number) == math.huge then -- tonumber alone takes more than ZADD does: nan, hex, 1e999
    return '0000000000000', '0'
  end
  return sequence, rank
end

-- A counter of `attempts` or `crashes`, 0 if it is damaged.
local function counter(hash, id)
  local number = tonumber(redis.call('HGET', hash, id) or '0')
  return number and number == math.floor(number) and number >= 0 and number < 2 ^ 53 and number or 0
end

-- The longest prefix of ids whose records one call may touch: the first one always.
local function within_bytes(ids)
  local total = 0
  for index, id in ipairs(ids) do
    total = total + redis.call('HSTRLEN', jobs, id)
    if index > 1 and total > MOVE_BYTES then
      local fit = {}
      for i = 1, index - 1 do
        fit[i] = ids[i]
      end
      return fit
    end
  end
  return ids
end
