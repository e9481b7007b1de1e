-- Forgets consumers that hold nothing and have been silent for long. Deleting
-- a consumer that still holds entries would lose them, so this is the only
-- place that deletes one.
--
-- KEYS     queues               STREAM
-- ARGV[3]  how long a consumer must have been silent, ms
-- ARGV[4]  a consumer to forget however short it has been silent, or ''
--
-- Returns how many were forgotten.
local count = 0
for _, stream in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if not consumers.err then
    for _, fields in ipairs(consumers) do
      local about = by_name(fields)
      if about.pending == 0 and (about.name == ARGV[4] or about.idle >= tonumber(ARGV[3])) then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, about.name)
        count = count + 1
      end
    end
  end
end
return count
