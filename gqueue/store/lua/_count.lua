-- Add to the totals.
local function count(name, more)
  if more > 0 then
    redis.call('HINCRBY', stats, name, more)
  end
end
