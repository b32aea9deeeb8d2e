local id, status, turn, has_token, token, answers = take(), take(), take(), take(), take(), take()
local fields, text, ttl = take_fields(), take(), tonumber(take())
local updated, dropped = take_calls(), take_list()

local before = load(id)
if not before then return { 'gone' } end
if answered() then return { 'ok', whole(id) } end
local held = before.lease_token
if before.status ~= status
  or (before.turn or '0') ~= turn
  or (before.answers or '0') ~= answers
  or (held and '1' or '0') ~= has_token
  or (held or '') ~= token
then
  return { 'changed' }
end
local missing = missing_call(id, updated)
if missing then return { 'missing', missing } end
local after = evolve(before, fields)
expect_run(id)
expect_programs()
local move = plan_move(before, after)

write_run(id, fields)
use_program(before.program, after.program, text)
for _, call in ipairs(updated) do put_call(id, call) end
for _, number in ipairs(dropped) do drop_call(id, number) end
move_run(move)
schedule(before, after, ttl)
announce(id)
remember('ok')
return { 'ok', whole(id) }
