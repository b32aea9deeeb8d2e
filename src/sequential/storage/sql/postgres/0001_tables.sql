-- The tables. This file is never changed once it has been released; a change of the tables is the
-- next numbered file. It runs with the store's own schema as the search path.
--
-- Values are JSON text and times are text, exactly as they were given. Text is compared byte by
-- byte (collate "C"): ids and times sort in the same way in every database.

create table programs (
    digest text collate "C" not null primary key,
    filename text not null,
    config text not null,
    code text not null,
    concurrency bigint  -- what its config says, for the claim
);

create table task_runs (
    id text collate "C" not null primary key,
    task_identifier text collate "C" not null,
    status text collate "C" not null,
    input text,
    result text,
    error text,
    created_at text collate "C" not null,
    updated_at text collate "C" not null,
    started_at text collate "C",
    ended_at text collate "C",
    turn bigint not null default 0,
    "where" text,
    wake_at text collate "C",
    deadline text collate "C",
    crashes bigint not null default 0,
    lease_token text collate "C",
    lease_until text collate "C",
    priority bigint not null default 0,
    parent_run_id text collate "C",
    expires_at text collate "C",
    failed_turn bigint,
    answers bigint not null default 0,
    events text,
    program text collate "C" not null references programs (digest),
    -- Which request has made, claimed and last committed it: what a repeated request asks first.
    created_by text,
    claimed_by text,
    committed_by text,
    -- What looks for work. While a run is driven, these stay as they are whatever it commits, so
    -- that its row is rewritten without touching an index.
    ready_since text collate "C" generated always as
        (case when status = 'pending' and wake_at is null then updated_at end) stored,
    wakes_at text collate "C" generated always as
        (case when status in ('pending', 'suspended') then wake_at end) stored,
    leased_until text collate "C" generated always as
        (case when status = 'running' then coalesce(lease_until, '') end) stored
) with (fillfactor = 70);

create index task_runs_task on task_runs (task_identifier, id);
create index task_runs_status on task_runs (status, id);
create index task_runs_parent on task_runs (parent_run_id, id) where parent_run_id is not null;
create index task_runs_program on task_runs (program);
create index task_runs_ready on task_runs (priority desc, ready_since)
    where ready_since is not null;
create index task_runs_wakes on task_runs (wakes_at) where wakes_at is not null;
create index task_runs_task_wakes on task_runs (task_identifier, wakes_at)
    where wakes_at is not null;
create index task_runs_leased on task_runs (leased_until) where leased_until is not null;
create index task_runs_task_leased on task_runs (task_identifier, leased_until)
    where leased_until is not null;

create table stack_runs (
    id text collate "C" not null,
    task_run_id text collate "C" not null references task_runs (id) on delete cascade,
    operation text collate "C" not null,
    status text collate "C" not null,
    input text,
    result text,
    error text,
    parent_stack_run_id text collate "C",
    created_at text collate "C" not null,
    updated_at text collate "C" not null,
    sequence bigint not null,
    fingerprint text collate "C" not null,
    attempts bigint not null default 0,
    due_at text collate "C",
    duration numeric,
    size bigint,
    "where" text,
    requested_turn bigint not null default 0,
    delivered_turn bigint,
    delivered_order bigint,
    delivered_at text collate "C",
    primary key (task_run_id, sequence)
) with (fillfactor = 80);

-- Both leave something out, so that a call that is looked for by its number is found by that only.
create index stack_runs_undelivered on stack_runs (task_run_id) where delivered_turn is null;
create index stack_runs_delivered on stack_runs (task_run_id, delivered_turn)
    where delivered_turn is not null;
create index stack_runs_pending on stack_runs (created_at, sequence) where status = 'pending';

-- Values over 64 KiB. `record` is the id of a run or of a call, `field` its column.
create table payloads (
    task_run_id text collate "C" not null references task_runs (id) on delete cascade,
    record text collate "C" not null,
    field text collate "C" not null,
    value text not null,
    primary key (task_run_id, record, field)
);

create table snapshots (
    task_run_id text collate "C" not null primary key references task_runs (id) on delete cascade,
    turn bigint not null,
    data bytea not null
);

create table logs (
    id bigint generated always as identity primary key,
    task_run_id text collate "C" not null references task_runs (id) on delete cascade,
    at text collate "C" not null,
    text text not null
);

create index logs_run on logs (task_run_id, id);

create table task_functions (
    identifier text collate "C" not null primary key,
    code text not null,
    metadata text not null,
    version bigint not null,
    created_at text collate "C" not null,
    updated_at text collate "C" not null,
    filename text not null
);

create table keystore (
    key text collate "C" not null primary key,
    value text not null,
    created_at text collate "C" not null,
    updated_at text collate "C" not null
);

-- Requests that were carried out a moment ago, with their answers: a client that lost the
-- connection before it got the answer asks again. Driving a run does not need this table.
create table requests (
    id text collate "C" not null primary key,
    at timestamptz not null default now(),
    answer bigint
);

create index requests_at on requests (at);

-- One row: the number of the newest of these files, and the digest of the functions.
create table installation (
    single boolean not null primary key default true check (single),
    version bigint not null,
    functions text not null
);
