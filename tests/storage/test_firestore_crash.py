"""Processes that are killed or stopped, and several that work at the same time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import StackRun, Status, evolve
from sequential.storage.firestore import FirestoreAdapter
from sequential.testing.storage_contract import LATER, NOW, SOON, new_run
from support.firestore_server import FirestoreServer
from support.killing import RUN, commits
from support.killing_firestore import place

SUPPORT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def environment(server: FirestoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def start(source: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", source, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def opened(name: str) -> FirestoreAdapter:
    adapter = FirestoreAdapter(place(name))
    await adapter.init()
    return adapter


def model() -> list[Any]:
    """The run, its calls, its log and its snapshot after every step."""
    claimed = evolve(
        RUN,
        status=Status.RUNNING,
        lease_token="token",
        lease_until=SOON,
        started_at=NOW,
        updated_at=NOW,
    )
    states: list[Any] = [(None, [], "", b""), (RUN, [], "", b""), (claimed, [], "", b"")]
    calls: dict[int, StackRun] = {}
    log, data = "", b""
    for commit in commits(claimed):
        calls |= {call.sequence: call for call in (*commit.requested, *commit.updated)}
        log += commit.log
        data = commit.snapshot.data if commit.snapshot else data
        states.append((commit.run, [calls[number] for number in sorted(calls)], log, data))
    return states


async def state(adapter: FirestoreAdapter) -> Any:
    run = await adapter.get_task_run(RUN.id)
    calls = await adapter.query_stack_runs(task_run_id=RUN.id)
    log = "".join(line.text for line in await adapter.get_log(RUN.id))
    snapshot = await adapter.get_snapshot(RUN.id)
    return run, calls, log, snapshot.data if snapshot else b""


async def test_killed_at_any_request_a_step_is_there_or_not() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.killing_firestore"],
        capture_output=True,
        check=True,
        timeout=90,
    )
    results = json.loads(done.stdout)
    assert len(results) > 12
    states = model()
    seen = set()
    for name, acknowledged in results.items():
        adapter = await opened(name)
        found = await state(adapter)
        await adapter.close()
        # A step in progress may have been committed just before the kill; half of one never is.
        assert found in states[acknowledged : acknowledged + 2], name
        seen.add(states.index(found))
    assert seen == {*range(len(states))}


FROZEN = """
import asyncio, sys
from sequential.core.model import Commit, evolve
from sequential.storage.firestore import FirestoreAdapter
from sequential.testing.storage_contract import NOW, SOON
from support.killing_firestore import place

async def main():
    adapter = FirestoreAdapter(place("frozen"))
    await adapter.init()
    run = await adapter.claim(sys.argv[1], "frozen", NOW, SOON)
    print("claimed", flush=True)
    sys.stdin.readline()
    try:
        await adapter.commit(Commit(evolve(run, turn=1), "frozen", log="from the cold"))
    except Exception as error:
        print(type(error).__name__, flush=True)

asyncio.run(main())
"""


async def test_a_worker_that_was_frozen_cannot_write_any_more() -> None:
    adapter = await opened("frozen")
    run = await adapter.create_task_run(new_run())
    worker = start(FROZEN, run.id)
    assert worker.stdout
    assert worker.stdout.readline() == "claimed\n"
    os.kill(worker.pid, signal.SIGSTOP)
    [claimed] = await adapter.claim_due("warm", LATER, LATER + "9", 5)
    os.kill(worker.pid, signal.SIGCONT)
    output, _ = worker.communicate("go on\n", timeout=30)
    assert output == "LeaseLostError\n"
    assert await adapter.get_task_run(run.id) == claimed
    assert await adapter.get_log(run.id) == []
    await adapter.close()


WORKER = """
import asyncio, sys
from sequential.core.model import Commit, Status, evolve
from sequential.storage.firestore import FirestoreAdapter
from sequential.testing.storage_contract import LATER, NOW, new_call
from support.killing_firestore import place

async def main(name):
    adapter = FirestoreAdapter(place("workers"))
    await adapter.init()
    while claimed := await adapter.claim_due(name, NOW, LATER, 3):
        for run in claimed:
            step = evolve(run, turn=run.turn + 1)
            await adapter.commit(Commit(step, name, (new_call(run, 0),), log=name))
            end = evolve(step, status=Status.COMPLETED, lease_token=None, lease_until=None)
            await adapter.commit(Commit(end, name))
            print(run.id, flush=True)
    await adapter.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_two_processes_share_the_runs_and_drive_each_once() -> None:
    adapter = await opened("workers")
    runs = [await adapter.create_task_run(new_run(i)) for i in range(30)]
    workers = [start(WORKER, name) for name in ("one", "two")]
    driven = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert sorted([*driven[0], *driven[1]]) == sorted(run.id for run in runs)
    ended = await adapter.query_task_runs(status=Status.COMPLETED, turn=1)
    assert [run.id for run in ended] == [run.id for run in runs[::-1]]
    for name, ids in zip(("one", "two"), driven, strict=True):
        logs = [await adapter.get_log(run_id) for run_id in ids]
        assert [[line.text for line in log] for log in logs] == [[name]] * len(ids)
    await adapter.close()
