-- Documents by key from behind `after` on, in ascending or descending order: keys and documents.
local collection, after, limit, is_newest = take(), take(), take(), take() == '1'
local names = key('document_keys', collection)
local found
if is_newest then
  local start = after ~= '' and '(' .. after or '+'
  found = redis.call('ZREVRANGEBYLEX', names, start, '-', 'LIMIT', 0, limit)
else
  local start = after ~= '' and '(' .. after or '-'
  found = redis.call('ZRANGEBYLEX', names, start, '+', 'LIMIT', 0, limit)
end
if #found == 0 then return { 'ok', {}, {} } end
return { 'ok', found, redis.call('HMGET', key('documents', collection), unpack(found)) }
