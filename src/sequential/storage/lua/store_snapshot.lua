local id, turn, data = take(), take(), take()
if not load(id) then return { 'gone' } end
expect('hash', key('snapshot', id))
redis.call('HSET', key('snapshot', id), 'turn', turn, 'data', data)
expire_with(id, key('snapshot', id))
return { 'ok' }
