-- What the other scripts share. It is put in front of each of them.
--
-- Every script starts with the same two arguments:
--   ARGV[1]  prefix of all keys of the partition, `ms:{p}:`
--   ARGV[2]  the word that publishes: PUBLISH, or SPUBLISH in a cluster
-- Lua in Redis has no rollback: a script checks first and writes after. Where
-- it must also work with memory exhausted, its first write is one that needs
-- none (XACK, XDEL, ZREM, XCLAIM), or `write_anyhow`.

local prefix, publish = ARGV[1], ARGV[2]
local group = 'workers'

-- Milliseconds since the epoch on Redis's own clock, the only one that counts.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function run_key(id) return prefix .. 'run:' .. id end
local function stream_key(queue) return prefix .. 'queue:' .. queue end

local FINAL = { succeeded = true, failed = true, cancelled = true, dead = true }

-- The next fencing number: above the last one, and above any that a server
-- could have given before it lost writes in a failover, since it is taken from
-- the clock. Below 2^53, so that Lua keeps it exactly.
local function next_epoch(last)
  return string.format('%.0f', math.max((tonumber(last) or 0) + 1, now_ms() * 256))
end

-- Lets the writes that follow through although memory is exhausted: Redis does
-- not stop a script that has written already, and this write needs no memory
-- and changes nothing. Only what accepts runs does without: the others bring
-- runs to their ends, which is what frees memory.
local function write_anyhow() redis.call('ZREM', prefix .. 'open', '') end

-- Counts a run as open: it was accepted and has not ended.
local function open(id, flow, now)
  redis.call('ZADD', prefix .. 'open', now, id .. ' ' .. flow)
  redis.call('HINCRBY', prefix .. 'open:flows', flow, 1)
end

-- Counts a run as open no more. It frees memory, so it can come first.
local function close(id, flow)
  if redis.call('ZREM', prefix .. 'open', id .. ' ' .. flow) == 0 then return end
  if redis.call('HINCRBY', prefix .. 'open:flows', flow, -1) <= 0 then
    redis.call('HDEL', prefix .. 'open:flows', flow)
  end
end

-- Ends of runs are counted by ten seconds, for so many of which they are kept.
local SPAN_MS, SPANS = 10000, 3

local function count_end(flow, now)
  local key = prefix .. 'ended:' .. math.floor(now / SPAN_MS)
  if redis.call('HINCRBY', key, flow, 1) == 1 then redis.call('PEXPIRE', key, SPAN_MS * SPANS) end
end

-- Puts a run at the end of its queue.
local function ready(id, queue)
  local entry = redis.call('XADD', stream_key(queue), '*', 'run', id)
  redis.call('HSET', run_key(id), 'state', 'queued', 'entry', entry)
end

-- Sets a run aside until it is due.
local function delay(id, due)
  redis.call('ZADD', prefix .. 'delayed', due, id)
  redis.call('HSET', run_key(id), 'state', 'delayed', 'entry', '', 'due_at', due)
end

-- Takes an entry out of its stream, delivered or not. XACK alone would leave
-- it in the stream, XDEL alone in the list of pending entries.
local function drop(stream, entry)
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
end

-- What an error says that `pcall` caught: Redis raises tables, Lua texts.
local function said(wrong) return tostring(type(wrong) == 'table' and wrong.err or wrong) end

-- Notes an entry or run that had to be set aside. The only stream that is trimmed.
local function bury(id, reason)
  redis.call('XADD', prefix .. 'dead', 'MAXLEN', '~', 10000, '*', 'run', id, 'reason', reason)
end

-- Tells the API processes that wait for the run.
local function notify(waiters, id, state)
  for instance in string.gmatch(waiters or '', '%S+') do
    redis.call(publish, prefix .. 'api:' .. instance, id .. ' ' .. state)
  end
end

-- A key that must be of one type. One that somebody gave another type is
-- deleted, unless this is a mere look: what it should hold is found again by
-- looking after the runs.
local mends = true
local function typed(key, wanted)
  local found = mends and redis.call('TYPE', key).ok or wanted
  if found ~= wanted and found ~= 'none' then redis.call('DEL', key) end
  return key
end

local function places_key(limited) return typed(prefix .. 'group:' .. limited, 'set') end
local function line_key(limited) return typed(prefix .. 'parked:' .. limited, 'zset') end

-- Sets a run aside until there is room for it, behind those that wait already.
local function park(limited, id)
  local time = redis.call('TIME')
  redis.call('ZADD', line_key(limited), time[1] * 1000000 + time[2], id)
  redis.call('HSET', run_key(id), 'state', 'parked', 'entry', '')
end

-- Hands places within a limit that are free, still taken, to the first runs
-- parked for them: a place that was merely freed could be taken by a newcomer
-- while the parked run is forgotten. How many there are is what the flow of
-- the next one says.
local PLACES_PER_CALL = 100
local function hand_on(limited)
  local line, places = line_key(limited), places_key(limited)
  for _ = 1, PLACES_PER_CALL do
    local parked = redis.call('ZRANGE', line, 0, 0)[1]
    if not parked then return end
    local h = redis.pcall('HMGET', run_key(parked), 'state', 'queue', 'limit')
    local waits = not h.err and h[1] == 'parked'
    if waits and redis.call('SCARD', places) >= (tonumber(h[3]) or 1) then return end
    redis.call('ZREM', line, parked)
    if waits then
      redis.call('SADD', places, parked)
      ready(parked, h[2])
    end
  end
end

-- Gives back the run's place within its flow's limit, for the next one.
local function release(limited, id)
  if not limited or limited == '' then return end
  if redis.call('SREM', places_key(limited), id) == 1 then hand_on(limited) end
end

-- Ends a run for good: the one place that makes a state final.
local function settle(id, state, flow, limited, waiters, retention_ms)
  local run, now = run_key(id), now_ms()
  close(id, flow)
  redis.call('HSET', run, 'state', state, 'entry', '', 'ended_at', now)
  redis.call('HDEL', run, 'waiters', 'cancel', 'due_at')
  redis.call('PEXPIRE', run, retention_ms)
  redis.call('PEXPIRE', run .. ':steps', retention_ms)
  count_end(flow, now)
  notify(waiters, id, state)
  release(limited, id)
end

-- Gives back places of runs whose records are gone or no longer hold one: only
-- somebody from outside can have done that. Looks at a few at a time.
local function free_lost_places(limited)
  for _, id in ipairs(redis.call('SRANDMEMBER', places_key(limited), 10)) do
    local state = redis.pcall('HGET', run_key(id), 'state')
    if state ~= 'running' and state ~= 'queued' then release(limited, id) end
  end
end

-- Takes a place within a limit for a run. Says whether it holds one now.
local function take_place(limited, limit, id)
  local places = places_key(limited)
  if redis.call('SISMEMBER', places, id) == 1 then return true end
  if redis.call('SCARD', places) >= limit then free_lost_places(limited) end
  if redis.call('SCARD', places) >= limit then return false end
  redis.call('SADD', places, id)
  return true
end

-- Ends a run that found no room and does not want to wait for any.
local function turn_away(id, when_full, flow, limit, waiters, retention_ms)
  local skipped = when_full == 'skip'
  redis.call('HSET', run_key(id), 'error', '{"code":"' .. (skipped and 'skipped' or 'no_room')
    .. '","message":"the flow lets ' .. limit .. ' of its runs execute at once, and so many did"}')
  local state = skipped and 'cancelled' or 'failed'
  settle(id, state, flow, nil, waiters, retention_ms)
  return state
end

-- Makes `consumer` the owner of the run of an entry that was delivered to it.
-- Answers what the worker needs to execute it, or nothing where the entry is
-- not the run's current one (delivered twice, in another queue, finished,
-- cancelled, garbage) or its flow has no room, in which case the run is parked.
-- With `retake` a run that the consumer owns already, because the answer to its
-- claim got lost, is claimed anew; the caller leaves out those that it executes.
-- Its lease, in ms, is what whoever takes runs from silent workers goes by.
local function begin_of(stream, consumer, lease_ms, entry, id, retake)
  if not id then
    drop(stream, entry)
    bury('', 'an entry without a run')
    return nil
  end
  local run = run_key(id)
  local h = redis.pcall('HMGET', run, 'state', 'entry', 'flow', 'version', 'request',
    'limited', 'limit', 'epoch', 'claims', 'started_at', 'worker', 'queue')
  if h.err then
    drop(stream, entry)
    bury(id, 'the record of the run is not a hash')
    return nil
  end
  local current = h[2] == entry and stream == stream_key(h[12] or '')
  local lost_claim = retake and h[1] == 'running' and h[11] == consumer
  if h[1] == 'running' and current and not lost_claim then
    -- Delivered again although a worker has it: somebody made the group anew.
    -- The entry goes back to its owner, whose lease it is.
    redis.call('XCLAIM', stream, group, h[11], 0, entry, 'JUSTID')
    return nil
  end
  if not current or not (h[1] == 'queued' or lost_claim) then
    drop(stream, entry)
    if not h[1] then bury(id, 'there is no record of the run') end
    return nil
  end
  local limited, limit = h[6] or '', tonumber(h[7]) or 0
  if limited ~= '' and not take_place(limited, limit, id) then
    drop(stream, entry)
    park(limited, id)
    return nil
  end
  local claims = (tonumber(h[9]) or 0) + (lost_claim and 0 or 1)
  local epoch, now = next_epoch(h[8]), now_ms()
  redis.call('HSET', run, 'state', 'running', 'epoch', epoch, 'worker', consumer,
    'lease', lease_ms, 'claims', claims, 'started_at', h[10] or now)
  -- Who had an epoch before has perhaps left checkpoints.
  local resumed = h[8] and '1' or '0'
  return { id, epoch, h[3] or '', h[4] or '', h[5] or '', resumed,
    tostring(claims), tostring(h[10] or now), tostring(now) }
end

-- The same, where something is wrong with this run alone, for the others' sake.
local function begin(stream, consumer, lease_ms, entry, id, retake)
  local went, run = pcall(begin_of, stream, consumer, lease_ms, entry, id, retake)
  if went then return run end
  bury(id or '', 'it could not be begun: ' .. said(run))
  return nil
end

-- Makes the group where an answer says that it is missing (a new queue, or one
-- that somebody deleted), from the start, so that no entry is passed over. Says
-- whether the answer was an error.
local function mend_group(stream, answer)
  if not answer or not answer.err then return false end
  if string.find(answer.err, 'NOGROUP', 1, true) then
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  end
  return true
end

-- Reads new entries for `consumer`.
local function deliver(stream, consumer, count)
  local read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream, '>')
  if mend_group(stream, read) then
    -- Whatever else is wrong is raised here.
    read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream, '>')
  end
  if not read then return {} end
  return read[1][2]
end

-- What a list of names and values says, by name.
local function by_name(list)
  local values = {}
  for i = 1, #list, 2 do values[list[i]] = list[i + 1] end
  return values
end

-- The run id in an entry's fields, or nil where the entry is not one of ours.
local function run_of(fields)
  return fields and fields[1] == 'run' and fields[2] or nil
end
