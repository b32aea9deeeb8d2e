-- The commit of an ordinary turn, which is nearly all that a run does: one answer is delivered, one
-- call is asked for, or both. It writes what `commit` writes, for a third of the price: each
-- value is a parameter of its own instead of a part of a JSON object, all columns are known, and
-- there are three statements, whose plans are kept.
--
-- The answer is whether this was done. If anything is not as it is in an ordinary turn, nothing is
-- changed, and the caller takes `commit`, which knows what to do or to say: the lease is lost, this
-- request was carried out already, a call is missing (no_turn).

create or replace function commit_turn(
    run text, token text, request text, moment text, run_turn bigint, run_where text,
    run_wake_at text, printed text, snapshot_turn bigint, snapshot_data bytea,
    -- The call whose answer is delivered.
    old_sequence bigint, old_status text, old_result text, old_error text, old_updated_at text,
    old_attempts bigint, old_due_at text, old_duration numeric, old_size bigint,
    old_delivered_turn bigint, old_delivered_order bigint, old_delivered_at text,
    -- The call that is asked for.
    new_sequence bigint, new_id text, new_operation text, new_status text, new_input text,
    new_created_at text, new_updated_at text, new_fingerprint text, new_due_at text,
    new_where text, new_requested_turn bigint
) returns boolean
language plpgsql security definer
set search_path from current set enable_seqscan = off as $$
begin
    update task_runs t set
        status = 'running',
        updated_at = moment,
        turn = run_turn,
        "where" = run_where,
        wake_at = run_wake_at,
        committed_by = request
    where t.id = run and t.lease_token = token and t.committed_by is distinct from request;
    if not found then
        return false;
    end if;
    if old_sequence is not null then
        update stack_runs s set
            status = old_status,
            result = old_result,
            error = old_error,
            updated_at = old_updated_at,
            attempts = old_attempts,
            due_at = old_due_at,
            duration = old_duration,
            size = old_size,
            delivered_turn = old_delivered_turn,
            delivered_order = old_delivered_order,
            delivered_at = old_delivered_at
        where s.task_run_id = run and s.sequence = old_sequence;
        if not found then
            perform _refuse('409', 'no_turn');
        end if;
    end if;
    if new_sequence is not null then
        insert into stack_runs (
            id, task_run_id, operation, status, input, created_at, updated_at, sequence,
            fingerprint, due_at, "where", requested_turn
        ) values (
            new_id, run, new_operation, new_status, new_input, new_created_at, new_updated_at,
            new_sequence, new_fingerprint, new_due_at, new_where, new_requested_turn
        ) on conflict do nothing;
        if not found then
            perform _refuse('409', 'no_turn');
        end if;
    end if;
    if printed is not null then
        insert into logs (task_run_id, at, text) values (run, moment, printed);
    end if;
    if snapshot_turn is not null then
        insert into snapshots values (run, snapshot_turn, snapshot_data)
        on conflict (task_run_id) do update set turn = excluded.turn, data = excluded.data;
    end if;
    return true;
end
$$;
