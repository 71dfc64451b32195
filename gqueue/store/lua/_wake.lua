-- Hint the workers that there is work. One hint is enough: who takes it passes it on if jobs remain.
-- The hint comes last, and may be lost: no error of it is one of the call.
local function hint_workers()
  local hints = redis.pcall('LLEN', wake)
  if type(hints) == 'number' and hints < 8 and redis.pcall('HGET', meta, 'paused') ~= '1' then
    redis.pcall('RPUSH', wake, '1')
  end
end
