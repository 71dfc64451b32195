--[[ Tell type and time to live of some keys of the queue; change nothing.

  KEYS[1]  meta   hash  any key of the queue: the others are derived from it
  ARGV[1]  names  ...   1 .. 1000 keys, without what all keys of the queue begin with

  Returns  {"ok", {type, ms to live: -1 for ever, -2 gone}, ...}
  Reads    any key of the queue
  Model    gqueue.core.audit.KeySeen
  Cost     O(names)
]]
local root = string.sub(KEYS[1], 1, -5)

local reply = {'ok'}
for i = 1, #ARGV do
  local key = root .. ARGV[i]
  reply[i + 1] = {redis.call('TYPE', key).ok, redis.call('PTTL', key)}
end
return reply
