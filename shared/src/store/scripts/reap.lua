-- Takes runs away from workers that fell silent and queues them again. Any
-- number of processes may call it at the same time.
--
-- A run counts as left when its entry was idle for the lease of its worker and
-- for that of the caller. A server, or all who sweep, that stood still for a
-- while makes every lease look expired, and so does a clock that jumps. Whoever
-- finds that no sweep was made for so long leaves the workers a lease to show
-- that they are alive: the first beat of a run comes up to two thirds of a lease
-- after its claim.
--
-- A run that was on its way when so many workers were lost that one more is too
-- many is queued apart: it is executed by a worker that executes nothing else,
-- so that only a run that kills its worker is set aside, and not those beside it.
--
-- KEYS     queues of the partition, those of runs to execute alone last
-- ARGV[3]  lease of the caller, ms
-- ARGV[4]  after so many claims a run is set aside instead
-- ARGV[5]  how long the record of a run that ends here is kept, ms
--
-- Returns {number of runs queued again, number of runs set aside, how many runs
-- wait to be executed alone}.
local lease_ms, now, sweeps = tonumber(ARGV[3]), now_ms(), prefix .. 'sweeps'
write_anyhow()
local h = redis.call('HMGET', sweeps, 'last', 'since')
local since = tonumber(h[2]) or 0
if h[1] and math.abs(now - h[1]) > math.max(lease_ms / 2, 250) then since = now end
redis.call('HSET', sweeps, 'last', now, 'since', since)

local PAGE, PAGES = 100, 10
local queued, dead, alone = 0, 0, 0

-- What becomes of an entry that was delivered so long ago.
local function take(stream, entry, idle)
  local there = redis.call('XRANGE', stream, entry, entry)[1]
  local id = there and run_of(there[2])
  if not id then
    drop(stream, entry)
    if there then bury('', 'an entry without a run') end
    return
  end
  local run = run_key(id)
  local h = redis.pcall('HMGET', run, 'state', 'entry', 'limited', 'cancel', 'waiters', 'claims',
    'queue', 'epoch', 'flow', 'lease')
  if h.err then
    drop(stream, entry)
    return bury(id, 'the record of the run is not a hash')
  end
  local lease = h[1] == 'running' and math.max(lease_ms, tonumber(h[10]) or 0) or lease_ms
  if idle < lease or now - since < lease then return end
  drop(stream, entry)
  if not (h[1] == 'running' or h[1] == 'queued') or h[2] ~= entry or stream ~= stream_key(h[7] or '') then
    return
  end
  redis.call('HSET', run, 'epoch', next_epoch(h[8]))
  local claims, most, queue = tonumber(h[6]) or 0, tonumber(ARGV[4]), h[7]
  local tag = string.match(queue, '^(.*):[^:]*$') or queue
  local was_alone = queue == tag .. ':alone'
  if h[4] then
    settle(id, 'cancelled', h[9] or '', h[3], h[5], ARGV[5])
  elseif h[1] == 'running' and claims >= most and (was_alone or most == 1) then
    bury(id, 'its workers died')
    redis.call('HSET', run, 'error', '{"code":"workers_lost","message":"the run was set aside after '
      .. claims .. ' workers were lost while they executed it"}')
    settle(id, 'dead', h[9] or '', h[3], h[5], ARGV[5])
    dead = dead + 1
  else
    if h[1] == 'running' and claims >= most - 1 and not was_alone then
      redis.call('HSET', run, 'home', queue, 'queue', tag .. ':alone')
      queue = tag .. ':alone'
    end
    ready(id, queue)
    queued = queued + 1
  end
end

for _, stream in ipairs(KEYS) do
  local from = '-'
  for _ = 1, PAGES do
    local pending = redis.pcall('XPENDING', stream, group, 'IDLE', lease_ms, from, '+', PAGE)
    -- Without a group nobody holds anything.
    if pending.err or #pending == 0 then break end
    for _, row in ipairs(pending) do
      local went, wrong = pcall(take, stream, row[1], row[3])
      if not went then
        bury('', 'an entry could not be looked at: ' .. said(wrong))
      end
      from = '(' .. row[1]
    end
    if #pending < PAGE then break end
  end
  if string.sub(stream, -6) == ':alone' then
    local pending = redis.pcall('XPENDING', stream, group)
    local held = not pending.err and pending[1] or 0
    alone = alone + redis.call('XLEN', stream) - held
  end
end
return { queued, dead, alone }
