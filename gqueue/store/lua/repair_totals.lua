--[[ Mend settings and counters: forget what is no number, raise what was given too few, book what is unaccounted for.

  KEYS[1]  meta      hash  settings in force, numbers given
  KEYS[2]  stats     hash  totals
  KEYS[3]  jobs      hash  id -> sequence, rank, a space, record
  ARGV[1]  sequence  int   the largest in use
  ARGV[2]  places    int   the largest in use
  ARGV[3]  settings  int   how many fields of `meta` follow that are no such numbers
  ARGV[4]  fields    ...   2 each: field and value; then as many of `stats` as there are

  Returns  {"ok", how many things were mended}
  Model    gqueue.core.audit.judge_totals
  Cost     O(fields)
]]
local meta, stats, jobs = KEYS[1], KEYS[2], KEYS[3]
local largest, settings = {sequence = tonumber(ARGV[1]), places = tonumber(ARGV[2])}, tonumber(ARGV[3])
local FIRST, FIELDS = 4, 2
local WAYS = {
  enqueued = 1, redriven = 1, found = 1,
  succeeded = -1, cancelled = -1, dead = -1, shed = -1, purged = -1, lost = -1,
}
-- include: clock

local mended = 0
for i = FIRST, #ARGV, FIELDS do
  local from = i < FIRST + FIELDS * settings and meta or stats
  if redis.call('HGET', from, ARGV[i]) == ARGV[i + 1] then
    mended = mended + redis.call('HDEL', from, ARGV[i])
  end
end
for name, number in pairs(largest) do
  local last = tonumber(redis.call('HGET', meta, name) or '0')
  if last and number > last then
    redis.call('HSET', meta, name, string.format('%.0f', number))
    mended = mended + 1
  end
end
local surplus = -redis.call('HLEN', jobs)
for name, sign in pairs(WAYS) do
  surplus = surplus + sign * kept(redis.call('HGET', stats, name), 0)
end
if surplus ~= 0 then
  local name = surplus > 0 and 'lost' or 'found'
  redis.call('HSET', stats, name, whole(kept(redis.call('HGET', stats, name), 0) + math.abs(surplus)))
  mended = mended + 1
end
return {'ok', mended}
