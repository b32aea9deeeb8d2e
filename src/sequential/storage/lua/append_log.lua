local id, line = take(), take()
if not load(id) then return { 'gone' } end
expect('list', key('log', id))
if not answered() then
  redis.call('RPUSH', key('log', id), line)
  expire_with(id, key('log', id))
  remember('ok')
end
return { 'ok' }
