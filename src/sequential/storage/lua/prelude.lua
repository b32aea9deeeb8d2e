-- What all scripts share. A script is this text and that of one operation, run by the server as one
-- command that nobody interrupts. The server does not take back what a script wrote before an
-- error, so a script first looks at everything it is going to touch, and only then writes.
--
-- ARGV: the prefix of the store, the id of this attempt (the same when it is repeated), the id of
-- the adapter; then what the operation takes. A list is its length and its items. Values are text
-- that nothing here reads, but for the few fields of a run that an operation decides on.

local prefix, operation, origin = ARGV[1], ARGV[2], ARGV[3]
local INLINE = 65536 -- bytes of a value that lists show
local REMEMBERED = 60 -- seconds for which the answer to a repeated operation is known
local FIELDS = {
  'status', 'task_identifier', 'parent_run_id', 'priority', 'turn', 'wake_at', 'updated_at',
  'lease_token', 'lease_until', 'answers', 'started_at', 'program', 'concurrency', 'creation',
  'last_claim', 'last_commit',
}
local FINAL = { completed = true, failed = true, cancelled = true }
local CLAIMABLE = { pending = true, running = true, suspended = true }

local cursor = 3
local function take()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function take_optional()
  local value = take()
  if value ~= '' then return value end
end
local function take_list()
  local items = {}
  for i = 1, tonumber(take()) do items[i] = take() end
  return items
end
local function take_fields() -- name, value, name, value ...; then the names of those without one
  local fields, items = {}, take_list()
  for i = 1, #items, 2 do fields[items[i]] = items[i + 1] end
  return { set = fields, unset = take_list() }
end
local function set_of(items)
  local set = {}
  for _, item in ipairs(items) do set[item] = true end
  return set
end

local function key(kind, name) return prefix .. kind .. ':' .. name end
local function keys_of(id)
  return { key('run', id), key('calls', id), key('turns', id), key('log', id), key('snapshot', id) }
end
local TYPES = { 'hash', 'hash', 'zset', 'list', 'hash' }

-- Stops the script, before it writes, if a key holds something that is not ours.
local function expect(kind, name)
  local found = redis.call('TYPE', name).ok
  if found ~= 'none' and found ~= kind then
    error('DAMAGED ' .. name .. ' is a ' .. found .. ' and should be a ' .. kind, 0)
  end
end
local function expect_run(id)
  for i, name in ipairs(keys_of(id)) do expect(TYPES[i], name) end
  expect('set', prefix .. 'pending')
end

-- The fields of a run that are decided on; nil when there is no such run.
local function load(id)
  local values = redis.call('HMGET', key('run', id), unpack(FIELDS))
  if not (values[1] and values[2]) then return nil end
  local run = { id = id }
  for i, name in ipairs(FIELDS) do run[name] = values[i] or nil end
  return run
end
local function whole(id) return redis.call('HGETALL', key('run', id)) end
local function evolve(run, fields)
  local after = {}
  for name, value in pairs(run) do after[name] = value end
  for name, value in pairs(fields.set) do after[name] = value end
  for _, name in ipairs(fields.unset) do after[name] = nil end
  return after
end

-- Where a run is found, as keys of sorted sets and members. A queue is ordered by a time, which
-- comes first in its members; a space is smaller than all that times are made of.
local function queue(kind, run, level, at)
  return { name = kind .. ':' .. level .. ':' .. run.task_identifier, member = at .. ' ' .. run.id }
end
local function places(run)
  local found = {
    { key = prefix .. 'ids', member = run.id },
    { key = key('task', run.task_identifier), member = run.id },
    { key = key('status', run.status), member = run.id },
  }
  if run.parent_run_id then
    found[#found + 1] = { key = key('children', run.parent_run_id), member = run.id }
  end
  local level = run.priority or '0'
  if run.status == 'running' then
    found[#found + 1] = queue('leased', run, '', run.lease_until or '')
    if run.wake_at then found[#found + 1] = queue('later', run, '', run.wake_at) end
  elseif run.wake_at and (run.status == 'pending' or run.status == 'suspended') then
    found[#found + 1] = queue('waiting', run, level, run.wake_at)
  elseif run.status == 'pending' then
    found[#found + 1] = queue('ready', run, level, run.updated_at or '')
  end
  for _, place in ipairs(found) do place.key = place.key or prefix .. place.name end
  return found
end

-- The move of a run, either end of which may be nil, from the places where it was to others.
local function plan_move(before, after)
  local old, move = {}, { leave = {}, enter = {} }
  for _, place in ipairs(before and places(before) or {}) do
    old[place.key .. '\n' .. place.member] = place
  end
  for _, place in ipairs(after and places(after) or {}) do
    local name = place.key .. '\n' .. place.member
    if old[name] then old[name] = nil else table.insert(move.enter, place) end
  end
  for _, place in pairs(old) do table.insert(move.leave, place) end
  for _, part in pairs(move) do
    for _, place in ipairs(part) do expect('zset', place.key) end
  end
  expect('set', prefix .. 'queues')
  expect('zset', prefix .. 'expiring')
  return move
end
local function move_run(move)
  for _, place in ipairs(move.enter) do
    redis.call('ZADD', place.key, 0, place.member)
    if place.name then redis.call('SADD', prefix .. 'queues', place.name) end
  end
  for _, place in ipairs(move.leave) do
    redis.call('ZREM', place.key, place.member)
    if place.name and redis.call('EXISTS', place.key) == 0 then
      redis.call('SREM', prefix .. 'queues', place.name)
    end
  end
end

-- Programs, by digest, with the number of runs that have them.
local function count_program(digest, change)
  local uses = prefix .. 'program_uses'
  local count = (tonumber(redis.call('HGET', uses, digest)) or 0) + change
  if count > 0 then
    redis.call('HSET', uses, digest, count)
  else
    redis.call('HDEL', uses, digest)
    redis.call('HDEL', prefix .. 'programs', digest)
  end
end
local function expect_programs()
  expect('hash', prefix .. 'programs')
  expect('hash', prefix .. 'program_uses')
end
local function use_program(before, digest, text)
  if not digest or before == digest then return end
  redis.call('HSETNX', prefix .. 'programs', digest, text)
  count_program(digest, 1)
  if before then count_program(before, -1) end
end

-- What has ended expires: all its keys at the same moment; what points to it is swept later.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function note_of(run)
  return table.concat({ run.id, run.task_identifier, run.parent_run_id or '', run.program or '' }, ' ')
end
local function schedule(before, after, ttl)
  local expiring, was, is = prefix .. 'expiring', before and FINAL[before.status], FINAL[after.status]
  if is and not was and ttl > 0 then
    local at = now_ms() + ttl
    for _, name in ipairs(keys_of(after.id)) do redis.call('PEXPIREAT', name, at) end
    redis.call('ZADD', expiring, at, note_of(after))
  elseif was and (not is or note_of(before) ~= note_of(after)) then
    local at = redis.call('ZSCORE', expiring, note_of(before))
    if not at then return end
    redis.call('ZREM', expiring, note_of(before))
    if is then
      redis.call('ZADD', expiring, at, note_of(after))
    else
      for _, name in ipairs(keys_of(after.id)) do redis.call('PERSIST', name) end
    end
  end
end
-- A key that is made after the run has ended goes when the run goes.
local function expire_with(id, name)
  local left = redis.call('PTTL', key('run', id))
  if left > 0 then redis.call('PEXPIRE', name, left) end
end
local function forget(run) -- errors do not stop it: what is left is found again
  for _, status in ipairs({ 'pending', 'running', 'suspended', 'paused', 'completed', 'failed', 'cancelled' }) do
    redis.pcall('ZREM', key('status', status), run.id)
  end
  redis.pcall('ZREM', prefix .. 'ids', run.id)
  redis.pcall('ZREM', key('task', run.task_identifier), run.id)
  if run.parent_run_id then redis.pcall('ZREM', key('children', run.parent_run_id), run.id) end
  redis.pcall('ZREM', prefix .. 'expiring', note_of(run))
  for _, name in ipairs(keys_of(run.id)) do redis.pcall('DEL', name) end
  if run.program then pcall(count_program, run.program, -1) end
end
local function sweep(limit)
  local over = redis.pcall('ZRANGEBYSCORE', prefix .. 'expiring', '-inf', now_ms(), 'LIMIT', 0, limit)
  for _, note in ipairs(over) do
    local id, task, parent, program = note:match('^(%S*) (%S*) (%S*) (%S*)$')
    local left = id and redis.pcall('PTTL', key('run', id)) -- -2: it is gone
    if left == -1 or not id then -- another run of this id was made since
      redis.pcall('ZREM', prefix .. 'expiring', note)
    elseif left == -2 then
      forget({
        id = id,
        task_identifier = task,
        parent_run_id = parent ~= '' and parent or nil,
        program = program ~= '' and program or nil,
      })
    end
  end
end

local function write_run(id, fields)
  local items = {}
  for name, value in pairs(fields.set) do
    items[#items + 1] = name
    items[#items + 1] = value
  end
  if #items > 0 then redis.call('HSET', key('run', id), unpack(items)) end
  if #fields.unset > 0 then redis.call('HDEL', key('run', id), unpack(fields.unset)) end
end

-- Calls: number, status, the turn they were delivered in, and the record as text.
local function take_calls()
  local calls, items = {}, take_list()
  for i = 1, #items, 4 do
    calls[#calls + 1] = { number = items[i], status = items[i + 1], turn = items[i + 2], text = items[i + 3] }
  end
  return calls
end
local function put_call(id, call)
  redis.call('HSET', key('calls', id), call.number, call.text)
  redis.call('ZADD', key('turns', id), call.turn ~= '' and call.turn or '+inf', call.number)
  local waiting = call.status == 'pending' and 'SADD' or 'SREM'
  redis.call(waiting, prefix .. 'pending', id .. ':' .. call.number)
end
local function drop_call(id, number)
  redis.call('HDEL', key('calls', id), number)
  redis.call('ZREM', key('turns', id), number)
  redis.call('SREM', prefix .. 'pending', id .. ':' .. number)
end
local function missing_call(id, calls)
  for _, call in ipairs(calls) do
    if redis.call('HEXISTS', key('calls', id), call.number) == 0 then return call.number end
  end
end

-- Nobody depends on being told, so a user who may not publish is no reason to stop.
local function announce(id) redis.pcall('PUBLISH', prefix .. 'changes', origin .. ' ' .. id) end

-- The answer that was given to this attempt before, if it is a repetition.
local function answered() return redis.call('GET', key('done', operation)) end
local function remember(answer) redis.call('SET', key('done', operation), answer, 'EX', REMEMBERED) end
