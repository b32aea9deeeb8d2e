-- What the other functions are made of. Their names begin with "_"; nobody calls them from outside.
--
-- Those that are called from outside take one JSON object, `arguments`, and answer in JSON. They
-- run with the rights of their owner, so that whoever may execute them needs no right on tables,
-- and with the store's own schema as the search path ("from current"), whatever the caller's is.
-- They rely on nothing but their arguments and the tables: any connection may carry any call.
--
-- A connection keeps the plan of a statement, which it may have made while a table was empty; so
-- plans that read whole tables are off, and where several indexes come into question, the plan is
-- made anew each time ("force_custom_plan"). A plan for a list is made anew as well, unless it is
-- kept on purpose ("force_generic_plan"): that costs more than to carry it out.
--
-- A refusal is an exception. Its SQLSTATE begins with "PT", then comes an HTTP status; its message
-- is the stable code of the error, its detail what is to be known about it.

create or replace function _refuse(status text, code text, detail text default '') returns void
language plpgsql as $$
begin
    raise exception using errcode = 'PT' || status, message = code, detail = detail;
end
$$;

create or replace function _texts(items jsonb) returns text[]
language sql immutable as $$
    select case when jsonb_typeof(items) = 'array'
        then array(select jsonb_array_elements_text(items)) end
$$;

-- Whether this request is carried out for the first time. It waits for one that is in progress.
create or replace function _is_new(arguments jsonb) returns boolean
language plpgsql as $$
begin
    if random() < 0.1 then  -- that is often enough
        delete from requests where id in (
            select id from requests where at < now() - interval '1 hour'
            limit 100 for update skip locked  -- nobody waits for this
        );
    end if;
    insert into requests (id) values (arguments->>'request') on conflict do nothing;
    return found;
end
$$;

create or replace function _put_program(program jsonb) returns void
language plpgsql as $$
begin
    -- Whoever deletes the last run of a program deletes the program: lock it, or make it again.
    loop
        perform from programs where digest = program->>0 for key share;
        exit when found or program is null;
        insert into programs values
            (program->>0, program->>1, program->>2, program->>3, (program->>4)::bigint)
        on conflict do nothing;
    end loop;
end
$$;

create or replace function _put_payloads(run text, payloads jsonb) returns void
language plpgsql as $$
begin
    insert into payloads
    select run, p->>0, p->>1, p->>2 from jsonb_array_elements(payloads) p
    on conflict (task_run_id, record, field) do update set value = excluded.value;
end
$$;

-- Give some columns of a run other values. A column that is left out keeps what it has: a large
-- value is not even read. What a step or an answer from outside changes is in the first statement;
-- most have no second.
create or replace function _change_run(run text, c jsonb) returns void
language plpgsql as $$
begin
    update task_runs t set
        status = coalesce(c->>'status', t.status),
        updated_at = coalesce(c->>'updated_at', t.updated_at),
        turn = coalesce((c->>'turn')::bigint, t.turn),
        "where" = case when c ? 'where' then c->>'where' else t."where" end,
        wake_at = case when c ? 'wake_at' then c->>'wake_at' else t.wake_at end,
        lease_token = case when c ? 'lease_token' then c->>'lease_token' else t.lease_token end,
        lease_until = case when c ? 'lease_until' then c->>'lease_until' else t.lease_until end,
        committed_by = coalesce(c->>'committed_by', t.committed_by),
        answers = coalesce((c->>'answers')::bigint, t.answers),
        events = case when c ? 'events' then c->>'events' else t.events end
    where t.id = run;
    if c ?| array['task_identifier', 'input', 'result', 'error', 'created_at', 'started_at',
        'ended_at', 'deadline', 'crashes', 'priority', 'parent_run_id', 'expires_at', 'failed_turn',
        'program']
    then
        update task_runs t set
            task_identifier = coalesce(c->>'task_identifier', t.task_identifier),
            input = case when c ? 'input' then c->>'input' else t.input end,
            result = case when c ? 'result' then c->>'result' else t.result end,
            error = case when c ? 'error' then c->>'error' else t.error end,
            created_at = coalesce(c->>'created_at', t.created_at),
            started_at = case when c ? 'started_at' then c->>'started_at' else t.started_at end,
            ended_at = case when c ? 'ended_at' then c->>'ended_at' else t.ended_at end,
            deadline = case when c ? 'deadline' then c->>'deadline' else t.deadline end,
            crashes = coalesce((c->>'crashes')::bigint, t.crashes),
            priority = coalesce((c->>'priority')::bigint, t.priority),
            parent_run_id =
                case when c ? 'parent_run_id' then c->>'parent_run_id' else t.parent_run_id end,
            expires_at = case when c ? 'expires_at' then c->>'expires_at' else t.expires_at end,
            failed_turn = case when c ? 'failed_turn'
                then (c->>'failed_turn')::bigint else t.failed_turn end,
            program = coalesce(c->>'program', t.program)
        where t.id = run;
    end if;
end
$$;

-- Write whole calls, new or not.
create or replace function _put_calls(calls jsonb) returns void
language plpgsql as $$
begin
    insert into stack_runs select * from jsonb_populate_recordset(null::stack_runs, calls)
    on conflict (task_run_id, sequence) do update set
        operation = excluded.operation,
        status = excluded.status,
        input = excluded.input,
        result = excluded.result,
        error = excluded.error,
        parent_stack_run_id = excluded.parent_stack_run_id,
        created_at = excluded.created_at,
        updated_at = excluded.updated_at,
        fingerprint = excluded.fingerprint,
        attempts = excluded.attempts,
        due_at = excluded.due_at,
        duration = excluded.duration,
        size = excluded.size,
        "where" = excluded."where",
        requested_turn = excluded.requested_turn,
        delivered_turn = excluded.delivered_turn,
        delivered_order = excluded.delivered_order,
        delivered_at = excluded.delivered_at;
end
$$;

-- Give some columns of calls other values; each names its `sequence` and must be there. What an
-- answer changes is in the first statement.
create or replace function _change_calls(run text, calls jsonb) returns void
language plpgsql as $$
declare
    c jsonb;
    number bigint;
begin
    for c in select * from jsonb_array_elements(calls) loop
        number := c->'sequence';
        update stack_runs s set
            status = coalesce(c->>'status', s.status),
            result = case when c ? 'result' then c->>'result' else s.result end,
            error = case when c ? 'error' then c->>'error' else s.error end,
            updated_at = coalesce(c->>'updated_at', s.updated_at),
            attempts = coalesce((c->>'attempts')::bigint, s.attempts),
            due_at = case when c ? 'due_at' then c->>'due_at' else s.due_at end,
            duration =
                case when c ? 'duration' then (c->>'duration')::numeric else s.duration end,
            size = case when c ? 'size' then (c->>'size')::bigint else s.size end,
            delivered_turn = case when c ? 'delivered_turn'
                then (c->>'delivered_turn')::bigint else s.delivered_turn end,
            delivered_order = case when c ? 'delivered_order'
                then (c->>'delivered_order')::bigint else s.delivered_order end,
            delivered_at =
                case when c ? 'delivered_at' then c->>'delivered_at' else s.delivered_at end
        where s.task_run_id = run and s.sequence = number;
        if not found then
            perform _refuse('404', 'no_such_call', run);
        end if;
        if c ?| array['operation', 'input', 'parent_stack_run_id', 'created_at', 'fingerprint',
            'where', 'requested_turn']
        then
            update stack_runs s set
                operation = coalesce(c->>'operation', s.operation),
                input = case when c ? 'input' then c->>'input' else s.input end,
                parent_stack_run_id = case when c ? 'parent_stack_run_id'
                    then c->>'parent_stack_run_id' else s.parent_stack_run_id end,
                created_at = coalesce(c->>'created_at', s.created_at),
                fingerprint = coalesce(c->>'fingerprint', s.fingerprint),
                "where" = case when c ? 'where' then c->>'where' else s."where" end,
                requested_turn = coalesce((c->>'requested_turn')::bigint, s.requested_turn)
            where s.task_run_id = run and s.sequence = number;
        end if;
    end loop;
end
$$;

-- The texts of the events that are left when some have been taken; null when none is. An event is
-- passed on as it is written.
create or replace function _events_left(events text, taken jsonb) returns text
language plpgsql as $$
begin
    return (
        select '[' || string_agg(event::text, ',' order by number) || ']'
        from json_array_elements(events::json) with ordinality e (event, number)
        where not taken ? (_without_nul(event::text)::json->>'id')
    );
end
$$;

-- JSON text with its characters \u0000 and \u001a written as they are in arguments, where there is
-- no NUL. Those that follow an odd number of backslashes are meant literally.
create or replace function _without_nul(value text) returns text
language sql immutable as $$
    select regexp_replace(
        regexp_replace(value, '(?<!\\)((?:\\\\)*)\\u001a', '\1\\u001a1', 'g'),
        '(?<!\\)((?:\\\\)*)\\u0000', '\1\\u001a0', 'g'
    )
$$;

-- Runs as they are, in the order of these ids, each program once. `whole`: with large values.
create or replace function _runs(ids text[], whole boolean) returns json
language plpgsql set plan_cache_mode = force_generic_plan as $$
begin
    return json_build_object(
        'runs', (
            select json_agg(r order by wanted.number)
            from unnest(ids) with ordinality wanted (id, number)
            join task_runs r on r.id = wanted.id
        ),
        'programs', (
            select json_agg(p) from programs p
            where p.digest in (select r.program from task_runs r where r.id = any(ids))
        ),
        'payloads', case when whole then (
            select coalesce(json_agg(json_build_array(p.record, p.field, p.value)), '[]')
            from payloads p where p.task_run_id = any(ids) and p.record = p.task_run_id
        ) end
    );
end
$$;

-- The same for one run, whole.
create or replace function _run(run text) returns json
language plpgsql as $$
declare
    answer json;
begin
    select json_build_object(
        'runs', json_build_array(r),
        'programs', case when p.digest is not null then json_build_array(p) end,
        'payloads', (
            select coalesce(json_agg(json_build_array(v.record, v.field, v.value)), '[]')
            from payloads v where v.task_run_id = run and v.record = run
        )
    ) into answer
    from task_runs r left join programs p on p.digest = r.program where r.id = run;
    return coalesce(answer, '{"runs": null, "programs": null, "payloads": []}');
end
$$;

create or replace function _missing_run(run text) returns void
language plpgsql as $$
begin
    perform _refuse('404', 'run_not_found', run);
end
$$;
