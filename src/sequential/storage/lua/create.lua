local id, fields, text, ttl = take(), take_fields(), take(), tonumber(take())
local before = load(id)
if before then return { before.creation == operation and 'ok' or 'exists' } end
fields.set.creation = operation
local after = evolve({ id = id }, fields)
expect_run(id)
expect_programs()
local move = plan_move(nil, after)
sweep(20)
for _, name in ipairs(keys_of(id)) do redis.call('DEL', name) end
write_run(id, fields)
use_program(nil, after.program, text)
move_run(move)
schedule(nil, after, ttl)
announce(id)
return { 'ok' }
