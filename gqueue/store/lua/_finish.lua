-- The end of a job: keep its outcome, forget its counts and record, tell who waits for it; in this order, and the caller
-- takes it out of where it stood last of all. Redis may refuse any of it for want of a right, and rolls nothing back: so
-- a job keeps its old place until all is done, and the call can be sent again.
local root = string.sub(jobs, 1, -5)
local CANCELLED = '{"state":"cancelled"}'

local function drop(id)
  redis.call('HDEL', progress, id)
  redis.call('HDEL', cancels, id)
  redis.call('HDEL', crashes, id)
  redis.call('HDEL', attempts, id)
  redis.call('HDEL', jobs, id)
end

local function save(id, outcome, ttl_ms)
  if outcome ~= '' and tonumber(ttl_ms) > 0 then
    redis.call('SET', root .. 'result:' .. id, outcome, 'PX', ttl_ms)
  end
end

-- Only a hint: who waits asks every 2 s anyway. No error of it is one of the call: a user may have no right to channels.
local function tell(id)
  if type(redis.pcall('ZSCORE', awaited, id)) == 'string' then
    redis.pcall('PUBLISH', root .. 'done', id)
  end
end

local function cancel_now(id, ttl_ms)
  save(id, CANCELLED, ttl_ms)
  drop(id)
  tell(id)
end
