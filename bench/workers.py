"""What steps cost when workers drive them, how soon a run is woken, and what a long run costs.

Steps are calls of a trivial function in the real sandbox, everything durable, for one run and for
200 at a time. A wake-up is the time from `answer`, given through another connection to the store,
to the next call of the run that waited for it.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.engines import engine
from bench.stores import compared, on_slow_disk, opened
from bench.table import microseconds, milliseconds, show
from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker
from sequential.storage.registry import create_adapter

STEPS = 1000
RUNS, EACH = 200, 10
ROUNDS = 3
WAKES = 100
POINTS = (10, 1_000, 20_000)  # calls of one run before a step is looked at
WINDOW = 200

WAITS = """
async def waits():
    while True:
        n = await wait_for_event("go")
        if n is None:
            return
        await services.tool.step(n)
"""


async def one_run(url: str) -> float:
    """Seconds per step."""
    async with engine(await create_adapter(url)) as made:
        await made.run("job", {"steps": 1})  # starts the sandbox
        begun = time.perf_counter()
        await made.run("job", {"steps": STEPS})
        return (time.perf_counter() - begun) / STEPS


async def many_runs(url: str) -> float:
    """Seconds per step, from the first to the last of runs that a worker takes from the store."""
    async with engine(await create_adapter(url)) as made:
        await made.run("job", {"steps": 1})
        for _ in range(RUNS):
            await made.create_run("job", {"steps": EACH})
        begun = time.perf_counter()
        await Worker(made, concurrency=RUNS).run(until_idle=True)
        return (time.perf_counter() - begun) / (RUNS * EACH)


async def wake_ups(url: str) -> list[float]:
    """Seconds from an answer to the call that follows it, sorted."""
    woken: asyncio.Queue[float] = asyncio.Queue()

    def step(i: int) -> dict[str, int]:
        woken.put_nowait(time.perf_counter())
        return {"n": i}

    storage = await create_adapter(url)
    other = storage if url == "memory:" else await create_adapter(url)
    found = []
    async with engine(storage, step=step) as made, engine(other) as outside:
        await made.store_task("waits", WAITS, TaskConfig(name="waits"))
        run = await made.create_run("waits")
        worker = Worker(made)
        working = asyncio.create_task(worker.run())
        for number in range(WAKES):
            await until_suspended(outside, run.id)
            begun = time.perf_counter()
            await outside.answer(run.id, "go", number)
            found.append(await woken.get() - begun)
        await until_suspended(outside, run.id)
        await outside.answer(run.id, "go")
        await outside.wait(run.id)
        worker.stop()
        await working
    return sorted(found)


async def until_suspended(made: Engine, run_id: str) -> None:
    while str((await made.get_run(run_id)).status) != "suspended":
        await asyncio.sleep(0.002)


async def long_run(url: str) -> list[float]:
    """Seconds per step around step 10, 1,000 and 20,000 of one run."""
    times: list[float] = []

    def step(i: int) -> dict[str, int]:
        times.append(time.perf_counter())
        return {"n": i}

    async with engine(await create_adapter(url), step=step) as made:
        await made.run("job", {"steps": 1})
        times.clear()
        await made.run("job", {"steps": POINTS[-1]})
    gaps = [after - before for before, after in pairwise(times)]
    return [statistics.median(gaps[max(0, at - WINDOW) : max(at, WINDOW)]) for at in POINTS]


def measure_steps(rounds: int) -> dict[str, list[float]]:
    """Seconds per step by store and kind of load, and the floors; a value per round."""
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as stores:
        for _ in range(rounds):  # in turn, because the machine's speed drifts
            for name, store in stores.items():
                if floor := store.floor():
                    measured.setdefault(f"{name}: floor", []).append(floor)
                for what, measure in (("one run", one_run), (f"{RUNS} x {EACH}", many_runs)):
                    seconds = asyncio.run(measure(store.url))
                    measured.setdefault(f"{name}: {what}", []).append(seconds)
    return measured


def each(stores: dict[str, Any], measure: Callable[[str], Any]) -> dict[str, Any]:
    return {name: asyncio.run(measure(store.url)) for name, store in stores.items()}


def show_waking(stores: dict[str, Any]) -> None:
    show(
        f"From an answer to the next call ({WAKES} times)",
        ["", "p50 ms", "p99 ms"],
        [
            [name, *map(milliseconds, (found[WAKES // 2], found[int(WAKES * 0.99)]))]
            for name, found in each(stores, wake_ups).items()
        ],
    )


def show_long_runs(stores: dict[str, Any]) -> None:
    show(
        "A step in a long run, by the number of calls before it",
        ["", *(f"{at:,}, us" for at in POINTS), "last to first"],
        [
            [name, *map(microseconds, found), f"{found[-1] / found[0]:.2f}x"]
            for name, found in each(stores, long_run).items()
        ],
    )


def main() -> None:
    if "--figures" in sys.argv:
        print(json.dumps(measure_steps(1)))
        return
    compared(f"One step (medians of {ROUNDS} rounds)", "steps/s", measure_steps(ROUNDS))
    slower = on_slow_disk("bench.workers")
    compared("One step, every sync 4 ms slower (one round, traced)", "steps/s", slower)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as stores:
        show_waking(stores)
        show_long_runs(stores)


if __name__ == "__main__":
    main()
