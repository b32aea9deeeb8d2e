"""Runs a scenario on the SQLite store again and again, killed at every statement.

`python killing_sqlite.py <folder> [<database>]` makes `<folder>/<number>/workflow.db`, a copy of
the database if one is given, for every statement the writer executes, and prints a JSON object: for
each folder, how many steps had been acknowledged. With a database it ends after the first step.
"""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sequential.core.model import Amendment, Commit, Status, evolve
from sequential.storage.base import StorageAdapter
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import LATER, NOW, SOON, answer, delivered, new_call
from support.killing import LARGE, RUN, commits


async def scenario(adapter: StorageAdapter) -> AsyncIterator[int]:
    """The steps; a number is yielded when that many have been acknowledged."""
    await adapter.create_task_run(RUN)
    yield 1
    claimed = await adapter.claim(RUN.id, "token", NOW, SOON)
    yield 2
    for number, commit in enumerate(commits(claimed), 3):
        await adapter.commit(commit)
        yield number
    run = await adapter.answer(RUN.id, answer(1), SOON)
    yield 6
    rewound = evolve(run, turn=2, result=LARGE, failed_turn=3)
    one = delivered(new_call(RUN, 0), 2, result={"text": "y" * 80_000})
    two = new_call(RUN, 1, attempts=3)
    run = await adapter.amend(run, Amendment(rewound, (one, two), (2,)))
    yield 7
    (run,) = await adapter.claim_due("again", SOON, LATER, 1, [RUN.task_identifier])
    yield 8
    await adapter.answer(RUN.id, answer(2), SOON)
    yield 9
    parked = evolve(run, turn=3, status=Status.SUSPENDED, lease_token=None, result=None)
    asked = new_call(RUN, 2, requested_turn=3)
    await adapter.commit(Commit(parked, "again", (asked,), taken=("event-1",)))
    yield 10
    await adapter.delete_task_run(RUN.id)
    yield 11
    await adapter.put_document("tokens", "a", {"role": "read"}, if_version=0)
    yield 12
    await adapter.put_document("tokens", "a", LARGE)
    yield 13
    await adapter.prune_documents("tokens", "b")
    yield 14


STEPS = 15  # the one before the first counts, too


def killing(number: int) -> None:
    """Have the `number`-th statement of this process kill it before it is executed."""
    count = 0
    real = sqlite3.connect

    def trace(_: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*args, **kwargs)
        connection.set_trace_callback(trace)
        return connection

    setattr(sqlite3, "connect", connect)


def run_killed(folder: Path, number: int) -> tuple[int, bool]:
    """The number of acknowledged steps, and whether the scenario came to its end."""
    reading, writing = os.pipe()
    if not (child := os.fork()):

        async def run() -> None:
            adapter = SqliteAdapter(folder / "workflow.db")
            await adapter.init()
            async for step in scenario(adapter):
                os.write(writing, bytes([step]))
            await adapter.close()

        killing(number)
        asyncio.run(run())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        acknowledged = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return len(acknowledged), os.WIFEXITED(status)


def main(folder: Path, database: Path | None = None) -> None:
    results: dict[str, int] = {}
    for number in range(1, 1000):
        place = folder / str(number)
        place.mkdir(parents=True)
        if database:
            shutil.copy(database, place / "workflow.db")
        results[place.name], ended = run_killed(place, number)
        if ended or (database and results[place.name]):
            break
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
