-- Set or remove a field of a hash, if it still has the value that the caller has seen.
local name, field = take(), take()
local has_old, old, has_new, new = take(), take(), take(), take()
expect('hash', prefix .. name)
local found = redis.call('HGET', prefix .. name, field)
if answered() then return { 'ok' } end
if (found and '1' or '0') ~= has_old or (found or '') ~= old then return { 'changed' } end
if has_new == '1' then
  redis.call('HSET', prefix .. name, field, new)
else
  redis.call('HDEL', prefix .. name, field)
end
remember('ok')
return { 'ok' }
