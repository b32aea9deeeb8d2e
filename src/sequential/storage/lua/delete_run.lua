local id = take()
local run = load(id)
if not run then return { answered() and 'ok' or 'gone' } end
if run.lease_token then return { 'busy' } end
expect_run(id)
expect_programs()
local move = plan_move(run, nil)
for _, number in ipairs(redis.call('HKEYS', key('calls', id))) do
  redis.call('SREM', prefix .. 'pending', id .. ':' .. number)
end
move_run(move)
forget(run)
remember('ok')
return { 'ok' }
