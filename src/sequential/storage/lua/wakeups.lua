local now, limit = take(), tonumber(take())
local ids = {}
for i, run in ipairs(due(now, limit, take_tasks())) do
  if i > limit then break end
  ids[i] = run.id
end
return { 'ok', ids }
