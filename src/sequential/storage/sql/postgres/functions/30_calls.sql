-- Stack runs: the calls of runs.

-- Calls in order, with their large values.
create or replace function _calls(calls stack_runs[]) returns json
language plpgsql as $$
begin
    return json_build_object(
        'calls', to_json(calls),
        'payloads', (
            select json_agg(json_build_array(p.record, p.field, p.value))
            from unnest(calls) c
            join payloads p on p.task_run_id = c.task_run_id and p.record = c.id
            where starts_with(c.input, '{"$payload":') or starts_with(c.result, '{"$payload":')
        )
    );
end
$$;

create or replace function create_stack_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run text := arguments->>'run';
begin
    perform from task_runs t where t.id = run for key share;
    if not found then
        perform _missing_run(run);
    end if;
    perform _put_calls(arguments->'calls');
    perform _put_payloads(run, arguments->'payloads');
    return null;
end
$$;

create or replace function get_stack_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return _calls(array(
        select c from stack_runs c
        where c.task_run_id = arguments->>'run' and c.sequence = (arguments->>'sequence')::bigint
    ));
end
$$;

create or replace function update_stack_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    run text := arguments->>'run';
begin
    perform _drop_payloads(run, arguments->'calls');
    perform _change_calls(run, arguments->'calls');
    perform _put_payloads(run, arguments->'payloads');
    return get_stack_run(arguments);
end
$$;

-- Remove what was kept apart for values of calls that get others.
create or replace function _drop_payloads(run text, calls jsonb) returns void
language plpgsql as $$
begin
    delete from payloads p using jsonb_array_elements(calls) c
    where p.task_run_id = run and p.record = concat(run, ':', c->>'sequence') and c ? p.field;
end
$$;

create or replace function delete_stack_run(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    perform _drop_calls(arguments->>'run', jsonb_build_array(arguments->'sequence'));
    return null;
end
$$;

create or replace function _drop_calls(run text, numbers jsonb) returns void
language plpgsql as $$
begin
    delete from stack_runs s using jsonb_array_elements_text(numbers) number
    where s.task_run_id = run and s.sequence = number::bigint;
    delete from payloads p using jsonb_array_elements_text(numbers) number
    where p.task_run_id = run and p.record = concat(run, ':', number);
end
$$;

create or replace function query_stack_runs(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    calls stack_runs[];
begin
    execute format(
        'select array(select c from stack_runs c where true %s order by task_run_id, sequence)',
        _conditions('stack_runs', arguments->'filters')
    ) into calls;
    return _calls(calls);
end
$$;

create or replace function get_pending_stack_runs(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return _calls(array(
        select c from stack_runs c where c.status = 'pending' order by c.created_at, c.sequence
    ));
end
$$;

create or replace function load_calls(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off set plan_cache_mode = force_custom_plan as $$
begin
    return _calls(array(
        select late.c from (
            select c from stack_runs c
            where c.task_run_id = arguments->>'run' and c.delivered_turn is null
            union all
            select c from stack_runs c
            where c.task_run_id = arguments->>'run'
                and c.delivered_turn > (arguments->>'after')::bigint
        ) late order by (late.c).sequence
    ));
end
$$;
