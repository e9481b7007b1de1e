-- Cancels a run: at once where nobody executes it, otherwise by asking its
-- worker, which learns of it at its next checkpoint or beat.
--
-- KEYS[1]  run                  HASH
-- KEYS[2]  delayed              ZSET
-- ARGV[3]  run id
-- ARGV[4]  how long the record is kept, ms
--
-- Returns 'cancelled', 'requested', 'final' (it had ended), or 'unknown'.
local run, delayed, id = KEYS[1], KEYS[2], ARGV[3]
local h = redis.call('HMGET', run, 'state', 'entry', 'queue', 'waiters', 'limited', 'flow')
local state = h[1]
if not state then return 'unknown' end
if FINAL[state] then return 'final' end
if state == 'running' then
  write_anyhow()
  redis.call('HSET', run, 'cancel', 1)
  return 'requested'
end
if state == 'queued' then drop(stream_key(h[3]), h[2])
elseif state == 'delayed' then redis.call('ZREM', delayed, id)
elseif state == 'parked' then redis.call('ZREM', line_key(h[5]), id) end
settle(id, 'cancelled', h[6] or '', h[5], h[4], ARGV[4])
return 'cancelled'
