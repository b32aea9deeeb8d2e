"""What a commit costs in each store, beside the least that the store's own means can cost.

A commit is that of one step: an outcome of 3 KB is delivered, a new call is asked for, and the run
moves on. The floor of the folder is an append and a sync of as many bytes; that of SQLite is one
connection that writes the same rows, a transaction each, without threads.
"""

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.table import microseconds, show
from sequential.core.model import Commit, StackRun, TaskRun, evolve
from sequential.storage.base import StorageAdapter
from sequential.storage.folder import FolderAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run

ONE, MANY = 400, 20  # commits of one caller, and of each of a hundred
CALLERS = 100
ROUNDS = 5
RESULT = {"text": "x" * 3000}


async def caller(store: StorageAdapter, run: TaskRun, call: StackRun, commits: int) -> None:
    for turn in range(1, commits + 1):
        done = delivered(call, turn, result=RESULT)
        call = new_call(run, turn)
        run = evolve(run, turn=turn)
        await store.commit(Commit(run, "token", (call,), (done,)))


async def measure(store: StorageAdapter, callers: int, commits: int) -> float:
    """Seconds per commit."""
    await store.init()
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


def append_and_sync(folder: Path) -> float:
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    begun = time.perf_counter()
    for _ in range(ONE):
        os.write(descriptor, b"x" * 4000)
        os.fdatasync(descriptor)
    seconds = time.perf_counter() - begun
    os.close(descriptor)
    return seconds / ONE


def bare_sqlite(folder: Path) -> float:
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, turn, state)")
    connection.execute("CREATE TABLE calls (run, sequence, result, PRIMARY KEY (run, sequence))")
    connection.execute("INSERT INTO runs VALUES ('run', 0, ?)", ("x" * 500,))
    begun = time.perf_counter()
    for number in range(ONE):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE runs SET turn = ? WHERE id = 'run'", (number,))
        connection.execute("INSERT INTO calls VALUES ('run', ?, ?)", (number, "x" * 3500))
        connection.execute("COMMIT")
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds / ONE


def main() -> None:
    figures: dict[str, list[float]] = {}
    stores: dict[str, Callable[[Path], StorageAdapter]] = {
        "memory": lambda _: MemoryAdapter(),
        "folder": lambda place: FolderAdapter(place / "tasks"),
        "sqlite": lambda place: SqliteAdapter(place / "workflow.db"),
    }
    floors = {"folder": append_and_sync, "sqlite": bare_sqlite}
    for _ in range(ROUNDS):  # in turn, because the machine's speed drifts
        for name, make in stores.items():
            with tempfile.TemporaryDirectory() as folder:
                if name in floors:
                    figures.setdefault(f"{name}: floor", []).append(floors[name](Path(folder)))
                for callers, commits in ((1, ONE), (CALLERS, MANY)):
                    place = Path(folder) / str(callers)
                    place.mkdir()
                    seconds = asyncio.run(measure(make(place), callers, commits))
                    figures.setdefault(f"{name}: {callers} at a time", []).append(seconds)
    rows = []
    for label, all_ in figures.items():
        base = figures.get(f"{label.partition(':')[0]}: floor", all_)
        ratio = statistics.median(a / b for a, b in zip(all_, base, strict=True))
        middle = statistics.median(all_)
        compared = "" if base is all_ else f"{ratio:.2f}x"
        rows.append([label, microseconds(middle), f"{1 / middle:,.0f}", compared])
    show("One commit (medians of 5 rounds)", ["", "us", "commits/s", "to the store's floor"], rows)


if __name__ == "__main__":
    main()
