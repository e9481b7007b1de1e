-- Puts another value in the place of a sealed one, if that is still there.
--
-- KEYS[1]  connections or secrets  HASH
-- ARGV[3]  name
-- ARGV[4]  the value that was there
-- ARGV[5]  the value to put there
--
-- Returns 1, or 0 if somebody changed or deleted it meanwhile (nothing is
-- changed then).
if redis.call('HGET', KEYS[1], ARGV[3]) ~= ARGV[4] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[5])
return 1
