-- Hint the workers that there is work. One hint is enough: who takes it passes it on if jobs remain.
local function hint_workers()
  if redis.call('HGET', meta, 'paused') ~= '1' and redis.call('LLEN', wake) < 8 then
    redis.call('RPUSH', wake, '1')
  end
end
