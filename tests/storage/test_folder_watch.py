"""Being told what happened in the folder, by whichever process."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sequential.core.model import Status
from sequential.storage import folder_changes
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import LATER, NOW, answer, new_run


@pytest.fixture
async def adapter(tmp_path: Path) -> AsyncIterator[FolderAdapter]:
    adapter = FolderAdapter(tmp_path / "tasks")
    yield adapter
    await adapter.close()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[FolderAdapter]:
    adapter = FolderAdapter(tmp_path / "tasks")
    yield adapter
    await adapter.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def polling() -> int:
    return sum(thread.name == "sequential-folder-poll" for thread in threading.enumerate())


async def test_who_watches_a_folder_that_is_not_there_creates_none_and_sees_it_come(
    tmp_path: Path, adapter: FolderAdapter, other: FolderAdapter
) -> None:
    told: list[str] = []
    await adapter.watch(told.append)
    assert not (tmp_path / "tasks").exists()
    assert told == []
    await other.create_task_run(new_run())
    await until(lambda: told == [""])  # something happened: look


async def test_nobody_writes_what_nobody_reads(tmp_path: Path, adapter: FolderAdapter) -> None:
    await adapter.create_task_run(new_run())
    await adapter.close()
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["my-task"]


async def test_what_one_did_oneself_is_told_once(
    adapter: FolderAdapter, other: FolderAdapter
) -> None:
    run = await adapter.create_task_run(new_run())
    told: list[str] = []
    await adapter.watch(told.append)
    await adapter.answer(run.id, answer(1), NOW)
    another = await other.create_task_run(new_run(1))
    await until(lambda: another.id in told)
    assert told == [run.id, another.id]


ACTOR = """
import asyncio, sys
from sequential.core.model import RunEvent
from sequential.storage.folder import FolderAdapter
async def main():
    adapter = FolderAdapter(sys.argv[1])
    await adapter.answer(sys.argv[2], RunEvent("e", "n", "t"), "t")
    await adapter.close()
asyncio.run(main())
"""


async def test_what_another_process_did_is_told(tmp_path: Path, adapter: FolderAdapter) -> None:
    run = await adapter.create_task_run(new_run(status=Status.SUSPENDED))
    told: list[str] = []
    await adapter.watch(told.append)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ACTOR, str(tmp_path / "tasks"), run.id
    )
    assert await process.wait() == 0
    await until(lambda: told == [run.id])


async def test_a_run_whose_driver_has_parked_it_is_told_to_others(
    adapter: FolderAdapter, other: FolderAdapter
) -> None:
    run = await other.create_task_run(new_run())
    told: list[str] = []
    await adapter.watch(told.append)
    await other.claim(run.id, "token", NOW, LATER)
    answered = await adapter.answer(run.id, answer(1), NOW)  # it is told by two: one is enough
    assert answered.answers == 1
    await until(lambda: run.id in told)


async def test_the_file_begins_anew_when_it_is_long(
    tmp_path: Path,
    adapter: FolderAdapter,
    other: FolderAdapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = await adapter.create_task_run(new_run())
    told: list[str] = []
    await adapter.watch(told.append)
    monkeypatch.setattr(folder_changes, "_LONGEST", 1000)
    for number in range(60):
        await other.answer(run.id, answer(number), NOW)
    await until(lambda: run.id in told)
    await other.close()
    assert (tmp_path / "tasks/.changes").stat().st_size < 1100
    told.clear()
    late = await other.create_task_run(new_run(1))
    await until(lambda: late.id in told)


async def test_a_file_that_was_removed_is_made_again(
    tmp_path: Path, adapter: FolderAdapter, other: FolderAdapter
) -> None:
    run = await adapter.create_task_run(new_run())
    told: list[str] = []
    await adapter.watch(told.append)
    (tmp_path / "tasks/.changes").unlink()
    await until((tmp_path / "tasks/.changes").exists)
    await until(lambda: "" in told)
    await other.answer(run.id, answer(1), NOW)
    await until(lambda: run.id in told)


async def test_rubbish_in_the_file_harms_nobody(
    tmp_path: Path, adapter: FolderAdapter, other: FolderAdapter
) -> None:
    run = await adapter.create_task_run(new_run())
    told: list[str] = []
    await adapter.watch(told.append)
    with (tmp_path / "tasks/.changes").open("ab") as file:
        file.write(b"\xff\xfe \xff\nabc\n\n \n")
    await other.answer(run.id, answer(1), NOW)
    await until(lambda: run.id in told)


async def test_nothing_runs_while_nobody_watches_and_after_closing(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path / "tasks")
    before = polling()
    run = await adapter.create_task_run(new_run())
    assert polling() == before
    await adapter.watch(lambda run_id: None)
    assert polling() == before + 1
    claimed = await adapter.claim(run.id, "token", NOW, LATER)
    assert polling() == before + 2
    await adapter.close()
    assert polling() == before
    await adapter.claim(run.id, "token", NOW, LATER)  # it can be used again
    await adapter.update_task_run(run.id, turn=claimed.turn + 1)
    await adapter.close()
    assert polling() == before


async def test_an_adapter_that_nobody_needs_any_more_ends_its_threads(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path / "tasks")
    before = polling()
    await adapter.watch(lambda run_id: None)
    assert polling() == before + 1
    gone = weakref.ref(adapter)
    assert adapter._pool
    adapter._pool.shutdown()
    del adapter
    async with asyncio.timeout(10):
        while gone() is not None or polling() > before:
            gc.collect()
            await asyncio.sleep(0.01)


async def test_a_run_that_others_changed_is_found_by_who_was_told(
    adapter: FolderAdapter, other: FolderAdapter
) -> None:
    run = await adapter.create_task_run(new_run(status=Status.SUSPENDED))
    assert await adapter.wakeups(NOW) == []
    woken = asyncio.Event()
    await adapter.watch(lambda run_id: woken.set())
    await other.answer(run.id, None, NOW)
    await asyncio.wait_for(woken.wait(), 10)
    assert await adapter.wakeups(NOW) == [run.id]
