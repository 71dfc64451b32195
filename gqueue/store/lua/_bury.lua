-- Move a job to the dead letters, and forget the oldest of those: by age, then by count, shed ones apart.
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
  local entry = redis.call('HGET', jobs, id) or ''
  local lost = whole(counter(crashes, id))
  drop(id)
  local why = string.format('%s %s %s %s\n%s\n', reason, whole(failures), lost, whole(now), report)
  redis.call('HSET', dead_jobs, id, why .. entry)
  redis.call('ZADD', reason == 'shed' and shed or dead, whole(now), id)
  keep(id, outcome, ttl_ms)
  if reason == 'shed' then
    trim(shed, limits.shed_max, limits.letters_ms, now)
  else
    trim(dead, limits.letters_max, limits.letters_ms, now)
  end
end
