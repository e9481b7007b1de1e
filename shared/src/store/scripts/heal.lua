-- Looks whether runs that have not ended are where their state says, and puts
-- those that are not where they can go on. Only somebody from outside can have
-- brought that about: who deleted a stream, a group, a consumer, a list.
--
-- KEYS[1]  open                 ZSET
-- ARGV[3]  'heal', or 'look' to change nothing
-- ARGV[4…] for each run: its id, its flow or ''
--
-- Returns {id, what was wrong} for each run with which something was wrong, or
-- {flow, what was wrong} where its open runs were miscounted: that is looked at
-- where no run is named.
local healing = ARGV[3] == 'heal'
mends = healing
if healing then write_anyhow() end
local found = {}

-- Whether the first of two entry ids comes before or is the second.
local function is_up_to(entry, last)
  local ms, number = string.match(entry, '^(%d+)-(%d+)$')
  local last_ms, last_number = string.match(last, '^(%d+)-(%d+)$')
  ms, number = tonumber(ms), tonumber(number)
  last_ms, last_number = tonumber(last_ms), tonumber(last_number)
  return ms < last_ms or (ms == last_ms and number <= last_number)
end

-- The last entry of a stream that its group has delivered; nil without a group.
local delivered = {}
local function last_delivered(stream)
  if delivered[stream] == nil then
    delivered[stream] = false
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    for _, fields in ipairs(groups.err and {} or groups) do
      local about = by_name(fields)
      if about.name == group then delivered[stream] = about['last-delivered-id'] end
    end
  end
  return delivered[stream] or nil
end

local function requeue(id, h)
  -- Whoever has executed it may go on no more.
  redis.call('HSET', run_key(id), 'epoch', next_epoch(h[8]))
  if h[2] and h[2] ~= '' then drop(stream_key(h[3]), h[2]) end
  ready(id, h[3])
end

-- What is wrong with a queued or running run; mends it where asked.
local function check_entry(id, h)
  local stream, entry = stream_key(h[3]), h[2] or ''
  local there = entry ~= '' and redis.pcall('XRANGE', stream, entry, entry) or {}
  if there.err or #there == 0 then
    if healing then requeue(id, h) end
    return 'its entry was gone'
  end
  local last = last_delivered(stream)
  if not last or not is_up_to(entry, last) then
    -- It is still to be delivered, or comes again since the group was made anew.
    return nil
  end
  local pending = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  if pending.err or #pending > 0 then return nil end
  if healing then
    if h[1] == 'queued' then requeue(id, h)
    else redis.call('XCLAIM', stream, group, h[9], 0, entry, 'FORCE', 'JUSTID') end
  end
  return 'nobody was to have its entry'
end

local function check_parked(id, h)
  if not redis.call('ZSCORE', line_key(h[4]), id) then
    if healing then ready(id, h[3]) end
    return 'it stood in no line'
  end
  if healing then free_lost_places(h[4]) end
  if redis.call('SCARD', places_key(h[4])) < (tonumber(h[5]) or 0) then
    if healing then hand_on(h[4]) end
    return 'it waited although there was room'
  end
end

local function check(id, flow)
  local h = redis.pcall('HMGET', run_key(id), 'state', 'entry', 'queue', 'limited', 'limit',
    'due_at', 'flow', 'epoch', 'worker')
  if h.err or not h[1] then
    if healing then close(id, flow) bury(id, 'there is no record of the run') end
    return 'its record was gone'
  end
  if FINAL[h[1]] then
    if redis.call('ZSCORE', KEYS[1], id .. ' ' .. (h[7] or '')) then
      if healing then close(id, h[7] or '') end
      return 'it had ended and counted as open'
    end
    return nil
  end
  if not h[3] or (h[1] == 'parked' and not h[4]) then return 'its record lacks what it needs' end
  local counted = redis.call('ZSCORE', KEYS[1], id .. ' ' .. (h[7] or ''))
  if not counted and healing then open(id, h[7] or '', now_ms()) end
  local wrong
  if h[1] == 'delayed' then
    if not redis.call('ZSCORE', prefix .. 'delayed', id) then
      if healing then redis.call('ZADD', prefix .. 'delayed', tonumber(h[6]) or now_ms(), id) end
      wrong = 'nobody was to queue it when it is due'
    end
  elseif h[1] == 'parked' then wrong = check_parked(id, h)
  else wrong = check_entry(id, h) end
  return wrong or (not counted and 'it did not count as open') or nil
end

for i = 4, #ARGV, 2 do
  local went, wrong = pcall(check, ARGV[i], ARGV[i + 1])
  if not went then wrong = 'it cannot be looked at: ' .. said(wrong) end
  if wrong then found[#found + 1] = { ARGV[i], wrong } end
end
if #ARGV > 3 then return found end

-- The counts of open runs by their flows: counted anew where the sum is wrong.
local flows = typed(prefix .. 'open:flows', 'hash')
local sum = 0
for _, count in ipairs(redis.call('HVALS', flows)) do sum = sum + (tonumber(count) or 0) end
if sum == redis.call('ZCARD', KEYS[1]) then return found end
local should, is = {}, by_name(redis.call('HGETALL', flows))
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local flow = string.match(member, '^%S+ (.*)$') or ''
  should[flow] = (should[flow] or 0) + 1
end
for flow, count in pairs(is) do
  if tonumber(count) ~= (should[flow] or 0) then
    found[#found + 1] = { flow, count .. ' of its runs counted as open, ' .. (should[flow] or 0) .. ' are' }
  end
end
for flow, count in pairs(should) do
  if not is[flow] then found[#found + 1] = { flow, '0 of its runs counted as open, ' .. count .. ' are' } end
end
if healing then
  redis.call('DEL', flows)
  for flow, count in pairs(should) do redis.call('HSET', flows, flow, count) end
end
return found
