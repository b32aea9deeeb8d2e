-- Task runs: made, read, changed, searched, removed.

create or replace function create_task_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run text := arguments->'run'->>'id';
begin
    perform _put_program(arguments->'program');
    insert into task_runs (
        id, task_identifier, status, input, result, error, created_at, updated_at, started_at,
        ended_at, turn, "where", wake_at, deadline, crashes, lease_token, lease_until, priority,
        parent_run_id, expires_at, failed_turn, answers, events, program, created_by
    )
    select
        r.id, r.task_identifier, r.status, r.input, r.result, r.error, r.created_at, r.updated_at,
        r.started_at, r.ended_at, r.turn, r."where", r.wake_at, r.deadline, r.crashes,
        r.lease_token, r.lease_until, r.priority, r.parent_run_id, r.expires_at, r.failed_turn,
        r.answers, r.events, r.program, arguments->>'request'
    from jsonb_populate_record(null::task_runs, arguments->'run') r
    on conflict (id) do nothing;
    if not found then
        perform from task_runs t where t.id = run and t.created_by = arguments->>'request';
        if not found then
            perform _refuse('409', 'run_exists', run);
        end if;
        return null;
    end if;
    if arguments ? 'payloads' then
        perform _put_payloads(run, arguments->'payloads');
    end if;
    return null;
end
$$;

create or replace function get_task_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return _run(arguments->>'id');
end
$$;

create or replace function update_task_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run text := arguments->>'id';
begin
    perform from task_runs t where t.id = run for update;
    if not found then
        perform _missing_run(run);
    end if;
    if _is_new(arguments) then
        perform _write_run(run, arguments);
    end if;
    return _run(run);
end
$$;

-- Write `changes`, `payloads` and, if it has changed, `program` of a run.
create or replace function _write_run(run text, arguments jsonb) returns void
language plpgsql as $$
begin
    if arguments->'changes' ?| array['input', 'result'] then
        delete from payloads p
        where p.task_run_id = run and p.record = run and arguments->'changes' ? p.field;
    end if;
    if arguments ? 'program' then
        perform _put_program(arguments->'program');
    end if;
    perform _change_run(run, arguments->'changes');
    if arguments ? 'payloads' then
        perform _put_payloads(run, arguments->'payloads');
    end if;
end
$$;

-- Runs, newest first, from behind the id `before` on. `filters` are lists of allowed values by
-- column; null stands for a column without a value.
create or replace function query_task_runs(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    ids text[];
begin
    execute format(
        'select array(select id from task_runs where %s %s order by id desc limit $2)',
        case when arguments->>'before' is null then 'true' else 'id < $1' end,
        _conditions('task_runs', arguments->'filters')
    ) into ids using arguments->>'before', (arguments->>'limit')::bigint;
    return _runs(ids, false);
end
$$;

-- The text of conditions on the columns of a table.
create or replace function _conditions(of_table regclass, filters jsonb) returns text
language plpgsql as $$
declare
    conditions text := '';
    condition text;
    name text;
    items jsonb;
    is_number boolean;
    wanted text[];
begin
    for name, items in select * from jsonb_each(filters) loop
        select atttypid in ('bigint'::regtype, 'numeric'::regtype) into strict is_number
        from pg_attribute where attrelid = of_table and attname = name and attnum > 0;
        wanted := array(
            select i #>> '{}' from jsonb_array_elements(items) i
            where jsonb_typeof(i) = case when is_number then 'number' else 'string' end
        );
        condition := case
            when is_number then format('%I = any(%L::numeric[])', name, wanted)
            when cardinality(wanted) = 1 then format('%I = %L', name, wanted[1])
            else format('%I = any(%L)', name, wanted)
        end;
        if items @> 'null' then
            condition := format('(%s or %I is null)', condition, name);
        end if;
        conditions := concat(conditions, ' and ', condition);
    end loop;
    return conditions;
end
$$;

create or replace function find_run_ids(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    prefix text := arguments->>'prefix';
begin
    return (
        select json_agg(t.id order by t.id) from task_runs t
        where t.id >= prefix and t.id < prefix || U&'\+10FFFF' and starts_with(t.id, prefix)
            and (arguments->>'task' is null or t.task_identifier = arguments->>'task')
    );
end
$$;

create or replace function delete_task_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run record;
begin
    if not _is_new(arguments) then
        return null;
    end if;
    select t.lease_token, t.program into run
    from task_runs t where t.id = arguments->>'id' for update;
    if not found then
        perform _missing_run(arguments->>'id');
    end if;
    if run.lease_token is not null then
        perform _refuse('409', 'run_busy', arguments->>'id');
    end if;
    delete from task_runs t where t.id = arguments->>'id';
    perform _drop_program(run.program);
    return null;
end
$$;

-- Remove a program that no run has any more.
create or replace function _drop_program(program text) returns void
language plpgsql as $$
begin
    -- Nobody can give it a run while it is locked, and what was given before is seen after that.
    perform from programs p where p.digest = program for update;
    delete from programs p
    where p.digest = program and not exists (select from task_runs t where t.program = p.digest);
end
$$;
