"""Memory of the main process while 1,000 runs wait in storage."""

import asyncio
import os
import tempfile
from pathlib import Path

from bench.engines import engine
from bench.table import show
from sequential.core.model import Status
from sequential.storage.folder import FolderAdapter

RUNS = 1000
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


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = asyncio.run(measure(Path(name)))
    show("Memory of the main process", ["", "MiB", "KiB per further run"], rows)


if __name__ == "__main__":
    main()
