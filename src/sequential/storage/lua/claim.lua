local id, token, now, till = take(), take(), take(), take()
local run = load(id)
if not run then return { 'gone' } end
if run.last_claim == operation and run.lease_token == token then return { 'ok', whole(id) } end
local why = refusal(run, now)
if why then return { why, run.status, run.task_identifier, run.lease_until or '' } end
lease(run, token, now, till)
return { 'ok', whole(id) }
