-- Looking for work. None of this costs more with more runs that wait or are over: every part
-- begins at the end of an index that holds nothing else.

-- The query for ids of runs that are due, highest priority first, then the longest waiting.
-- $1 now, $2 how many, $3 names of tasks (null: all), $4 names of tasks that are not wanted. They
-- are compared in a way that no index serves: that of a task would bring all of its runs.
create or replace function _due(locking text) returns text
language plpgsql as $$
begin
    return format($query$
        select array(
            select id from (
                select * from (
                    select id, priority, ready_since as since from task_runs
                    where ready_since is not null
                        and coalesce(task_identifier = any($3), true) and task_identifier <> all($4)
                    order by priority desc, ready_since limit $2 %1$s
                ) ready
                union all
                select * from (
                    select id, priority, wakes_at as since from task_runs
                    where wakes_at <= $1
                        and coalesce(task_identifier = any($3), true) and task_identifier <> all($4)
                    order by priority desc, wakes_at limit $2 %1$s
                ) woken
                union all
                select * from (
                    select id, priority, coalesce(wake_at, updated_at) as since from task_runs
                    where leased_until <= $1
                        and coalesce(task_identifier = any($3), true) and task_identifier <> all($4)
                    order by priority desc, coalesce(wake_at, updated_at) limit $2 %1$s
                ) left_behind
            ) due
            order by priority desc, since limit $2
        )
    $query$, locking);
end
$$;

create or replace function wakeups(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
declare
    ids text[];
begin
    execute _due('') into ids using
        arguments->>'now', (arguments->>'limit')::bigint,
        _texts(arguments->'tasks'), _texts(arguments->'without');
    return to_json(ids);
end
$$;

create or replace function next_wakeup(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off set plan_cache_mode = force_custom_plan as $$
declare
    moment text := arguments->>'now';
    tasks text[] := _texts(arguments->'tasks');
    next text;
begin
    if tasks is null then
        select min(t.wakes_at) into next from task_runs t where t.wakes_at > moment;
    else
        select min(first.wakes_at) into next
        from unnest(tasks) task cross join lateral (
            select min(t.wakes_at) as wakes_at from task_runs t
            where t.task_identifier = task and t.wakes_at > moment
        ) first;
    end if;
    return to_json(least(next, (
        select min(t.wake_at) from task_runs t
        where t.leased_until is not null and t.wake_at > moment
            and (tasks is null or t.task_identifier = any(tasks))
    )));
end
$$;

-- Tell who listens that something has happened to runs. This is no part of what happened: whoever
-- notifies in a transaction holds up the commits of all others that do, until the disk has it.
create or replace function tell(arguments jsonb) returns json
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    perform pg_notify(current_schema(), concat_ws(' ', run, arguments->>'origin'))
    from jsonb_array_elements_text(arguments->'runs') run;
    return null;
end
$$;
