-- Takes up to so many runs off the queues, the first queue first.
--
-- KEYS     queues               STREAM, in the order to serve them
-- ARGV[3]  consumer
-- ARGV[4]  most runs to take
-- ARGV[5]  lease of the consumer, ms
--
-- Returns a list of what `begin` answers, one for each run taken.
local claimed, room = {}, tonumber(ARGV[4])
for _, stream in ipairs(KEYS) do
  if room <= 0 then break end
  -- An entry that leads to no run leaves its room to the next queue; what is
  -- behind it is for the next call, so that one call stays short.
  for _, entry in ipairs(deliver(stream, ARGV[3], room)) do
    local run = begin(stream, ARGV[3], ARGV[5], entry[1], run_of(entry[2]), false)
    if run then
      claimed[#claimed + 1] = run
      room = room - 1
    end
  end
end
return claimed
