--[[ Read back what a worker holds, best first.

  KEYS[1]  workers         zset  worker -> lease deadline, ms
  KEYS[2]  calls           hash  worker -> number of its last call
  KEYS[3]  running:WORKER  hash  id -> number of the call that claimed it, claimed at (ms)
  KEYS[4]  jobs            hash  id -> sequence, rank, a space, record
  KEYS[5]  attempts        hash  id -> failed attempts
  KEYS[6]  crashes         hash  id -> workers it lost
  ARGV[1]  worker          str   its id
  ARGV[2]  call            int   the number of its last call that was answered, 0 before the first

  Returns  {"ok", {id, entry, failures, crashes, ...}} | {"lease_lost"} | {"stale_call"}; at most 1,000 jobs and 4 MiB
  Model    gqueue.core.scheduling.held
  Cost     O(held * log held)
]]
local workers, calls, running, jobs, attempts, crashes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local worker, call = ARGV[1], tonumber(ARGV[2])
-- include: entry

if not redis.call('ZSCORE', workers, worker) then
  return {'lease_lost'}
end
if counter(calls, worker) ~= call then
  return {'stale_call'} -- the data went back in time
end
local order = {}
for _, id in ipairs(redis.call('HKEYS', running)) do
  local entry = redis.call('HGET', jobs, id)
  if entry then
    local sequence, rank = head(entry)
    order[#order + 1] = {id, tonumber(rank), sequence}
  end
end
table.sort(order, function(a, b)
  return a[2] < b[2] or (a[2] == b[2] and a[3] < b[3])
end)
local ids = {}
for i = 1, math.min(#order, MOVE_LIMIT) do
  ids[i] = order[i][1]
end
local held = {}
for _, id in ipairs(within_bytes(ids)) do
  held[#held + 1] = id
  held[#held + 1] = redis.call('HGET', jobs, id)
  held[#held + 1] = counter(attempts, id)
  held[#held + 1] = counter(crashes, id)
end
return {'ok', held}
