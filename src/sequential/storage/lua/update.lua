local id, fields, text, ttl = take(), take_fields(), take(), tonumber(take())
local before = load(id)
if not before then return { 'gone' } end
local after = evolve(before, fields)
expect_run(id)
expect_programs()
local move = plan_move(before, after)
write_run(id, fields)
use_program(before.program, after.program, text)
move_run(move)
schedule(before, after, ttl)
return { 'ok', whole(id) }
