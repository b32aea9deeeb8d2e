local id, token = take(), take()
local before = load(id)
if not before or before.lease_token ~= token then return { 'ok' } end
local fields = { set = {}, unset = { 'lease_token', 'lease_until' } }
local move = plan_move(before, evolve(before, fields))
write_run(id, fields)
move_run(move)
return { 'ok' }
