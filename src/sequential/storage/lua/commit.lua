local id, token, seen = take(), take(), take()
local fields, text, ttl = take_fields(), take(), tonumber(take())
local requested, updated = take_calls(), take_calls()
local line, turn, data = take(), take_optional(), take()
local taken = set_of(take_list())

local before = load(id)
if not before then return { 'gone' } end
if before.last_commit == operation then return { 'ok' } end
if before.lease_token ~= token then return { 'lost' } end
local missing = missing_call(id, updated)
if missing then return { 'missing', missing } end

-- What has come from outside is not the step's to overwrite: see `core.journal.committed`.
if fields.set.status == 'suspended' and (before.answers or '0') ~= seen then
  fields.set.wake_at = fields.set.updated_at
end
if not fields.set.lease_token then table.insert(fields.unset, 'lease_until') end
if next(taken) then
  local kept = {}
  for known, event in (redis.call('HGET', key('run', id), 'events') or ''):gmatch('([^\t\n]*)(\t[^\n]*\n)') do
    if not taken[known] then kept[#kept + 1] = known .. event end
  end
  if #kept > 0 then
    fields.set.events = table.concat(kept)
  else
    table.insert(fields.unset, 'events')
  end
end
if fields.set.wake_at then
  for i = #fields.unset, 1, -1 do
    if fields.unset[i] == 'wake_at' then table.remove(fields.unset, i) end
  end
end
fields.set.last_commit = operation
local after = evolve(before, fields)
expect_run(id)
expect_programs()
local move = plan_move(before, after)

write_run(id, fields)
use_program(before.program, after.program, text)
for _, call in ipairs(requested) do put_call(id, call) end
for _, call in ipairs(updated) do put_call(id, call) end
if line ~= '' then redis.call('RPUSH', key('log', id), line) end
if turn then redis.call('HSET', key('snapshot', id), 'turn', turn, 'data', data) end
move_run(move)
schedule(before, after, ttl)
if after.status ~= 'running' then announce(id) end
return { 'ok' }
