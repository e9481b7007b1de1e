-- Ends a run, if the caller still owns it.
--
-- KEYS[1]  run                  HASH
-- ARGV[3]  run id
-- ARGV[4]  epoch
-- ARGV[5]  final state
-- ARGV[6]  output, JSON, or ''
-- ARGV[7]  error, JSON, or ''
-- ARGV[8]  how long the record is kept, ms
-- ARGV[9]  where the output is kept that is too large for the record, JSON, or ''
--
-- Returns 1, or 0 if the run is not the caller's (nothing is changed then).
-- The same call again, after an answer that got lost, returns 1 too.
local run, id = KEYS[1], ARGV[3]
local h = redis.call('HMGET', run, 'epoch', 'state', 'entry', 'queue', 'waiters', 'limited', 'flow')
if h[1] ~= ARGV[4] then return 0 end
if h[2] == ARGV[5] then return 1 end
if h[2] ~= 'running' then return 0 end

drop(stream_key(h[4]), h[3])
if ARGV[6] ~= '' then redis.call('HSET', run, 'output', ARGV[6]) end
if ARGV[9] ~= '' then redis.call('HSET', run, 'output_at', ARGV[9]) end
if ARGV[7] ~= '' then redis.call('HSET', run, 'error', ARGV[7]) end
settle(id, ARGV[5], h[7] or '', h[6], h[5], ARGV[8])
return 1
