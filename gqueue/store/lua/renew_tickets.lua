--[[ Renew the live tickets of a process; name those that had lapsed. Those are not revived: see leave_line.

  KEYS[1]  waiters    zset  place .. ticket -> rank
  KEYS[2]  tickets    zset  place .. ticket -> live until, ms
  ARGV[1]  now_ms     int   '': the server's TIME
  ARGV[2]  ticket_ms  int   how long a ticket lives
  ARGV[3]  standing   ...   2 each: number of the place, ticket; 1 .. 1000 of them

  Returns  {"ok", {names of the lapsed}}
  Model    gqueue.core.scheduling.renew_tickets
  Cost     O(tickets * log waiters)
]]
local waiters, tickets = KEYS[1], KEYS[2]
local ticket_ms = tonumber(ARGV[2])
local FIRST, FIELDS = 3, 2
-- include: clock
-- include: line

for at = FIRST, #ARGV, FIELDS do
  if not whole_from(0, 2 ^ 53, ARGV[at]) then
    return refuse('the number of a place')
  end
end
local now = clock(ARGV[1])
drop_lapsed_tickets(now, ticket_ms)
local lapsed = {}
for at = FIRST, #ARGV, FIELDS do
  local stands = string.format('%013x', tonumber(ARGV[at])) .. ARGV[at + 1]
  if redis.call('ZSCORE', tickets, stands) then
    redis.call('ZADD', tickets, whole(now + ticket_ms), stands)
  else
    lapsed[#lapsed + 1] = ARGV[at + 1]
  end
end
return {'ok', lapsed}
