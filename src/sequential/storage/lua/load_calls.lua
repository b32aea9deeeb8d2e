local id, after = take(), take()
local numbers = redis.call('ZRANGEBYSCORE', key('turns', id), '(' .. after, '+inf')
local calls = {}
for first = 1, #numbers, 1000 do -- more do not fit into one command
  local last = math.min(first + 999, #numbers)
  local texts = redis.call('HMGET', key('calls', id), unpack(numbers, first, last))
  for _, text in ipairs(texts) do calls[#calls + 1] = text end
end
return { 'ok', calls }
