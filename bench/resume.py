"""How long a run takes to go on after a kill: from opening the store to its next new call.

The process that drove it ended without a word, so its last snapshot is as old as it happens to be.
The call that was in progress is performed again first; that one does not count.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from bench.engines import answer, engine
from bench.table import milliseconds, show
from sequential.core.model import Status
from sequential.storage.folder import FolderAdapter

LENGTHS = (10, 1_000, 10_000)
ROUNDS = 7


def drive_and_die(folder: Path, calls: int) -> str:
    """Drive a run in a child process that ends abruptly when `calls` calls have been answered."""

    def die_at(i: int) -> dict[str, int]:
        if i == calls:
            os._exit(0)
        return answer(i)

    async def drive() -> None:
        async with engine(FolderAdapter(folder), step=die_at) as made:
            run = await made.create_run("job", {"steps": calls + 5})
            os.write(writer, run.id.encode())
            await made.resume(run.id)

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        asyncio.run(drive())
        os._exit(1)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read().decode()


async def resume(folder: Path, run_id: str, calls: int) -> float:
    """Seconds from opening the store to the moment a call after the first `calls` is performed."""
    reached: list[float] = []

    def note(i: int) -> dict[str, int]:
        if i > calls:
            reached.append(time.perf_counter())
        return answer(i)

    started = time.perf_counter()
    async with engine(FolderAdapter(folder), step=note) as made:
        run = await made.resume(run_id)
        assert run.status is Status.COMPLETED, run.error
    return reached[0] - started


def main() -> None:
    times: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        made = {}
        for calls in LENGTHS:
            folder = Path(name) / str(calls)
            made[calls] = (folder, drive_and_die(folder, calls))
        for number in range(ROUNDS):
            for calls, (folder, run_id) in made.items():
                copy = Path(name) / f"copy{number}-{calls}"
                shutil.copytree(folder, copy)
                os.sync()  # the copy must not be written to disk while we measure
                times.setdefault(calls, []).append(asyncio.run(resume(copy, run_id, calls)))
    base = statistics.median(times[LENGTHS[0]])
    rows = [
        [
            f"{calls:,} calls",
            milliseconds(statistics.median(t)),
            f"{statistics.median(t) / base:.2f}x",
        ]
        for calls, t in times.items()
    ]
    show("Going on after a kill (medians of 7 rounds)", ["after", "ms", "to 10 calls"], rows)


if __name__ == "__main__":
    main()
