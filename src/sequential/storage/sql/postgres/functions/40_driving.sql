-- Driving a run: claim, renew, commit, release; and amend, a change from outside.

create or replace function _lock_task(task text) returns bigint
language sql stable as $$
    select hashtextextended(concat(current_schema(), '.', task), 0)
$$;

create or replace function _driven(task text, moment text, other_than text) returns bigint
language plpgsql set plan_cache_mode = force_custom_plan as $$
begin
    return (
        select count(*) from task_runs t
        where t.task_identifier = task and t.leased_until > moment and t.id <> other_than
    );
end
$$;

create or replace function _take(run text, arguments jsonb) returns void
language plpgsql as $$
begin
    update task_runs t set
        status = 'running',
        lease_token = arguments->>'token',
        lease_until = arguments->>'until',
        started_at = coalesce(t.started_at, arguments->>'now'),
        updated_at = arguments->>'now',
        claimed_by = arguments->>'request'
    where t.id = run;
end
$$;

create or replace function claim(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run text := arguments->>'id';
    moment text := arguments->>'now';
    stored record;
begin
    select t.status, t.task_identifier, t.lease_token, t.lease_until, t.claimed_by, p.concurrency
    into stored
    from task_runs t left join programs p on p.digest = t.program where t.id = run for update of t;
    if not found then
        perform _missing_run(run);
    elsif stored.claimed_by = arguments->>'request' then
        return _run(run);
    elsif stored.lease_token is not null and stored.lease_until > moment then
        perform _refuse('409', 'run_leased', stored.lease_until);
    elsif stored.status not in ('pending', 'running', 'suspended') then
        perform _refuse('409', 'invalid_transition', stored.status);
    end if;
    if stored.concurrency is not null then
        -- A lock of the task's, after that of the row, as in claim_due.
        perform pg_advisory_xact_lock(_lock_task(stored.task_identifier));
        if _driven(stored.task_identifier, moment, run) >= stored.concurrency then
            perform _refuse('409', 'task_limit', stored.task_identifier);
        end if;
    end if;
    perform _take(run, arguments);
    return _run(run);
end
$$;

-- Claim runs that are due and that nobody else is claiming at the moment.
create or replace function claim_due(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    moment text := arguments->>'now';
    most bigint := arguments->>'limit';
    tasks text[] := _texts(arguments->'tasks');
    without text[] := _texts(arguments->'without');
    is_first boolean := true;
    is_full boolean;
    claimed text[] := '{}';
    ids text[];
    candidate record;
begin
    if arguments ? 'repeated' then
        claimed := array(
            select t.id from task_runs t
            where t.leased_until is not null and t.claimed_by = arguments->>'request'
        );
        if cardinality(claimed) > 0 then
            return _runs(claimed, true);
        end if;
    end if;
    loop
        execute _due('for update skip locked') into ids
        using moment, most - cardinality(claimed), tasks, without;
        if is_first then  -- in order, so that no two who do this wait for each other
            perform pg_advisory_xact_lock(_lock_task(limited.task))
            from (
                select distinct t.task_identifier as task
                from task_runs t join programs p on p.digest = t.program
                where t.id = any(ids) and p.concurrency is not null order by 1
            ) limited;
        end if;
        is_full := false;
        for candidate in
            select t.id, t.task_identifier as task, p.concurrency
            from unnest(ids) with ordinality due (id, number)
            join task_runs t on t.id = due.id join programs p on p.digest = t.program
            order by due.number
        loop
            continue when candidate.task = any(without);
            if candidate.concurrency is not null and (
                not (is_first or pg_try_advisory_xact_lock(_lock_task(candidate.task)))
                or _driven(candidate.task, moment, candidate.id) >= candidate.concurrency
            ) then
                without := without || candidate.task;
                is_full := true;
            else
                perform _take(candidate.id, arguments);
                claimed := claimed || candidate.id;
            end if;
        end loop;
        -- A task that has reached its limit may stand in front of others that have not.
        exit when not is_full or cardinality(claimed) >= most;
        is_first := false;
    end loop;
    return _runs(claimed, true);
end
$$;

create or replace function renew(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    found_answers bigint;
begin
    update task_runs t set lease_until = arguments->>'until'
    where t.id = arguments->>'id' and t.lease_token = arguments->>'token'
    returning t.answers into found_answers;
    if not found then
        perform _not_held(arguments->>'id');
    end if;
    return to_json(found_answers);
end
$$;

create or replace function _not_held(run text) returns void
language plpgsql as $$
begin
    perform from task_runs t where t.id = run;
    if not found then
        perform _missing_run(run);
    end if;
    perform _refuse('409', 'lease_lost', run);
end
$$;

create or replace function release(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    update task_runs t set lease_token = null, lease_until = null
    where t.id = arguments->>'id' and t.lease_token = arguments->>'token';
    return null;
end
$$;

-- Write one step. `changes` are columns of the run, with `committed_by`, the id of this request;
-- `answers` is how many answers from outside the step has seen. What became of the row is what
-- `core.journal.committed` says.
create or replace function commit(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run text := arguments->>'id';
    changes jsonb := arguments->'changes';
    stored record;
begin
    select t.lease_token, t.committed_by, t.answers, t.events
    into stored from task_runs t where t.id = run for update;
    if stored.committed_by = changes->>'committed_by' then
        return null;
    elsif stored.lease_token is distinct from arguments->>'token' then
        perform _not_held(run);
    end if;
    if changes->>'status' = 'suspended' and stored.answers <> (arguments->>'answers')::bigint then
        changes := changes || jsonb_build_object('wake_at', changes->'updated_at');
    end if;
    if arguments ? 'taken' and stored.events is not null then
        changes := changes
            || jsonb_build_object('events', _events_left(stored.events, arguments->'taken'));
    end if;
    if arguments ? 'program' then
        perform _put_program(arguments->'program');
    end if;
    perform _change_run(run, changes);
    if arguments ? 'requested' then
        perform _put_calls(arguments->'requested');
    end if;
    if arguments ? 'updated' then
        perform _change_calls(run, arguments->'updated');
    end if;
    if arguments ? 'payloads' then
        perform _put_payloads(run, arguments->'payloads');
    end if;
    if arguments ? 'log' then
        insert into logs (task_run_id, at, text)
        values (run, changes->>'updated_at', arguments->>'log');
    end if;
    if arguments ? 'snapshot' then
        perform _put_snapshot(run, arguments->'snapshot');
    end if;
    return null;
end
$$;

-- Change a run from outside, if it still is what the caller has seen.
create or replace function amend(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run text := arguments->>'id';
    stored record;
begin
    select t.status, t.turn, t.lease_token, t.answers
    into stored from task_runs t where t.id = run for update;
    if not found then
        perform _missing_run(run);
    end if;
    if not _is_new(arguments) then
        return _run(run);
    end if;
    if (stored.status, stored.turn, stored.answers)
        <> (arguments->>'status', (arguments->>'turn')::bigint, (arguments->>'answers')::bigint)
        or stored.lease_token is distinct from arguments->>'token'
    then
        perform _refuse('409', 'run_changed', run);
    end if;
    if arguments ? 'updated' then
        perform _drop_payloads(run, arguments->'updated');
        perform _change_calls(run, arguments->'updated');
    end if;
    if arguments ? 'dropped' then
        perform _drop_calls(run, arguments->'dropped');
    end if;
    perform _write_run(run, arguments);
    return _run(run);
end
$$;
