-- Move a job to the dead letters, and forget the oldest of those: by age, then by count, shed ones apart. A call that was
-- refused in the middle may have written the letter already: without the record it stays as it is.
local function trim(letters, most, max_age_ms, now)
  local old = redis.call('ZRANGEBYSCORE', letters, '-inf', whole(now - max_age_ms), 'LIMIT', 0, MOVE_LIMIT)
  if #old > 0 then
    redis.call('ZREM', letters, unpack(old))
    redis.call('HDEL', dead_jobs, unpack(old))
  end
  local surplus = redis.call('ZCARD', letters) - most
  if surplus > 0 then
    old = redis.call('ZRANGE', letters, 0, math.min(surplus, MOVE_LIMIT) - 1)
    redis.call('ZREM', letters, unpack(old))
    redis.call('HDEL', dead_jobs, unpack(old))
  end
end

local function bury(id, reason, failures, report, outcome, ttl_ms, now, limits)
  local entry = redis.call('HGET', jobs, id)
  local lost = whole(counter(crashes, id))
  local letters, most = dead, limits.letters_max
  if reason == 'shed' then
    letters, most = shed, limits.shed_max
  end
  save(id, outcome, ttl_ms)
  if entry or not redis.call('HGET', dead_jobs, id) then
    local why = string.format('%s %s %s %s\n%s\n', reason, whole(failures), lost, whole(now), report)
    redis.call('HSET', dead_jobs, id, why .. (entry or ''))
    redis.call('ZADD', letters, whole(now), id)
  end
  drop(id)
  tell(id)
  pcall(trim, letters, most, limits.letters_ms, now) -- upkeep: no error of it is one of the call
end
