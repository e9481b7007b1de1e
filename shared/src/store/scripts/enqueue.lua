-- Accepts a start: makes the run's record and queues it, or sets it aside
-- until it is due.
--
-- KEYS[1]  run                  HASH
-- KEYS[2]  idempotency record   STRING
-- ARGV[3]  run id
-- ARGV[4]  queue name, `tag:priority`
-- ARGV[5]  flow id
-- ARGV[6]  flow version
-- ARGV[7]  request, JSON
-- ARGV[8]  API instance that waits for the run, or ''
-- ARGV[9]  how long the idempotency record lives, ms; 0 for none
-- ARGV[10] fingerprint of the request
-- ARGV[11] most runs of the partition that may be open
-- ARGV[12] most runs of the flow that may be open
-- ARGV[13] delay, ms; 0 for none
-- ARGV[14] when it is due, ms since the epoch; 0 for not said
-- ARGV[15] name of the limit it counts against, or ''
-- ARGV[16] how many runs the limit lets execute at once
-- ARGV[17] what happens where the limit is reached: queue, skip, fail
-- ARGV[18] how long the record of a run that ends here is kept, ms
--
-- Returns {'accepted', state}; {'replayed', id} or {'other_body'} where the
-- idempotency key was used before; {'full', 'service' or 'flow', how many runs
-- are too many, how many have ended lately, within how many ms}. The same run id
-- again, after an answer that got lost, is accepted and changes nothing.
local run, record = KEYS[1], KEYS[2]
local id, queue, flow = ARGV[3], ARGV[4], ARGV[5]

local known = redis.call('HGET', run, 'state')
if known then return { 'accepted', known } end

local window_ms = tonumber(ARGV[9])
if window_ms > 0 then
  local earlier = redis.call('GET', record)
  if earlier then
    local first, fingerprint = string.match(earlier, '^(%S+) (%S*)$')
    -- A record that outlives its run speaks of nothing.
    if redis.call('EXISTS', run_key(first or '')) == 1 then
      if fingerprint == ARGV[10] then return { 'replayed', first } end
      return { 'other_body' }
    end
  end
end

local now = now_ms()

-- How fast runs end, of the flow or of all.
local function full(scope, open_runs, most)
  local count, span = 0, math.floor(now / SPAN_MS)
  for back = 0, SPANS - 1 do
    local key = prefix .. 'ended:' .. (span - back)
    local ended = scope == 'flow' and { redis.call('HGET', key, flow) } or redis.call('HVALS', key)
    for _, runs in ipairs(ended) do count = count + (tonumber(runs) or 0) end
  end
  return { 'full', scope, open_runs - most + 1, count, now % SPAN_MS + (SPANS - 1) * SPAN_MS }
end

local open_runs, most = redis.call('ZCARD', prefix .. 'open'), tonumber(ARGV[11])
if open_runs >= most then return full('service', open_runs, most) end
local of_flow, most_of_flow = tonumber(redis.call('HGET', prefix .. 'open:flows', flow)) or 0, tonumber(ARGV[12])
if of_flow >= most_of_flow then return full('flow', of_flow, most_of_flow) end

redis.call('HSET', run, 'queue', queue, 'flow', flow, 'version', ARGV[6], 'request', ARGV[7], 'created_at', now)
open(id, flow, now)
if ARGV[8] ~= '' then redis.call('HSET', run, 'waiters', ARGV[8]) end
if window_ms > 0 then redis.call('SET', record, id .. ' ' .. ARGV[10], 'PX', window_ms) end
local limited, when_full = ARGV[15], ARGV[17]
if limited ~= '' then
  redis.call('HSET', run, 'limited', limited, 'limit', ARGV[16])
  if when_full ~= 'queue' then redis.call('HSET', run, 'when_full', when_full) end
end

local due = math.max(now + tonumber(ARGV[13]), tonumber(ARGV[14]))
if due > now then
  delay(id, due)
  return { 'accepted', 'delayed' }
end
-- Whoever does not wait for room takes it at once, or others would find it too.
if limited ~= '' and when_full ~= 'queue' and not take_place(limited, tonumber(ARGV[16]), id) then
  return { 'accepted', turn_away(id, when_full, flow, ARGV[16], '', ARGV[18]) }
end
ready(id, queue)
return { 'accepted', 'queued' }
