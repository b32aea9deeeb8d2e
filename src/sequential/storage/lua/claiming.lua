-- For the scripts that look for work and take it.

-- Why a run cannot be claimed; nil if it can.
local function refusal(run, now)
  local is_leased = run.lease_until and run.lease_until > now
  if run.lease_token and is_leased then return 'busy' end
  if not CLAIMABLE[run.status] then return 'status' end
  if run.concurrency then
    local driven = redis.call('ZLEXCOUNT', key('leased', ':' .. run.task_identifier), '(' .. now .. '!', '+')
    if run.status == 'running' and is_leased then driven = driven - 1 end
    if driven >= tonumber(run.concurrency) then return 'limit' end
  end
end

local function lease(run, token, now, till)
  local fields = {
    set = {
      status = 'running',
      updated_at = now,
      started_at = run.started_at or now,
      lease_token = token,
      lease_until = till,
      last_claim = operation,
    },
    unset = {},
  }
  local move = plan_move(run, evolve(run, fields))
  write_run(run.id, fields)
  move_run(move)
end

-- The runs that are due: those of the highest priority first, then those that wait longest.
local function due(now, limit, wanted, unwanted)
  local found = {}
  for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'queues')) do
    local kind, level, task = name:match('^(%a+):(%-?%d*):(.*)$')
    local members = {}
    if kind and kind ~= 'later' and (not wanted or wanted[task]) and not unwanted[task] then
      local last = kind == 'ready' and '+' or '(' .. now .. '!'
      members = redis.call('ZRANGEBYLEX', prefix .. name, '-', last, 'LIMIT', 0, limit)
    end
    for _, member in ipairs(members) do
      local id = member:match('%S*$')
      local run = load(id)
      if run then
        run.level = tonumber(run.priority or '0')
        run.since = run.wake_at or run.updated_at or ''
        table.insert(found, run)
      else -- somebody has removed the run, but not from here
        redis.call('ZREM', prefix .. name, member)
      end
    end
  end
  table.sort(found, function(one, other)
    if one.level ~= other.level then return one.level > other.level end
    if one.since ~= other.since then return one.since < other.since end
    return one.id < other.id
  end)
  return found
end
local function take_tasks() -- whether there is a list of wanted ones, that list, the unwanted
  local is_limited = take() == '1'
  local wanted, unwanted = set_of(take_list()), set_of(take_list())
  return is_limited and wanted or nil, unwanted
end
