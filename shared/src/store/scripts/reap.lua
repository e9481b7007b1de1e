-- Takes runs away from workers that fell silent and queues them again. Any
-- number of processes may call it at the same time.
--
-- A server, or all who sweep, that stood still for a while makes every lease
-- look expired, and so does a clock that jumps. Whoever finds that no sweep was
-- made for so long leaves the workers a lease to show that they are alive: the
-- first beat of a run comes up to two thirds of a lease after its claim.
--
-- KEYS[1]  queue                STREAM
-- KEYS[2]  sweeps of the queue  HASH
-- ARGV[3]  consumer
-- ARGV[4]  how long a worker may be silent, ms
-- ARGV[5]  where the last sweep stopped, '0-0' to start
-- ARGV[6]  most entries to look at
-- ARGV[7]  after so many claims a run is set aside instead
-- ARGV[8]  how long the record of a run that ends here is kept, ms
--
-- Returns {where to go on, number of runs queued again, of runs set aside}.
local stream, sweeps = KEYS[1], KEYS[2]
local lease_ms, now = tonumber(ARGV[4]), now_ms()
write_anyhow()
local h = redis.call('HMGET', sweeps, 'last', 'pause_until')
redis.call('HSET', sweeps, 'last', now)
if h[1] and now - h[1] > math.max(lease_ms / 2, 250) then
  redis.call('HSET', sweeps, 'pause_until', now + lease_ms)
  return { ARGV[5], 0, 0 }
end
if h[2] and now < tonumber(h[2]) then return { ARGV[5], 0, 0 } end

local swept = redis.pcall('XAUTOCLAIM', stream, group, ARGV[3], ARGV[4], ARGV[5], 'COUNT', ARGV[6])
if swept.err then
  if string.find(swept.err, 'NOGROUP', 1, true) then return { '0-0', 0, 0 } end
  return swept
end
local queued, dead = 0, 0
for _, found in ipairs(swept[2]) do
  -- Redis 6.2 answers nil for an entry that was deleted.
  if found then
    local entry, id = found[1], run_of(found[2])
    local h = id and redis.pcall('HMGET', run_key(id), 'state', 'entry', 'limited', 'cancel', 'waiters', 'claims', 'queue', 'epoch', 'flow')
    drop(stream, entry)
    if not id then
      bury('', 'an entry without a run')
    elseif h.err then
      bury(id, 'the record of the run is not a hash')
    elseif (h[1] == 'running' or h[1] == 'queued') and h[2] == entry and stream == stream_key(h[7] or '') then
      local run = run_key(id)
      redis.call('HSET', run, 'epoch', next_epoch(h[8]))
      if h[4] then
        settle(id, 'cancelled', h[9] or '', h[3], h[5], ARGV[8])
      elseif h[1] == 'running' and (tonumber(h[6]) or 0) >= tonumber(ARGV[7]) then
        bury(id, 'its workers died')
        redis.call('HSET', run, 'error', '{"code":"workers_lost","message":"the run was set aside after '
          .. h[6] .. ' workers were lost while they executed it"}')
        settle(id, 'dead', h[9] or '', h[3], h[5], ARGV[8])
        dead = dead + 1
      else
        ready(id, h[7])
        queued = queued + 1
      end
    end
  end
end
return { swept[1], queued, dead }
