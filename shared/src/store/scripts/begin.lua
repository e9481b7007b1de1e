-- Makes a consumer the owner of the runs of entries that a blocking read
-- delivered to it.
--
-- KEYS     stream of each entry STREAM
-- ARGV[3]  consumer
-- ARGV[4]  lease of the consumer, ms
-- ARGV[5…] for each entry: its id, its run id ('' where it names none)
--
-- Returns a list of what `begin` answers, one for each run taken.
local claimed = {}
for i, stream in ipairs(KEYS) do
  local entry, id = ARGV[3 + 2 * i], ARGV[4 + 2 * i]
  -- A write that needs no memory comes first. It changes nothing but that the
  -- lease begins now.
  redis.call('XCLAIM', stream, group, ARGV[3], 0, entry, 'JUSTID')
  local run = begin(stream, ARGV[3], ARGV[4], entry, id ~= '' and id or nil, true)
  if run then claimed[#claimed + 1] = run end
end
return claimed
