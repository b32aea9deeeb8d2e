-- Ids that begin alike, in order, after `after`.
local name, after, start, count = take(), take(), take(), tonumber(take())
sweep(200)
local first = after ~= '' and '(' .. after or '[' .. start
local found = redis.call('ZRANGEBYLEX', prefix .. name, first, '(' .. start .. '\255', 'LIMIT', 0, count)
local ids = {}
for _, id in ipairs(found) do
  if redis.call('EXISTS', key('run', id)) == 1 then ids[#ids + 1] = id end
end
return { 'ok', #found == count and found[count] or '', ids }
