--[[ Read dead letters, newest first.

  KEYS[1]  dead       zset  id -> died at, ms
  KEYS[2]  shed       zset  id -> died at, ms
  KEYS[3]  dead:jobs  hash  id -> the letter
  ARGV[1]  which      str   dead | shed
  ARGV[2]  offset     int   >= 0
  ARGV[3]  limit      int   0 .. 1000

  Returns  {"ok", {id, letter, ...}}; a letter is a line of reason, failures, crashes and died at, a line of JSON
           (error, traceback), and the entry that the job had in `jobs`
  Model    gqueue.store.memory.MemoryStore.letters
  Cost     O(limit + log letters)
]]
local dead, shed, dead_jobs = KEYS[1], KEYS[2], KEYS[3]
local from = ARGV[1] == 'shed' and shed or dead
local offset, limit = tonumber(ARGV[2]), tonumber(ARGV[3])

local reply = {}
if limit > 0 then
  for _, id in ipairs(redis.call('ZREVRANGE', from, offset, offset + limit - 1)) do
    reply[#reply + 1] = id
    reply[#reply + 1] = redis.call('HGET', dead_jobs, id) or ''
  end
end
return {'ok', reply}
