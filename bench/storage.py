"""What a commit costs in each store, beside the least that the store's own means can cost.

A commit is that of one step: an outcome of 3 KB is delivered, a new call is asked for, and the run
moves on. Measured for one caller and for many, on this disk, and on one whose every sync takes 4 ms
longer, as those of most laptops and of the cloud do.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.stores import compared, on_slow_disk, opened
from sequential.core.model import Commit, StackRun, TaskRun, evolve
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run

ONE, CALLERS, MANY = 400, 200, 10  # commits of one caller; callers, and commits of each
ROUNDS = 5
RESULT = {"text": "x" * 3000}


async def caller(store: StorageAdapter, run: TaskRun, call: StackRun, commits: int) -> None:
    for turn in range(1, commits + 1):
        done = delivered(call, turn, result=RESULT)
        call = new_call(run, turn)
        run = evolve(run, turn=turn)
        await store.commit(Commit(run, "token", (call,), (done,)))


async def measure(url: str, callers: int, commits: int) -> float:
    """Seconds per commit."""
    store = await create_adapter(url)
    started = []
    for number in range(callers):
        run = await store.create_task_run(new_run(number))
        run = await store.claim(run.id, "token", NOW, LATER)
        await store.commit(Commit(run, "token", (call := new_call(run, 0),)))
        started.append((run, call))
    begun = time.perf_counter()
    await asyncio.gather(*(caller(store, run, call, commits) for run, call in started))
    seconds = time.perf_counter() - begun
    await store.close()
    return seconds / (callers * commits)


def measure_all(rounds: int) -> dict[str, list[float]]:
    """Seconds per commit by store and number of callers, and the floors; a value per round."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as stores:
        for _ in range(rounds):  # in turn, because the machine's speed drifts
            for name, store in stores.items():
                if floor := store.floor():
                    found.setdefault(f"{name}: floor", []).append(floor)
                for callers, commits in ((1, ONE), (CALLERS, MANY)):
                    seconds = asyncio.run(measure(store.url, callers, commits))
                    found.setdefault(f"{name}: {callers} at a time", []).append(seconds)
    return found


def main() -> None:
    if "--figures" in sys.argv:
        print(json.dumps(measure_all(1)))
        return
    compared(f"One commit (medians of {ROUNDS} rounds)", "commits/s", measure_all(ROUNDS))
    slower = on_slow_disk("bench.storage")
    compared("One commit, every sync 4 ms slower (one round, traced)", "commits/s", slower)


if __name__ == "__main__":
    main()
