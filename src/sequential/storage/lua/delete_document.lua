local collection, name = take(), take()
local documents, names = key('documents', collection), key('document_keys', collection)
expect('hash', documents)
expect('zset', names)
if answered() then return { 'ok', answered() } end
local removed = redis.call('HDEL', documents, name)
redis.call('ZREM', names, name)
remember(removed)
return { 'ok', tostring(removed) }
