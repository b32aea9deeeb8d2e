-- Create or replace a document if it has the version that is wanted: 0 for none, '' for any.
local collection, name, text, wanted = take(), take(), take(), take()
local documents, names = key('documents', collection), key('document_keys', collection)
expect('hash', documents)
expect('zset', names)
if answered() then return { 'ok', answered() } end
local found = redis.call('HGET', documents, name)
local version = found and tonumber(found:match('^%d+')) or 0
if wanted ~= '' and tonumber(wanted) ~= version then
  return { 'changed', string.format('%d', version) }
end
local new = string.format('%d', version + 1)
redis.call('HSET', documents, name, new .. ' ' .. text)
redis.call('ZADD', names, 0, name)
remember(new)
return { 'ok', new }
