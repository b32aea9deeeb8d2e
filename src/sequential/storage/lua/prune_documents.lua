-- Remove documents with smaller keys, so many at once that the server is not kept from others.
local collection, before, limit = take(), take(), take()
local documents, names = key('documents', collection), key('document_keys', collection)
expect('hash', documents)
expect('zset', names)
if answered() then return { 'ok', answered() } end
local found = redis.call('ZRANGEBYLEX', names, '-', '(' .. before, 'LIMIT', 0, limit)
if #found > 0 then
  redis.call('HDEL', documents, unpack(found))
  redis.call('ZREM', names, unpack(found))
end
remember(#found)
return { 'ok', tostring(#found) }
