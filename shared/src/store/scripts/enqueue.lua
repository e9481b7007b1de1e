-- Accepts a start: makes the run's record and queues it, or sets it aside
-- until it is due.
--
-- KEYS[1]  run                  HASH
-- KEYS[2]  queue                STREAM
-- KEYS[3]  delayed              ZSET
-- KEYS[4]  idempotency record   STRING
-- ARGV[3]  run id
-- ARGV[4]  queue name, `tag:priority`
-- ARGV[5]  flow id
-- ARGV[6]  flow version
-- ARGV[7]  request, JSON
-- ARGV[8]  API instance that waits for the run, or ''
-- ARGV[9]  how long the idempotency record lives, ms; 0 for none
-- ARGV[10] fingerprint of the request
-- ARGV[11] most runs that may be queued and delayed, with those that are parked
--          for the same limit
-- ARGV[12] delay, ms; 0 for none
-- ARGV[13] when it is due, ms since the epoch; 0 for not said
-- ARGV[14] name of the limit it counts against, or ''
-- ARGV[15] how many runs the limit lets execute at once
--
-- Returns {'accepted', state}; {'replayed', id} or {'other_body'} where the
-- idempotency key was used before; {'full'}. The same run id again, after an
-- answer that got lost, is accepted and changes nothing.
local run, stream, delayed, record = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, queue = ARGV[3], ARGV[4]

local known = redis.call('HGET', run, 'state')
if known then return { 'accepted', known } end

local window_ms = tonumber(ARGV[9])
if window_ms > 0 then
  local earlier = redis.call('GET', record)
  if earlier then
    local first, fingerprint = string.match(earlier, '^(%S+) (%S*)$')
    if fingerprint == ARGV[10] then return { 'replayed', first } end
    return { 'other_body' }
  end
end

local waiting = redis.call('XLEN', stream) + redis.call('ZCARD', delayed)
if ARGV[14] ~= '' then waiting = waiting + redis.call('LLEN', prefix .. 'parked:' .. ARGV[14]) end
if waiting >= tonumber(ARGV[11]) then
  return { 'full' }
end

local now = now_ms()
local due = math.max(now + tonumber(ARGV[12]), tonumber(ARGV[13]))
local state, entry = 'queued', ''
if due > now then
  state = 'delayed'
  redis.call('ZADD', delayed, due, id)
else
  entry = redis.call('XADD', stream, '*', 'run', id)
end
redis.call('HSET', run, 'state', state, 'entry', entry, 'queue', queue, 'flow', ARGV[5],
  'version', ARGV[6], 'request', ARGV[7], 'created_at', now)
if ARGV[8] ~= '' then redis.call('HSET', run, 'waiters', ARGV[8]) end
if ARGV[14] ~= '' then redis.call('HSET', run, 'limited', ARGV[14], 'limit', ARGV[15]) end
if window_ms > 0 then redis.call('SET', record, id .. ' ' .. ARGV[10], 'PX', window_ms) end
return { 'accepted', state }
