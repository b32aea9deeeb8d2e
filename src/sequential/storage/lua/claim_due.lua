local token, now, till, limit = take(), take(), take(), tonumber(take())
local wanted, unwanted = take_tasks()
local claimed = {}
if answered() then
  for id in answered():gmatch('%S+') do
    local run = load(id)
    if run and run.lease_token == token then table.insert(claimed, id) end
  end
else
  local is_full
  repeat -- a task that is driven as often as it may be makes room for the others
    is_full = false
    for _, run in ipairs(due(now, limit - #claimed, wanted, unwanted)) do
      if #claimed == limit then break end
      local why = refusal(run, now)
      if not why then
        lease(run, token, now, till)
        table.insert(claimed, run.id)
      elseif why == 'limit' then
        unwanted[run.task_identifier] = true
        is_full = true
      end
    end
  until not is_full or #claimed == limit
  if #claimed > 0 then remember(table.concat(claimed, ' ')) end
end
local runs = {}
for i, id in ipairs(claimed) do runs[i] = { id, whole(id) } end
return { 'ok', runs }
