local name = take()
if answered() then return { 'ok', answered() } end
if redis.call('HEXISTS', prefix .. 'tasks', name) == 0 then return { 'gone' } end
expect_programs()
sweep(1000000)
local runs, moves = {}, {}
for _, id in ipairs(redis.call('ZRANGE', key('task', name), 0, -1)) do
  local run = load(id)
  if run then
    if run.lease_token then return { 'busy', id } end
    expect_run(id)
    runs[#runs + 1] = run
    moves[#moves + 1] = plan_move(run, nil)
  end
end
for i, run in ipairs(runs) do
  for _, number in ipairs(redis.call('HKEYS', key('calls', run.id))) do
    redis.call('SREM', prefix .. 'pending', run.id .. ':' .. number)
  end
  move_run(moves[i])
  forget(run)
end
redis.call('HDEL', prefix .. 'tasks', name)
redis.call('DEL', key('task', name))
remember(#runs)
return { 'ok', tostring(#runs) }
