-- Puts runs whose entries were delivered to a consumer, and which it does not
-- execute, back at the end of their queues, for another worker. An entry that
-- came although another worker has its run goes to that one.
--
-- KEYS     stream of each entry STREAM
-- ARGV[3]  consumer
-- ARGV[4]  lease of the consumer, ms
-- ARGV[5…] for each entry: its id, its run id
--
-- Returns how many were put back.
local count = 0
for i, stream in ipairs(KEYS) do
  local entry, id = ARGV[3 + 2 * i], ARGV[4 + 2 * i]
  local h = redis.pcall('HMGET', run_key(id), 'state', 'entry', 'queue', 'worker', 'epoch', 'claims')
  local ours = not h.err and h[2] == entry and stream == stream_key(h[3] or '')
  if ours and h[1] == 'running' and h[4] ~= ARGV[3] then
    redis.call('XCLAIM', stream, group, h[4], 0, entry, 'JUSTID')
  else
    drop(stream, entry)
  end
  if ours and h[1] == 'running' and h[4] == ARGV[3] then
    -- Claimed, but the answer got lost: no loss of a worker.
    redis.call('HSET', run_key(id), 'epoch', next_epoch(h[5]), 'claims', (tonumber(h[6]) or 1) - 1)
    ready(id, h[3])
    count = count + 1
  elseif ours and h[1] == 'queued' then
    ready(id, h[3])
    count = count + 1
  end
end
return count
