"""Disks that are full, broken or read-only."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Commit, Snapshot, Status, TaskConfig, TaskFunction, evolve
from sequential.errors import StorageError, StorageFullError, StorageReadOnlyError
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run


def mount(options: str, folder: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("this user may not mount")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("size=1m", folder)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    adapter = FolderAdapter(small_disk / "tasks")
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    done = []

    async def fill() -> None:
        for number in range(100):
            call = new_call(run, number, input={"text": "x" * 30_000})
            await adapter.commit(Commit(evolve(run, turn=number + 1), "token", (call,)))
            done.append(call)

    with pytest.raises(StorageFullError, match=r"run-.*\.journal: No space left.*make room"):
        await fill()
    assert len(done) > 20
    reader = FolderAdapter(small_disk / "tasks")
    assert await reader.load_calls(run.id) == done
    with pytest.raises(StorageError, match="must be claimed again"):
        await adapter.commit(Commit(evolve(run, turn=99), "token", log="x" * 1000))
    large = new_run(1, input="x" * 900_000)
    with pytest.raises(StorageFullError):  # a value of its own file fails as well
        await reader.create_task_run(large)
    assert await reader.get_task_run(large.id) is None
    await reader.close()


async def test_a_run_goes_on_once_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    adapter = FolderAdapter(small_disk / "tasks")
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "one", NOW, SOON)
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    while os.write(descriptor, bytes(4096)) == 4096:
        if not os.statvfs(small_disk).f_bavail:
            break
    os.close(descriptor)
    step = Commit(evolve(claimed, turn=1), "one", (new_call(run, 0, input="x" * 5000),))
    with pytest.raises(StorageFullError):
        await adapter.commit(step)
    ballast.unlink()
    other = FolderAdapter(small_disk / "tasks")
    claimed = await other.claim(run.id, "two", NOW, SOON)
    assert claimed.turn == 0
    await other.commit(evolve(step, token="two"))
    assert await other.load_calls(run.id) == list(step.requested)
    assert await other.damaged() == []
    await adapter.close()
    await other.close()


async def test_a_full_disk_spoils_no_commit_that_only_lacks_its_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    real = os.write

    def full_but_for_journals(descriptor: int, data: Any) -> int:
        if "journal" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            return real(descriptor, data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full_but_for_journals)
    parked = evolve(claimed, turn=1, status=Status.SUSPENDED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(parked, "token", snapshot=Snapshot(run.id, 1, b"x")))
    monkeypatch.undo()
    assert await adapter.get_task_run(run.id) == parked
    assert await adapter.get_snapshot(run.id) is None
    assert not list(tmp_path.glob("*/runs/*.tmp"))
    await adapter.close()


FAULTS = {
    "write": (errno.ENOSPC, StorageFullError),
    "short write": (None, StorageFullError),
    "write to a quota": (errno.EDQUOT, StorageFullError),
    "write past the limit": (errno.EFBIG, StorageFullError),
    "write, broken": (errno.EIO, StorageError),
    "fdatasync": (errno.EIO, StorageError),
    "fdatasync, full": (errno.ENOSPC, StorageFullError),
    "fdatasync, read-only": (errno.EROFS, StorageReadOnlyError),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failed_append_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    number, expected = FAULTS[fault]
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    call = new_call(run, 0)
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (call,)))
    journal = next(tmp_path.glob("*/runs/*.journal"))
    before = journal.read_bytes()
    real = os.write

    def fail(descriptor: int, data: Any = b"") -> int:
        if number is None:
            return real(descriptor, data[:20])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync" if "fdatasync" in fault else "write", fail)
    step = Commit(evolve(claimed, turn=2), "token", updated=(delivered(call, 2),))
    with pytest.raises(expected, match=r"run-.*\.journal: ") as caught:
        await adapter.commit(step)
    assert type(caught.value) is expected
    monkeypatch.undo()
    assert journal.read_bytes() == before
    for attempt in (adapter.commit(step), adapter.renew(run.id, "token", LATER)):
        with pytest.raises(StorageError):
            await attempt
    assert not await adapter.is_leased(claimed, NOW)
    found = await adapter.get_task_run(run.id)
    assert found
    assert found.turn == 1
    assert (await adapter.claim(run.id, "again", NOW, SOON)).turn == 1
    await adapter.commit(evolve(step, token="again"))
    assert await adapter.load_calls(run.id) == [delivered(call, 2)]
    await adapter.close()


LIMITED = """
import asyncio, resource, sys
from sequential.core.model import Commit, evolve
from sequential.errors import StorageFullError
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import new_run
async def main():
    adapter = FolderAdapter(sys.argv[1])
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", "t", "t")
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    for number in range(100):
        try:
            await adapter.commit(Commit(evolve(run, turn=number + 1), "token", log="x" * 3000))
        except StorageFullError as error:
            print(run.id, number, error)
            break
asyncio.run(main())
"""


async def test_a_limit_on_the_size_of_files_is_like_a_full_disk(tmp_path: Path) -> None:
    output = await asyncio.to_thread(
        subprocess.check_output, [sys.executable, "-c", LIMITED, str(tmp_path)], text=True
    )
    run_id, turns, message = output.split(maxsplit=2)
    assert "make room" in message
    adapter = FolderAdapter(tmp_path)
    found = await adapter.get_task_run(run_id)
    assert found
    assert found.turn == int(turns) == 16
    assert len(await adapter.get_log(run_id)) == 16
    await adapter.close()


UNPRIVILEGED = """
import asyncio, os, sys
from sequential.core.model import Commit, Status, TaskConfig, TaskFunction, evolve
from sequential.errors import StorageError
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import new_call, new_run
async def main():
    os.chdir(sys.argv[1])
    run_id = sys.argv[2]
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    adapter = FolderAdapter("tasks")
    assert len(await adapter.query_task_runs()) == 1
    assert (await adapter.get_task_run(run_id)).id == run_id
    assert await adapter.load_calls(run_id) == []
    assert len(await adapter.list_task_functions()) == 1
    assert await adapter.wakeups("2030") == [run_id]
    for attempt in (
        adapter.create_task_run(new_run(1)),
        adapter.claim(run_id, "token", "t", "t"),
        adapter.update_task_run(run_id, status=Status.PAUSED),
        adapter.store_task_function(TaskFunction("new", "1", TaskConfig("new"))),
        adapter.store_task_function(TaskFunction("my-task", "2", TaskConfig("my-task"))),
        adapter.delete_task("my-task"),
    ):
        try:
            await attempt
        except StorageError as error:
            print(type(error).__name__, error)
        else:
            print("nothing was raised")
    await adapter.close()
asyncio.run(main())
"""


async def test_a_folder_without_permission_can_be_read_and_says_what_to_do() -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    adapter = FolderAdapter(folder / "tasks")
    run = await adapter.create_task_run(new_run())
    await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    await adapter.close()
    await check_read_only(folder, run.id)
    shutil.rmtree(folder)


async def test_a_read_only_disk_can_be_read_and_says_what_to_do(tmp_path: Path) -> None:
    mount("size=1m", tmp_path)
    try:
        adapter = FolderAdapter(tmp_path / "tasks")
        run = await adapter.create_task_run(new_run())
        await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
        await adapter.close()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        await check_read_only(tmp_path, run.id, UNPRIVILEGED.replace("os.geteuid() == 0", "False"))
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


async def check_read_only(folder: Path, run_id: str, script: str = UNPRIVILEGED) -> None:
    modes = [path for path in [folder, *folder.rglob("*")] if os.geteuid() != 0]
    for path in modes:
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    command = [sys.executable, "-c", script, str(folder), run_id]
    output = await asyncio.to_thread(subprocess.check_output, command, text=True)
    for path in modes:
        path.chmod(path.stat().st_mode | 0o200)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    lines = output.splitlines()
    assert len(lines) == 6
    for line in lines:
        assert line.startswith("StorageReadOnlyError tasks"), line
        assert "give this user permission" in line
