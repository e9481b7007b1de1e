-- Queues the runs that are due.
--
-- KEYS[1]  delayed              ZSET, scores are ms since the epoch
-- ARGV[3]  most runs to queue
--
-- Returns {how many were due, ms until the next one is due or -1}.
local delayed = KEYS[1]
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do
  redis.call('ZREM', delayed, id)
  local h = redis.pcall('HMGET', run_key(id), 'state', 'queue')
  if not h.err and h[1] == 'delayed' then ready(id, h[2]) end
end
local next_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
if not next_due then return { #due, -1 } end
return { #due, math.max(0, math.floor(tonumber(next_due) - now)) }
