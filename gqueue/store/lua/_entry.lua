-- An entry of `jobs` is 13 hex digits of sequence, the rank, a space, the record. A damaged head does not stop the queue:
-- the job goes first, and the worker that cannot read it buries it.
local MOVE_LIMIT = 1000
local MOVE_BYTES = 4 * 1024 * 1024

local function head(entry)
  local space = string.find(entry, ' ', 14, true)
  local sequence = string.match(string.sub(entry, 1, 13), '^%x+$')
  local rank = space and string.sub(entry, 14, space - 1)
  if not sequence or #sequence ~= 13 or not rank or not tonumber(rank) then
    return '0000000000000', '0'
  end
  return sequence, rank
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
