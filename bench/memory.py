"""Memory of the main process while runs wait in storage: one that drove them, and a worker."""

import asyncio
import os
import tempfile
from pathlib import Path

from bench.engines import engine
from bench.stores import opened
from bench.table import show
from sequential.core.model import Status
from sequential.runner.worker import Worker
from sequential.storage.folder import FolderAdapter
from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import new_run

RUNS = 1000
MANY = 10_000
CODE = """
import asyncio
async def job(input):
    kept = [await services.tool.step(i) for i in range(3)]
    await asyncio.sleep(30 * 86400)
    return kept
"""


def resident() -> float:
    """MiB of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def measure(folder: Path) -> list[list[str]]:
    async with engine(FolderAdapter(folder), CODE) as made:

        async def park(count: int) -> None:
            for _ in range(count // 50):
                runs = await asyncio.gather(*[made.create_run("job", {}) for _ in range(50)])
                done = await asyncio.gather(*[made.drive(r.id) for r in runs])
                assert all(run.status is Status.SUSPENDED for run in done)

        await park(50)
        first = resident()
        await park(RUNS)
        then = resident()
    return [
        ["50 suspended runs", f"{first:.1f}", ""],
        [f"{RUNS + 50:,} suspended runs", f"{then:.1f}", f"{(then - first) * 1024 / RUNS:.2f}"],
    ]


async def of_worker(url: str) -> list[str]:
    """A worker beside runs that sleep, before there are any and after it has looked at many."""
    async with engine(await create_adapter(url)) as made:
        worker = Worker(made, sweep=0.1)
        working = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        before = resident()
        for number in range(MANY):
            sleeping = new_run(number, status=Status.SUSPENDED, wake_at="2999-01-01T00:00:00.000Z")
            await made.storage.create_task_run(sleeping)
        await asyncio.sleep(1)
        after = resident()
        worker.stop()
        await working
    more = f"{(after - before) * 1024 / MANY:.2f}"
    return [url.partition(":")[0], f"{before:.1f}", f"{after:.1f}", more]


def main() -> None:
    head = ["", "MiB", "KiB per further run"]
    with tempfile.TemporaryDirectory() as name:
        show("Memory of a process that drove runs", head, asyncio.run(measure(Path(name))))
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as stores:
        rows = [asyncio.run(of_worker(s.url)) for n, s in stores.items() if n != "memory"]
    head = ["", "MiB before", "MiB after", "KiB per run"]
    show(f"Memory of a worker beside {MANY:,} suspended runs", head, rows)


if __name__ == "__main__":
    main()
