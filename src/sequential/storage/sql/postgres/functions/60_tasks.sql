-- Task functions, the keystore, snapshots and logs.

create or replace function store_task_function(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    insert into task_functions as old
    select * from jsonb_populate_record(null::task_functions, arguments)
    on conflict (identifier) do update set
        code = excluded.code,
        metadata = excluded.metadata,
        version = old.version + 1,
        updated_at = excluded.updated_at,
        filename = excluded.filename
    where (old.code, old.metadata, old.filename)
        <> (excluded.code, excluded.metadata, excluded.filename);
    return get_task_function(arguments);
end
$$;

create or replace function get_task_function(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (
        select to_json(f) from task_functions f where f.identifier = arguments->>'identifier'
    );
end
$$;

create or replace function list_task_functions(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (select json_agg(f order by f.identifier) from task_functions f);
end
$$;

-- Remove a task with all its runs; the answer is how many there were.
create or replace function delete_task(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    name text := arguments->>'identifier';
    busy text;
    removed bigint;
    programs_left text[];
begin
    if not _is_new(arguments) then
        return (select to_json(r.answer) from requests r where r.id = arguments->>'request');
    end if;
    perform from task_runs t where t.task_identifier = name order by t.id for update;
    select t.id into busy from task_runs t
    where t.task_identifier = name and t.lease_token is not null limit 1;
    if found then
        perform _refuse('409', 'run_busy', busy);
    end if;
    delete from task_functions f where f.identifier = name;
    if not found then
        perform _refuse('404', 'task_not_found', name);
    end if;
    programs_left := array(
        select distinct t.program from task_runs t where t.task_identifier = name order by 1
    );
    delete from task_runs t where t.task_identifier = name;
    get diagnostics removed = row_count;
    perform _drop_program(p) from unnest(programs_left) p;
    update requests r set answer = removed where r.id = arguments->>'request';
    return to_json(removed);
end
$$;

create or replace function set_keystore(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    moment text := to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
begin
    insert into keystore values (arguments->>'key', arguments->>'value', moment, moment)
    on conflict (key) do update set value = excluded.value, updated_at = excluded.updated_at;
    return null;
end
$$;

create or replace function get_keystore(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (select to_json(k.value) from keystore k where k.key = arguments->>'key');
end
$$;

create or replace function delete_keystore(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    removed bigint;
begin
    if not _is_new(arguments) then
        return (select to_json(r.answer > 0) from requests r where r.id = arguments->>'request');
    end if;
    delete from keystore k where k.key = arguments->>'key';
    get diagnostics removed = row_count;
    update requests r set answer = removed where r.id = arguments->>'request';
    return to_json(removed > 0);
end
$$;

create or replace function list_keystore(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (select json_agg(k.key order by k.key) from keystore k);
end
$$;

create or replace function _put_snapshot(run text, snapshot jsonb) returns void
language plpgsql as $$
begin
    insert into snapshots
    values (run, (snapshot->>'turn')::bigint, decode(snapshot->>'data', 'base64'))
    on conflict (task_run_id) do update set turn = excluded.turn, data = excluded.data;
end
$$;

create or replace function store_snapshot(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    perform from task_runs t where t.id = arguments->>'run' for key share;
    if not found then
        perform _missing_run(arguments->>'run');
    end if;
    perform _put_snapshot(arguments->>'run', arguments);
    return null;
end
$$;

create or replace function get_snapshot(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (
        select json_build_object('turn', s.turn, 'data', encode(s.data, 'base64'))
        from snapshots s where s.task_run_id = arguments->>'run'
    );
end
$$;

create or replace function append_log(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    perform from task_runs t where t.id = arguments->>'run' for key share;
    if not found then
        perform _missing_run(arguments->>'run');
    end if;
    if _is_new(arguments) then
        insert into logs (task_run_id, at, text)
        values (arguments->>'run', arguments->>'at', arguments->>'text');
    end if;
    return null;
end
$$;

create or replace function get_log(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    return (
        select json_agg(json_build_array(l.at, l.text) order by l.id)
        from logs l where l.task_run_id = arguments->>'run'
    );
end
$$;
