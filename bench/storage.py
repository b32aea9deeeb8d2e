"""What a commit costs in each store, beside the least that the store's own means can cost.

A commit is that of one step: an outcome of 3 KB is delivered, a new call is asked for, and the run
moves on. Measured for one caller and for many, on this disk, and on one whose every sync takes 4 ms
longer, as those of most laptops and of the cloud do.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.stores import figures, opened, slow_disk
from bench.table import microseconds, show
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


def table(title: str, found: dict[str, list[float]]) -> None:
    rows = []
    for label, all_ in found.items():
        base = found.get(f"{label.partition(':')[0]}: floor", all_)
        ratio = statistics.median(a / b for a, b in zip(all_, base, strict=True))
        middle = statistics.median(all_)
        compared = "" if base is all_ else f"{ratio:.2f}x"
        rows.append([label, microseconds(middle), f"{1 / middle:,.0f}", compared])
    show(title, ["", "us", "commits/s", "to the store's floor"], rows)


def main() -> None:
    if "--figures" in sys.argv:
        print(json.dumps(measure_all(1)))
        return
    table(f"One commit (medians of {ROUNDS} rounds)", measure_all(ROUNDS))
    if not (before := slow_disk()):
        print("\nWithout strace there is no slow disk to measure on.")
        return
    command = [*before, sys.executable, "-m", "bench.storage", "--figures"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    table("One commit, every sync 4 ms slower (one round, traced)", figures(done.stdout))


if __name__ == "__main__":
    main()
