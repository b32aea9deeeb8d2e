"""How many runs of a task are driven at once, across processes."""

import asyncio
import fcntl
import os
import sys
from pathlib import Path

import pytest

from sequential.core.model import TaskConfig
from sequential.errors import RunBusyError, TaskLimitError
from sequential.storage import folder_limit
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import LATER, NOW, new_run

WORKER = """
import asyncio, sys
from sequential.errors import RunBusyError
from sequential.storage.folder import FolderAdapter
async def main():
    adapter = FolderAdapter(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    claimed = await adapter.claim_due("token", "2030", "2031", 9)
    print(len(claimed), flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


async def test_workers_that_claim_at_once_drive_no_more_than_allowed(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    config = TaskConfig("my-task", concurrency=2)
    for number in range(9):
        await adapter.create_task_run(new_run(number, config=config))
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, str(tmp_path), stdin=-1, stdout=-1
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout
        assert await worker.stdout.readline() == b"ready\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write(b"go\n")
    numbers = [int(await worker.stdout.readline()) for worker in workers if worker.stdout]
    assert sum(numbers) == 2
    (late, *_) = await adapter.wakeups(LATER)
    with pytest.raises(TaskLimitError, match="2 runs of my-task are being driven"):
        await adapter.claim(late, "late", NOW, LATER)
    for worker, claimed in zip(workers, numbers, strict=True):
        if claimed:
            worker.kill()  # its places are free at once
        await worker.communicate(b"end\n")
    assert (await adapter.claim(late, "late", NOW, LATER)).id == late
    await adapter.close()


async def test_who_cannot_count_in_time_says_so_and_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_limit, "_PATIENCE", 0.02)
    adapter, other = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run(config=TaskConfig("my-task", concurrency=1)))
    descriptor = os.open(tmp_path / "my-task/runs/.claiming", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(RunBusyError, match="keep claiming runs of my-task: try again later"):
        await adapter.claim(run.id, "token", NOW, LATER)
    os.close(descriptor)
    assert (await other.claim(run.id, "token", NOW, LATER)).id == run.id
    await adapter.close()
    await other.close()
