-- Queues the runs that are due.
--
-- KEYS[1]  delayed              ZSET, scores are ms since the epoch
-- ARGV[3]  most runs to queue
-- ARGV[4]  how long the record of a run that ends here is kept, ms
--
-- Returns {how many were due, ms until the next one is due or -1}.
local delayed = KEYS[1]
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do
  redis.call('ZREM', delayed, id)
  local h = redis.pcall('HMGET', run_key(id), 'state', 'queue', 'when_full', 'started_at',
    'limited', 'limit', 'flow', 'waiters')
  if not h.err and h[1] == 'delayed' then
    redis.call('HDEL', run_key(id), 'due_at')
    -- A run that has begun only pauses: it waits for room like any other.
    local fresh = h[3] and not h[4]
    if fresh and not take_place(h[5], tonumber(h[6]) or 0, id) then
      turn_away(id, h[3], h[7] or '', h[6], h[8], ARGV[4])
    else
      ready(id, h[2])
    end
  end
end
local next_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
if not next_due then return { #due, -1 } end
return { #due, math.max(0, math.floor(tonumber(next_due) - now)) }
