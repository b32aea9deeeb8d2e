"""Runs a scenario on the folder store again and again, killed at every system call that writes.

`python killing.py <folder>` makes `<folder>/<number>-<mode>/tasks` for every such call and prints a
JSON object: for each of these folders, how many steps had been acknowledged. Each scenario runs in
a forked process that ends by SIGKILL: `before` the call, `after` it, or `within` a write.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from sequential.core.model import Commit, Snapshot, Status, TaskRun, evolve
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import NOW, SOON, delivered, new_call, new_run

CALLS = ("write", "fdatasync", "fsync", "replace", "rename", "link", "unlink", "ftruncate", "mkdir")
RUN = new_run(id="019cab0e-97eb-7000-8000-000000000001")
LARGE = {"text": "x" * 70_000}


def commits(claimed: TaskRun) -> list[Commit]:
    one, two = (new_call(claimed, i, requested_turn=1) for i in range(2))
    run = evolve(claimed, turn=1, updated_at=SOON)
    first = Commit(run, "token", (one, two))
    run = evolve(run, turn=2)
    three = new_call(run, 2, requested_turn=2, input=LARGE)
    large = delivered(one, 2, result=LARGE)
    second = Commit(run, "token", (three,), (large,), "printed", Snapshot(run.id, 2, b"state"))
    run = evolve(run, turn=3, status=Status.SUSPENDED, lease_token=None, lease_until=None)
    third = Commit(run, "token", (), (delivered(two, 3),), "more")
    return [first, second, third]


async def scenario(folder: Path) -> AsyncIterator[int]:
    """The steps; a number is yielded when that many have been acknowledged."""
    adapter = FolderAdapter(folder / "tasks")
    await adapter.create_task_run(RUN)
    yield 1
    claimed = await adapter.claim(RUN.id, "token", NOW, SOON)
    yield 2
    for number, commit in enumerate(commits(claimed), 3):
        await adapter.commit(commit)
        yield number
    await adapter.put_document("tokens", "a", {"role": "read"}, if_version=0)
    yield 6
    await adapter.put_document("tokens", "a", LARGE)
    yield 7
    await adapter.close()


def killing(number: int, mode: str) -> None:
    """Have the `number`-th writing system call of this process kill it."""
    count = 0

    def patched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count != number:
                return real(*args, **kwargs)
            if mode == "within" and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            if mode == "after":
                real(*args, **kwargs)
            return os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, patched(name))


def run_killed(folder: Path, number: int, mode: str) -> tuple[int, bool]:
    """The number of acknowledged steps, and whether the scenario came to its end."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        tell = os.write

        async def run() -> None:
            async for step in scenario(folder):
                tell(writing, bytes([step]))

        killing(number, mode)
        asyncio.run(run())
        os._exit(0)
    os.close(writing)
    acknowledged = os.read(reading, 100)
    while more := os.read(reading, 100):
        acknowledged += more
    os.close(reading)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return len(acknowledged), os.WIFEXITED(status)


def main(folder: Path) -> None:
    results: dict[str, int] = {}
    for mode in ("before", "within", "after"):
        for number in range(1, 1000):
            place = folder / f"{number}-{mode}"
            place.mkdir(parents=True)
            results[place.name], ended = run_killed(place, number, mode)
            if ended:
                break
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
