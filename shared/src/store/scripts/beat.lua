-- Renews the leases of runs. A lease is the idle time of the run's entry in
-- the list of pending entries, kept by Redis's own clock; claiming the entry
-- for its owner again sets it to zero. Only the owner may: a raw XCLAIM would
-- steal the run back from the worker that has it by now.
--
-- KEYS[1]  any key of the partition
-- ARGV[3]  consumer
-- ARGV[4…] for each run: its id, the epoch it was claimed with
--
-- Returns for each run 1 renewed, 2 renewed and asked to be cancelled, 0 lost.
local answers, entries = {}, {}
for i = 4, #ARGV, 2 do
  local h = redis.pcall('HMGET', run_key(ARGV[i]), 'epoch', 'state', 'cancel', 'entry', 'queue')
  if not h.err and h[1] == ARGV[i + 1] and h[2] == 'running' then
    local queue = h[5]
    entries[queue] = entries[queue] or {}
    table.insert(entries[queue], h[4])
    answers[#answers + 1] = h[3] and 2 or 1
  else
    answers[#answers + 1] = 0
  end
end
for queue, ids in pairs(entries) do
  local claim = { 'XCLAIM', stream_key(queue), group, ARGV[3], 0 }
  for _, entry in ipairs(ids) do claim[#claim + 1] = entry end
  claim[#claim + 1] = 'JUSTID'
  if mend_group(stream_key(queue), redis.pcall(unpack(claim))) then
    -- In a group that was made anew nobody holds anything yet.
    claim[#claim + 1] = 'FORCE'
    redis.call(unpack(claim))
  end
end
return answers
