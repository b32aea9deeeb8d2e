local now = take()
local wanted = take_tasks()
local first
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
  local kind, task = name:match('^(%a+):%-?%d*:(.*)$')
  if (kind == 'waiting' or kind == 'later') and (not wanted or wanted[task]) then
    local member = redis.call('ZRANGEBYLEX', prefix .. name, '(' .. now .. '!', '+', 'LIMIT', 0, 1)[1]
    local at = member and member:match('^(.*) %S*$')
    if at and (not first or at < first) then first = at end
  end
end
return { 'ok', first }
