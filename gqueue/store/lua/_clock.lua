-- The time in ms: what a test passes, else the server's. `whole` writes whole numbers that `tostring` would round.
local function whole(number)
  return string.format('%.0f', number)
end

local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
