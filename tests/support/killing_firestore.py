"""Runs a scenario on a Firestore store again and again, killed before or after every request.

`python -m support.killing_firestore` makes a store `firestore://demo/killed-<number>-<moment>` for
every request of the scenario, on the server that FIRESTORE_EMULATOR_HOST names, and prints a JSON
object: for each of these stores, how many steps had been acknowledged.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from sequential.storage.firestore import FirestoreAdapter
from sequential.storage.firestore_connection import Connection
from sequential.storage.firestore_place import Place
from sequential.testing.storage_contract import NOW, SOON
from support.killing import RUN, commits

MOMENTS = ("before", "after")


def place(name: str) -> Place:
    return Place("demo", "(default)", name)


async def scenario(store: Place) -> AsyncIterator[int]:
    """The steps; a number is yielded when that many have been acknowledged."""
    adapter = FirestoreAdapter(store)
    await adapter.init()
    await adapter.create_task_run(RUN)
    yield 1
    claimed = await adapter.claim(RUN.id, "token", NOW, SOON)
    yield 2
    for number, commit in enumerate(commits(claimed), 3):
        await adapter.commit(commit)
        yield number
    await adapter.close()


def killing(number: int, moment: str) -> None:
    """Have the `number`-th request of this process kill it."""
    count = 0
    real = Connection._in_thread

    async def in_thread(self: Connection, work: Callable[[], list[Any]]) -> list[Any]:
        nonlocal count
        count += 1
        if count != number:
            return await real(self, work)
        if moment == "after":
            await real(self, work)
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    setattr(Connection, "_in_thread", in_thread)


def run_killed(name: str, number: int, moment: str) -> tuple[int, bool]:
    """The number of acknowledged steps, and whether the scenario came to its end."""
    reading, writing = os.pipe()
    if not (child := os.fork()):

        async def run() -> None:
            async for step in scenario(place(name)):
                os.write(writing, bytes([step]))

        killing(number, moment)
        asyncio.run(run())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        acknowledged = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return len(acknowledged), os.WIFEXITED(status)


def main() -> None:
    results: dict[str, int] = {}
    for moment in MOMENTS:
        for number in range(1, 1000):
            name = f"killed-{number}-{moment}"
            results[name], ended = run_killed(name, number, moment)
            if ended:
                break
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
