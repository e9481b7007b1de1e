-- Registers an API process with a run that it waits for. Check and
-- registration are one step: a run cannot end in between unnoticed.
--
-- KEYS[1]  run                  HASH
-- ARGV[3]  API instance
--
-- Returns {state, flow}, or {} where there is no such run. Registered is only
-- a run that has not ended.
local h = redis.call('HMGET', KEYS[1], 'state', 'flow', 'waiters')
if not h[1] then return {} end
if not FINAL[h[1]] then
  local waiters = h[3] or ''
  if not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[3] .. ' ', 1, true) then
    write_anyhow()
    redis.call('HSET', KEYS[1], 'waiters', waiters == '' and ARGV[3] or waiters .. ' ' .. ARGV[3])
  end
end
return { h[1], h[2] or '' }
