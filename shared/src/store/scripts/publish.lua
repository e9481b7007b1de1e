-- Publishes a flow as a new version. The very text of the latest version again
-- is that version.
--
-- KEYS[1]  flow                 HASH
-- ARGV[3]  the flow, JSON
-- ARGV[4]  its text as the author wrote it
-- ARGV[5]  digest of that text
--
-- Returns {version, 1 if the flow was not there before, otherwise 0}.
local flow = KEYS[1]
local latest = tonumber(redis.call('HGET', flow, 'latest')) or 0
if latest > 0 and redis.call('HGET', flow, 'digest:' .. latest) == ARGV[5] then
  return { latest, 0 }
end
local version = latest + 1
redis.call('HSET', flow, 'latest', version, 'flow:' .. version, ARGV[3],
  'source:' .. version, ARGV[4], 'digest:' .. version, ARGV[5])
return { version, latest == 0 and 1 or 0 }
