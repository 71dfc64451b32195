-- The end of a job: forget its record and counts, keep its outcome, tell who waits for it.
local root = string.sub(jobs, 1, -5)
local CANCELLED = '{"state":"cancelled"}'

local function drop(id)
  redis.call('HDEL', jobs, id)
  redis.call('HDEL', attempts, id)
  redis.call('HDEL', crashes, id)
  redis.call('HDEL', cancels, id)
  redis.call('HDEL', progress, id)
end

local function save(id, outcome, ttl_ms)
  if outcome ~= '' and tonumber(ttl_ms) > 0 then
    redis.call('SET', root .. 'result:' .. id, outcome, 'PX', ttl_ms)
  end
end

local function keep(id, outcome, ttl_ms)
  save(id, outcome, ttl_ms)
  if redis.call('ZSCORE', awaited, id) then
    redis.call('PUBLISH', root .. 'done', id)
  end
end

local function cancel_now(id, ttl_ms)
  drop(id)
  keep(id, CANCELLED, ttl_ms)
end
