-- The time in ms: what a test passes, else the server's. `whole` writes whole numbers that `tostring` would round.
local function whole(number)
  return string.format('%.0f', number)
end

-- A whole number that Redis kept; *other* if there is none, or it was damaged.
local function kept(text, other)
  local number = tonumber(text or '')
  return number and number == math.floor(number) and number >= 0 and number < 2 ^ 53 and number or other
end

-- The lease in force, in ms; *other* if it was damaged. One of more than a day is (model.LONGEST_LEASE_MS), and would keep
-- the jobs of a dead worker with it for ever.
local function lease_kept(text, other)
  local lease = kept(text, other)
  return lease <= 86400000 and lease or other
end

local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
