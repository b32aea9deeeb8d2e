-- Create a call; or replace it, if it still is the text that the caller has seen.
local id, expected = take(), take()
local call = take_calls()[1]
if not load(id) then return { 'gone' } end
expect_run(id)
if expected ~= '' then
  local found = redis.call('HGET', key('calls', id), call.number)
  if not found then return { 'missing', call.number } end
  if found ~= expected and found ~= call.text then return { 'changed' } end
end
put_call(id, call)
expire_with(id, key('calls', id))
expire_with(id, key('turns', id))
return { 'ok' }
