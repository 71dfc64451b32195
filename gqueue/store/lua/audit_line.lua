--[[ Tell where some places in the line of waiting producers stand, at one moment; change nothing.

  KEYS[1]  waiters  zset  place .. ticket -> rank
  KEYS[2]  tickets  zset  place .. ticket -> live until, ms
  ARGV[1]  names    ...   1 .. 1000 members of either

  Returns  {"ok", {rank or false, live until or false}, ...}
  Model    gqueue.core.audit.PlaceSeen
  Cost     O(names * log waiters)
]]
local waiters, tickets = KEYS[1], KEYS[2]

local reply = {'ok'}
for i = 1, #ARGV do
  reply[i + 1] = {redis.call('ZSCORE', waiters, ARGV[i]), redis.call('ZSCORE', tickets, ARGV[i])}
end
return reply
