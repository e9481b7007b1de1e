-- Gives a run back, to go on later: after a pause before a step is tried
-- again, or because its worker stops.
--
-- KEYS[1]  run                  HASH
-- ARGV[3]  run id
-- ARGV[4]  epoch
-- ARGV[5]  delay, ms; 0 to queue it at once
-- ARGV[6]  how long the record of a run that ends here is kept, ms
--
-- Returns 1, or 0 if the run is not the caller's (nothing is changed then).
-- A run that somebody asked to cancel meanwhile ends instead.
-- A run that pauses gives its place within its flow's limit to the next one;
-- a run that is queued at once keeps it.
local run, id = KEYS[1], ARGV[3]
local h = redis.call('HMGET', run, 'epoch', 'state', 'entry', 'queue', 'limited', 'cancel',
  'waiters', 'flow', 'claims', 'home')
if h[1] ~= ARGV[4] or h[2] ~= 'running' then return 0 end

local delay_ms, queue = tonumber(ARGV[5]), h[4]
drop(stream_key(h[4]), h[3])
if h[6] then
  settle(id, 'cancelled', h[8] or '', h[5], h[7], ARGV[6])
  return 1
end
-- Giving a run back on purpose is no loss: it does not count as a claim that
-- killed its worker.
redis.call('HINCRBY', run, 'claims', -1)
if h[10] and tonumber(h[9]) <= 1 then
  -- It was executed alone, and has shown since that it kills nobody.
  queue = h[10]
  redis.call('HSET', run, 'queue', queue)
  redis.call('HDEL', run, 'home')
end
if delay_ms > 0 then
  delay(id, now_ms() + delay_ms)
  release(h[5], id)
else
  ready(id, queue)
end
return 1
