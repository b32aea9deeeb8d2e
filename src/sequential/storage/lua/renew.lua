local id, token, till = take(), take(), take()
local before = load(id)
if not before then return { 'gone' } end
if before.lease_token ~= token then return { 'lost' } end
local fields = { set = { lease_until = till }, unset = {} }
local move = plan_move(before, evolve(before, fields))
write_run(id, fields)
move_run(move)
return { 'ok', before.answers or '0' }
