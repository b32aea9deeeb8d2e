-- Runs, newest first, from some of the sets that list them, without their large values: at most
-- `count`, and so many of them looked at that the server is not kept from others for long.
local before, count, budget = take(), tonumber(take()), tonumber(take())
local sets, filters = take_list(), {}
for _, name in ipairs(take_list()) do filters[name] = set_of(take_list()) end
sweep(200)

local ids, is_over = {}, true
for _, name in ipairs(sets) do
  local newest = before ~= '' and '(' .. before or '+'
  local found = redis.call('ZREVRANGEBYLEX', prefix .. name, newest, '-', 'LIMIT', 0, budget)
  if #found == budget then is_over = false end
  for _, id in ipairs(found) do ids[#ids + 1] = id end
end
table.sort(ids, function(one, other) return one > other end)

local function shown(id)
  local run = key('run', id)
  local large = {}
  for _, name in ipairs({ 'input', 'result' }) do
    local size = redis.call('HSTRLEN', run, name)
    if size > INLINE then large[name] = '{"$payload":{"size":' .. size .. '}}' end
  end
  if not next(large) then return whole(id) end
  local items = {}
  for _, name in ipairs(redis.call('HKEYS', run)) do
    items[#items + 1] = name
    items[#items + 1] = large[name] or redis.call('HGET', run, name)
  end
  return items
end

local runs, last, looked = {}, '', 0
for _, id in ipairs(ids) do
  if #runs == count or looked == budget then
    is_over = false
    break
  end
  if id ~= last then
    looked = looked + 1
    last = id
    local run = redis.call('TYPE', key('run', id)).ok == 'hash' and load(id)
    local fits = run
    for name, wanted in pairs(filters) do
      fits = fits and wanted[run[name] or '']
    end
    if fits then runs[#runs + 1] = { id, shown(id) } end
    if not run and redis.call('EXISTS', key('run', id)) == 0 then
      for _, name in ipairs(sets) do redis.call('ZREM', prefix .. name, id) end
    end
  end
end
return { 'ok', is_over and '' or last, runs }
