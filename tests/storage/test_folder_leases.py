"""Who may write to a run, across processes, threads and forks."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Commit, LogLine, Status, TaskConfig, TaskFunction, TaskRun, evolve
from sequential.errors import DamagedRunError, LeaseLostError, RunBusyError, RunNotFoundError
from sequential.storage import folder_lease, folder_tasks
from sequential.storage.folder import FolderAdapter
from sequential.storage.folder_lease import Lease
from sequential.storage.folder_places import RunFiles
from sequential.testing.storage_contract import NOW, SOON, new_call, new_run

RIVAL = """
import asyncio, sys
from sequential.errors import RunBusyError
from sequential.storage.folder import FolderAdapter
async def main():
    adapter = FolderAdapter(sys.argv[1])
    while line := sys.stdin.readline():
        what, run_id = line.split()
        if what == "release":
            await adapter.release(run_id, "token")
            continue
        try:
            await adapter.claim(run_id, "token", "t", "t")
            print("won", flush=True)
        except RunBusyError:
            print("busy", flush=True)
asyncio.run(main())
"""


async def test_of_two_processes_that_claim_a_run_one_wins(tmp_path: Path) -> None:
    rivals = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", RIVAL, tmp_path, stdin=-1, stdout=-1
        )
        for _ in range(2)
    ]

    async def ask(rival: Any, what: str, run_id: str) -> str:
        rival.stdin.write(f"{what} {run_id}\n".encode())
        await rival.stdin.drain()
        return (await rival.stdout.readline()).decode().strip() if what == "claim" else ""

    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    for number in range(100):
        if number % 10 == 0:
            run = await adapter.create_task_run(new_run(number))
        answers = await asyncio.gather(*(ask(rival, "claim", run.id) for rival in rivals))
        assert sorted(answers) == ["busy", "won"], number
        winner = answers.index("won")
        await ask(rivals[winner], "release", run.id)
        for _ in range(500):
            if not await adapter.is_leased(run, NOW):
                break
            await asyncio.sleep(0.001)
    assert await adapter.damaged() == []
    for rival in rivals:
        assert rival.stdin
        rival.stdin.close()
        assert await rival.wait() == 0
    await adapter.close()


async def test_a_forked_process_does_not_keep_its_parents_lease(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, time
from sequential.storage.folder import FolderAdapter
async def main():
    adapter = FolderAdapter({str(tmp_path)!r})
    [run] = await adapter.query_task_runs()
    await adapter.claim(run.id, "theirs", "t", "t")
    if os.fork():
        os.kill(os.getpid(), {signal.SIGKILL})
    print("forked", os.getpid(), flush=True)
    os.close(1)  # whoever waits for the parent waits for its pipe, too
    time.sleep(60)
asyncio.run(main())
"""
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    _, child = (await process.stdout.readline()).split()
    await process.wait()
    try:
        assert (await adapter.claim(run.id, "ours", NOW, SOON)).lease_token == "ours"
    finally:
        os.kill(int(child), signal.SIGKILL)
    await adapter.close()


async def test_closing_an_adapter_gives_its_leases_back(tmp_path: Path) -> None:
    one, two = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    run = await one.create_task_run(new_run())
    driven = await one.claim(run.id, "one", NOW, SOON)
    await one.close()
    assert not await two.is_leased(driven, NOW)
    await two.claim(run.id, "two", NOW, SOON)
    with pytest.raises(LeaseLostError):
        await one.commit(Commit(evolve(driven, turn=1), "one"))
    await one.close()
    await two.close()


async def test_a_cancelled_claim_leaves_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, other = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    real = folder_lease._lock

    def slow(place: RunFiles, patience: tuple[float, ...]) -> int:
        time.sleep(0.05)
        return real(place, patience)

    monkeypatch.setattr(folder_lease, "_lock", slow)
    claiming = asyncio.ensure_future(adapter.claim(run.id, "one", NOW, SOON))
    await asyncio.sleep(0.01)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    monkeypatch.undo()
    await asyncio.sleep(0.15)
    await other.claim(run.id, "two", NOW, SOON)
    await adapter.close()
    await other.close()


async def test_a_cancelled_commit_is_whole_or_absent_and_the_next_one_follows_it(
    tmp_path: Path,
) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    for number in range(0, 40, 2):
        step = Commit(evolve(run, turn=number), "token", (new_call(run, number),))
        committing = asyncio.ensure_future(adapter.commit(step))
        await asyncio.sleep(0.0001 * (number % 5))
        committing.cancel()
        step = Commit(evolve(run, turn=number + 1), "token", (new_call(run, number + 1),))
        await adapter.commit(step)
        await asyncio.gather(committing, return_exceptions=True)
    found = {call.sequence for call in await adapter.load_calls(run.id)}
    assert found >= set(range(1, 40, 2))
    assert await adapter.damaged() == []
    await adapter.close()


async def test_the_simple_methods_respect_another_process_but_not_for_long(tmp_path: Path) -> None:
    one, two = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    run = await one.create_task_run(new_run())
    await asyncio.gather(
        *((one, two)[i % 2].append_log(run.id, LogLine(NOW, str(i))) for i in range(10))
    )
    assert len(await one.get_log(run.id)) == 10
    await one.claim(run.id, "token", NOW, SOON)
    for attempt in (
        two.update_task_run(run.id, turn=1),
        two.create_stack_run(new_call(run, 0)),
        two.update_stack_run(f"{run.id}:0", attempts=1),
        two.append_log(run.id, LogLine(NOW, "x")),
    ):
        with pytest.raises(RunBusyError, match=r"another process drives run \w+-.*wait"):
            await attempt
    await one.close()
    await two.close()


async def test_a_run_deleted_while_it_is_driven_stops_there(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    next(tmp_path.glob("*/runs/*.journal")).unlink()
    with pytest.raises(DamagedRunError, match="was deleted while the run was being driven"):
        await adapter.commit(Commit(evolve(claimed, turn=1), "token"))
    await adapter.close()


async def test_a_journal_changed_by_another_program_is_not_appended_to(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    journal = next(tmp_path.glob("*/runs/*.journal"))
    with journal.open("ab") as file:
        file.write(b"# a note\n")
    before = journal.read_bytes()
    with pytest.raises(DamagedRunError, match="was changed by another program"):
        await adapter.commit(Commit(evolve(claimed, turn=1), "token"))
    assert journal.read_bytes() == before
    await adapter.close()


async def test_who_locks_a_run_of_a_task_just_deleted_finds_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = FolderAdapter(tmp_path)
    await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    run = await adapter.create_task_run(new_run())
    place = adapter.places.existing(run.id)
    real = folder_lease._open

    def open_and_delete(found: RunFiles) -> int:
        descriptor = real(found)
        assert folder_tasks.delete(adapter.places, "my-task") == 1
        return descriptor

    monkeypatch.setattr(folder_lease, "_open", open_and_delete)
    with pytest.raises(RunNotFoundError):
        Lease(place)
    monkeypatch.undo()
    assert await adapter.find_run_ids("") == []
    assert list(tmp_path.iterdir()) == []
    await adapter.close()


async def test_a_task_whose_run_is_claimed_during_its_deletion_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, other = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    run = await adapter.create_task_run(new_run())
    claimed: list[TaskRun] = []
    real = os.rename

    def claim_and_rename(source: str, target: str) -> None:
        if not claimed:
            claimed.append(other._claim(run.id, "token", NOW, SOON))
        real(source, target)

    monkeypatch.setattr(os, "rename", claim_and_rename)
    with pytest.raises(RunBusyError):
        await adapter.delete_task("my-task")
    monkeypatch.undo()
    assert [path.name for path in Path(tmp_path).iterdir()] == ["my-task"]
    await other.commit(Commit(evolve(claimed[0], turn=1), "token"))
    await other.release(run.id, "token")
    assert await adapter.delete_task("my-task") == 1
    await adapter.close()
    await other.close()


async def test_many_runs_are_driven_at_once(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    runs = [await adapter.create_task_run(new_run(i)) for i in range(40)]

    async def drive(run: TaskRun) -> TaskRun:
        run = await adapter.claim(run.id, run.id, NOW, SOON)
        for turn in range(1, 6):
            run = evolve(run, turn=turn)
            await adapter.commit(Commit(run, run.id, (new_call(run, turn),), log=f"{turn}"))
        run = evolve(run, status=Status.COMPLETED, lease_token=None, lease_until=None)
        await adapter.commit(Commit(run, run.id))
        return run

    ended = await asyncio.gather(*(drive(run) for run in runs))
    assert await adapter.query_task_runs() == ended[::-1]
    assert len(await adapter.query_stack_runs()) == 200
    assert not adapter._held
    await adapter.close()
