"""Processes that are killed or frozen, and statements that fail, in the middle of a commit."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sequential.core.model import (
    Amendment,
    Commit,
    RunEvent,
    Snapshot,
    Status,
    TaskConfig,
    TaskFunction,
    evolve,
)
from sequential.errors import RunBusyError, StorageError
from sequential.storage.base import StorageAdapter
from sequential.storage.postgres import PostgresAdapter, create
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run
from support.postgres_server import PostgresServer

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
LARGE = {"text": "x" * 70_000}


def writer(url: str, turns: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "support.writing_postgres", url, str(turns)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


async def opened(url: str) -> PostgresAdapter:
    adapter = create(url, listen=False)
    await adapter.init()
    return adapter


async def check(adapter: StorageAdapter, run_id: str, least: int) -> None:
    """Every turn up to that of the run is there in full, and nothing else."""
    run = await adapter.get_task_run(run_id)
    assert run
    assert run.turn >= least
    calls = await adapter.query_stack_runs(task_run_id=run_id)
    assert [call.sequence for call in calls] == [*range(run.turn + 1)]
    assert [call.delivered_turn for call in calls] == [*range(1, run.turn + 1), None]
    log = "".join(line.text for line in await adapter.get_log(run_id))
    assert log.split() == [str(turn) for turn in range(1, run.turn + 1)]
    snapshot = await adapter.get_snapshot(run_id)
    assert (snapshot.turn if snapshot else 0) == run.turn // 10 * 10


async def test_killed_at_any_moment_what_was_acknowledged_is_there(postgres_url: str) -> None:
    adapter = await opened(postgres_url)
    dice = random.Random(5)
    writers = [writer(postgres_url, 100_000) for _ in range(4)]
    for process in writers:
        assert process.stdout
        run_id = process.stdout.readline().strip()
        process.stdout.readline()
        time.sleep(dice.uniform(0.01, 0.1))
        process.send_signal(signal.SIGKILL)
        acknowledged = process.communicate()[0].split()
        claimed = await adapter.claim(run_id, "next", LATER, "2027")  # waits for what is under way
        await check(adapter, run_id, int((acknowledged or ["1"])[-1]))
        assert claimed.lease_token == "next"
    await adapter.close()


async def test_processes_make_one_store_and_write_at_the_same_time(postgres_url: str) -> None:
    writers = [writer(postgres_url, 40) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0].split() for process in writers]
    assert [process.returncode for process in writers] == [0] * 3
    adapter = await opened(postgres_url)
    for run_id, *_ in outputs:
        await check(adapter, run_id, 40)
    assert len(await adapter.query_task_runs()) == 3
    await adapter.close()


async def test_a_frozen_worker_cannot_write_when_it_thaws(postgres_url: str) -> None:
    process = writer(postgres_url, 100_000)
    assert process.stdout
    run_id = process.stdout.readline().strip()
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)  # it takes a moment
    adapter = await opened(postgres_url)
    with pytest.raises(RunBusyError):
        await adapter.claim(run_id, "next", NOW, "2027")
    taken = await adapter.claim(run_id, "next", LATER, "2027")
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=20)
    assert process.returncode == 1  # LeaseLostError
    assert await adapter.get_task_run(run_id) == taken
    await check(adapter, run_id, 1)
    await adapter.close()


def fail_at(server: PostgresServer, schema: str, number: int) -> None:
    """Have the `number`-th row that is written from now on fail, once; 0: none."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"set search_path = {schema}".encode())
        connection.execute(
            """
            create sequence if not exists writes;
            create or replace function fail() returns trigger language plpgsql
            set search_path from current as $$ begin
                if nextval('writes') = tg_argv[0]::bigint then raise 'told to fail'; end if;
                return case when tg_op = 'DELETE' then old else new end;
            end $$;
            select setval('writes', 1, false);
            """
        )
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = %s", [schema]
        ).fetchall()
        for (table,) in tables:
            connection.execute(
                f"create or replace trigger fail before insert or update or delete on {table} "
                f"for each row execute function fail('{number}')".encode()
            )


async def state(adapter: StorageAdapter, run_id: str) -> Any:
    """Everything that belongs to a run and its task."""
    return (
        await adapter.get_task_run(run_id),
        await adapter.query_stack_runs(),
        await adapter.get_log(run_id),
        await adapter.get_snapshot(run_id),
        await adapter.list_task_functions(),
    )


async def prepared(adapter: StorageAdapter) -> Any:
    """A run that is driven, with a call and an event."""
    await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    run = await adapter.create_task_run(new_run(input=LARGE))
    run = await adapter.claim(run.id, "token", NOW, LATER)
    call = new_call(run, 0, input=LARGE)
    await adapter.commit(Commit(run, "token", (call,)))
    return run, call


async def commits(adapter: StorageAdapter) -> Any:
    run, call = await prepared(adapter)
    new = evolve(run, turn=1, status=Status.COMPLETED, result=LARGE, lease_token=None)
    step = Commit(
        new,
        "token",
        (new_call(run, 1), new_call(run, 2, input=LARGE)),
        (delivered(call, 1, result=LARGE),),
        "printed",
        Snapshot(run.id, 1, b"state"),
    )
    return run.id, lambda: adapter.commit(step)


async def amends(adapter: StorageAdapter) -> Any:
    run, call = await prepared(adapter)
    new = evolve(run, events=(RunEvent("e", "ok", NOW),), answers=1, result=LARGE, code="x = 1")
    return run.id, lambda: adapter.amend(run, Amendment(new, (delivered(call, 1),), (0,)))


async def creates(adapter: StorageAdapter) -> Any:
    run = new_run(input=LARGE)
    return run.id, lambda: adapter.create_task_run(run)


async def deletes(adapter: StorageAdapter) -> Any:
    run, _ = await prepared(adapter)
    await adapter.release(run.id, "token")
    return run.id, lambda: adapter.delete_task("my-task")


async def claims(adapter: StorageAdapter) -> Any:
    for number in range(3):
        run = await adapter.create_task_run(new_run(number))
    return run.id, lambda: adapter.claim_due("token", LATER, "2027", 3)


@pytest.mark.parametrize("operation", [commits, amends, creates, deletes, claims])
async def test_an_operation_that_fails_anywhere_has_changed_nothing(
    postgres: PostgresServer, postgres_url: str, operation: Any
) -> None:
    adapter = await opened(postgres_url)
    schema = adapter.address.options.schema
    run_id, perform = await operation(adapter)
    before = await state(adapter, run_id)
    for number in range(1, 100):
        await asyncio.to_thread(fail_at, postgres, schema, number)
        result = (await asyncio.gather(perform(), return_exceptions=True))[0]
        if not isinstance(result, StorageError):
            break
        assert "told to fail" in str(result)
        assert await state(adapter, run_id) == before
    assert not isinstance(result, BaseException)
    assert number > 2
    assert await state(adapter, run_id) != before
    await adapter.close()
