"""Processes that are killed, and several that write at the same time."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sequential.storage.base import StorageAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import LATER, new_call, new_run
from support import sqlite_version_1
from support.killing import RUN
from support.killing_sqlite import STEPS, scenario

SUPPORT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SUPPORT)}


async def opened(path: Path) -> SqliteAdapter:
    adapter = SqliteAdapter(path)
    await adapter.init()
    return adapter


async def state(adapter: StorageAdapter) -> Any:
    run = await adapter.get_task_run(RUN.id)
    calls = await adapter.query_stack_runs(task_run_id=RUN.id)
    log = "".join(line.text for line in await adapter.get_log(RUN.id))
    snapshot = await adapter.get_snapshot(RUN.id)
    documents = await adapter.list_documents("tokens")
    return run, calls, log, snapshot.data if snapshot else b"", documents


async def model() -> list[Any]:
    """The run, its calls, its log and its snapshot after every step."""
    adapter = MemoryAdapter()
    states = [await state(adapter)]
    async for _ in scenario(adapter):
        states.append(await state(adapter))
    return states


def killed(*arguments: Path) -> dict[str, int]:
    """The places of databases whose writers were killed, with what these had acknowledged."""
    done = subprocess.run(
        [sys.executable, "-m", "support.killing_sqlite", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        check=True,
        timeout=100,
    )
    results: dict[str, int] = json.loads(done.stdout)
    return results


async def test_killed_at_any_statement_a_step_is_there_or_not(tmp_path: Path) -> None:
    results = killed(tmp_path)
    assert len(results) > 120
    states = await model()
    assert len(states) == STEPS
    seen = set()
    assert states[0] == states[11] == states[14]  # nothing is left
    for place, acknowledged in results.items():
        adapter = await opened(tmp_path / place / "workflow.db")
        found = await state(adapter)
        await adapter.close()
        # A step in progress may have been committed just before the kill; half of one never is.
        assert found in states[acknowledged : acknowledged + 2], place
        seen |= {number for number, one in enumerate(states) if one == found}
    assert seen == {*range(STEPS)}


async def test_killed_while_it_brings_old_tables_up_to_date(tmp_path: Path) -> None:
    made = sqlite_version_1.make(tmp_path / "old.db")
    results = killed(tmp_path / "killed", tmp_path / "old.db")
    before = [place for place, acknowledged in results.items() if acknowledged == 0]
    assert len(before) > 20
    for place in before[::2]:
        adapter = await opened(tmp_path / "killed" / place / "workflow.db")
        for run in made.values():
            assert await adapter.get_task_run(run.id) == run, place
            assert await adapter.load_calls(run.id) == sqlite_version_1.calls(run)
        await adapter.close()


WRITE = """
import asyncio, sys
from sequential.core.model import Commit, Snapshot, evolve
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run

async def main(path, task, commits):
    adapter = SqliteAdapter(path)
    await adapter.init()
    run = await adapter.create_task_run(new_run(task_identifier=task))
    run = await adapter.claim(run.id, "token", NOW, LATER)
    print(run.id, flush=True)
    call = new_call(run, 0)
    await adapter.commit(Commit(run, "token", (call,)))
    for turn in range(1, commits + 1):
        run = evolve(run, turn=turn)
        done, call = delivered(call, turn), new_call(run, turn, input={"text": "x" * 2000})
        snapshot = Snapshot(run.id, turn, b"s" * 20_000) if turn % 10 == 0 else None
        await adapter.commit(Commit(run, "token", (call,), (done,), f"{turn} ", snapshot))
        print(turn, flush=True)
    await adapter.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def writer(path: Path, task: str, commits: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITE, path, task, str(commits)],
        stdout=subprocess.PIPE,
        text=True,
    )


async def check(adapter: SqliteAdapter, run_id: str, least: int) -> int:
    """Every turn up to that of the run is there in full; returns its number."""
    run = await adapter.get_task_run(run_id)
    assert run
    calls = await adapter.query_stack_runs(task_run_id=run_id)
    assert [call.sequence for call in calls] == [*range(run.turn + 1)]
    assert [call.delivered_turn for call in calls] == [*range(1, run.turn + 1), None]
    log = "".join(line.text for line in await adapter.get_log(run_id))
    assert log.split() == [str(turn) for turn in range(1, run.turn + 1)]
    snapshot = await adapter.get_snapshot(run_id)
    assert (snapshot.turn if snapshot else 0) == run.turn // 10 * 10
    assert run.turn >= least
    return run.turn


async def test_killed_at_any_moment_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    dice = random.Random(5)
    for _ in range(10):
        process = writer(path, "my-task", 100_000)
        assert process.stdout
        run_id = process.stdout.readline().strip()
        time.sleep(dice.uniform(0.01, 0.12))
        process.send_signal(signal.SIGKILL)
        acknowledged = process.communicate()[0].split()
        adapter = SqliteAdapter(path)
        await adapter.init()
        await check(adapter, run_id, int((acknowledged or ["0"])[-1]))
        assert (await adapter.claim(run_id, "next", LATER, "2027")).lease_token == "next"
        await adapter.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


async def test_eight_processes_make_one_database_and_write_100_commits_each(
    tmp_path: Path,
) -> None:
    path = tmp_path / "workflow.db"
    processes = [writer(path, f"task-{number}", 100) for number in range(8)]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    adapter = SqliteAdapter(path)
    await adapter.init()
    for run_id, *_ in outputs:
        assert await check(adapter, run_id, 100) == 100
    assert len(await adapter.query_task_runs()) == 8
    await adapter.close()


async def test_a_frozen_worker_cannot_write_when_it_thaws(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    process = writer(path, "my-task", 100_000)
    assert process.stdout
    run_id = process.stdout.readline().strip()
    process.stdout.readline()
    adapter = SqliteAdapter(path)
    await adapter.init()
    # Frozen between two commits: frozen within one, it would hold the lock of the database.
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # it takes a moment
        probe = sqlite3.connect(path, timeout=0.02, isolation_level=None)
        try:
            probe.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
        finally:
            probe.close()
    taken = await adapter.claim(run_id, "next", LATER, "2027")
    call = new_call(taken, 900_000)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=20)
    assert process.returncode == 1  # LeaseLostError
    assert await adapter.get_task_run(run_id) == taken
    await adapter.create_stack_run(call)
    await adapter.close()


async def test_a_run_that_was_deleted_is_gone_for_its_reader(tmp_path: Path) -> None:
    adapter = SqliteAdapter(tmp_path / "workflow.db")
    await adapter.init()
    run = await adapter.create_task_run(new_run(input="x" * 100_000))
    await adapter.database.write(lambda conn: conn.execute("DELETE FROM task_runs").rowcount)
    assert await adapter.get_task_run(run.id) is None
    count = "SELECT count(*) FROM payloads"
    assert await adapter.database.read(lambda conn: conn.execute(count).fetchone()) == (0,)
    await adapter.close()
