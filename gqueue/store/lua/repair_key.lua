--[[ Mend a key of the queue as a whole: its time to live, or, of one that holds no job, its type.

  KEYS[1]  meta     hash  any key of the queue: the other is derived from it
  ARGV[1]  name     str   the key, without what all keys of the queue begin with
  ARGV[2]  wanted   str   the type it should have
  ARGV[3]  ttl_ms   int   what it should have to live, '': for ever

  Returns  {"ok", how many things were mended}
  Writes   the key
  Model    gqueue.core.audit.judge_key
  Cost     O(1)
]]
local key = string.sub(KEYS[1], 1, -5) .. ARGV[1]
local wanted, ttl_ms = ARGV[2], ARGV[3]

local kind, left = redis.call('TYPE', key).ok, redis.call('PTTL', key)
if kind == 'none' then
  return {'ok', 0}
elseif ttl_ms == '' then
  return {'ok', kind == wanted and redis.call('PERSIST', key) or 0}
elseif kind ~= wanted then
  return {'ok', redis.call('UNLINK', key)}
elseif left == -1 then
  return {'ok', redis.call('PEXPIRE', key, ttl_ms)}
end
return {'ok', 0}
