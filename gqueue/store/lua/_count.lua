-- Add to the totals. They come last, when all is written: one that was damaged must not make an error of that.
local function count(name, more)
  if more > 0 then
    redis.pcall('HINCRBY', stats, name, more)
  end
end
