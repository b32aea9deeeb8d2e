"""Runs a scenario on the SQLite store again and again, killed at every statement.

`python killing_sqlite.py <folder>` makes `<folder>/<number>/workflow.db` for every statement the
writer executes and prints a JSON object: for each folder, how many steps had been acknowledged.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import NOW, SOON
from support.killing import RUN, commits


async def scenario(folder: Path) -> AsyncIterator[int]:
    """The steps; a number is yielded when that many have been acknowledged."""
    adapter = SqliteAdapter(folder / "workflow.db")
    await adapter.init()
    await adapter.create_task_run(RUN)
    yield 1
    claimed = await adapter.claim(RUN.id, "token", NOW, SOON)
    yield 2
    for number, commit in enumerate(commits(claimed), 3):
        await adapter.commit(commit)
        yield number
    await adapter.close()


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
            async for step in scenario(folder):
                os.write(writing, bytes([step]))

        killing(number)
        asyncio.run(run())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        acknowledged = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return len(acknowledged), os.WIFEXITED(status)


def main(folder: Path) -> None:
    results: dict[str, int] = {}
    for number in range(1, 1000):
        place = folder / str(number)
        place.mkdir(parents=True)
        results[place.name], ended = run_killed(place, number)
        if ended:
            break
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
