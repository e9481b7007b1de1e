-- Stores what a step came to, once: the first one to store it wins.
--
-- KEYS[1]  run                  HASH
-- KEYS[2]  steps of the run     HASH
-- ARGV[3]  epoch
-- ARGV[4]  field
-- ARGV[5]  value
--
-- Returns {'stored'}, {'cancel'} stored and the run is asked to stop,
-- {'already', value} what was stored before, or {'lost'}.
local h = redis.call('HMGET', KEYS[1], 'epoch', 'state', 'cancel', 'claims')
if h[1] ~= ARGV[3] or h[2] ~= 'running' then return { 'lost' } end
write_anyhow()
if redis.call('HSETNX', KEYS[2], ARGV[4], ARGV[5]) == 0 then
  return { 'already', redis.call('HGET', KEYS[2], ARGV[4]) }
end
-- A step that ended is progress: the run does not just kill its workers.
if not string.find(ARGV[4], ':', 1, true) and h[4] ~= '1' then
  redis.call('HSET', KEYS[1], 'claims', 1)
end
return { h[3] and 'cancel' or 'stored' }
