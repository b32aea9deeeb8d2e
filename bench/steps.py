"""What one step costs: a trivial call, everything durable, against append + sync alone."""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from bench.engines import engine
from bench.table import microseconds, show
from sequential.storage.folder import FolderAdapter
from sequential.storage.memory import MemoryAdapter

STEPS = 1000
ROUNDS = 5


def floor(folder: Path) -> float:
    """Seconds per append + sync of a line as long as a step's journal line."""
    line = b"x" * 700 + b"\n"
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    started = time.perf_counter()
    for _ in range(STEPS):
        os.write(descriptor, line)
        os.fdatasync(descriptor)
    os.close(descriptor)
    return (time.perf_counter() - started) / STEPS


async def one_run(storage: MemoryAdapter | FolderAdapter) -> float:
    async with engine(storage) as made:
        await made.run("job", {"steps": 1})  # starts the sandbox
        started = time.perf_counter()
        run = await made.run("job", {"steps": STEPS})
        seconds = time.perf_counter() - started
    assert run.value == sum(range(STEPS))
    return seconds / STEPS


async def many_runs(storage: MemoryAdapter | FolderAdapter, runs: int, steps: int) -> float:
    async with engine(storage) as made:
        await made.run("job", {"steps": 1})
        started = time.perf_counter()
        await asyncio.gather(*[made.run("job", {"steps": steps}) for _ in range(runs)])
        return (time.perf_counter() - started) / (runs * steps)


def main() -> None:
    figures: dict[str, list[float]] = {}
    for _ in range(ROUNDS):  # in turn, because the machine's speed drifts
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rounds = {
                "append + fdatasync (floor)": floor(folder),
                "memory, one run": asyncio.run(one_run(MemoryAdapter())),
                "folder, one run": asyncio.run(one_run(FolderAdapter(folder / "a"))),
                "memory, 100 runs x 10": asyncio.run(many_runs(MemoryAdapter(), 100, 10)),
                "folder, 100 runs x 10": asyncio.run(
                    many_runs(FolderAdapter(folder / "b"), 100, 10)
                ),
            }
        for label, seconds in rounds.items():
            figures.setdefault(label, []).append(seconds)
    base = figures["append + fdatasync (floor)"]
    rows = [
        [
            label,
            microseconds(statistics.median(all_)),
            f"{1 / statistics.median(all_):,.0f}",
            f"{statistics.median(a / b for a, b in zip(all_, base, strict=True)):.1f}x",
        ]
        for label, all_ in figures.items()
    ]
    show("One step (medians of 5 rounds)", ["", "us", "steps/s", "to the floor"], rows)


if __name__ == "__main__":
    main()
