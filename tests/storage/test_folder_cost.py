"""What does not grow with the length of a run: bytes read, not seconds, are counted."""

import os
from pathlib import Path

import pytest

from sequential.core.model import Commit, Snapshot, Status, evolve
from sequential.storage import folder_index
from sequential.storage.folder import FolderAdapter
from sequential.storage.folder_journal import Line, encode_line
from sequential.storage.folder_lease import Lease
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts with /proc")


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


async def a_long_run(folder: Path, calls: int) -> tuple[str, int]:
    """A parked run with a journal of so many calls, two lines of it younger than the snapshot."""
    adapter = FolderAdapter(folder)
    run = await adapter.create_task_run(new_run())
    journal = next(folder.glob("*/runs/*.journal"))
    with journal.open("ab") as file:
        for number in range(calls):
            done = delivered(new_call(run, number), number + 2, result={"text": "x" * 300})
            file.write(
                encode_line(Line(NOW, number + 2, run={"turn": number + 2}, requested=(done,)))
            )
    next(folder.glob("*/runs/*.json")).unlink()
    claimed = await adapter.claim(run.id, "token", NOW, SOON)
    turn = claimed.turn
    step = Commit(evolve(claimed, turn=turn + 1), "token", (new_call(run, calls),))
    await adapter.commit(evolve(step, snapshot=Snapshot(run.id, turn + 1, b"state")))
    for number in (1, 2):
        last = delivered(new_call(run, calls + number - 1), turn + 1 + number)
        asked = new_call(run, calls + number)
        step = Commit(evolve(claimed, turn=turn + 1 + number), "token", (asked,), (last,))
        await adapter.commit(step)
    await adapter.close()
    return run.id, turn + 1


async def cost_of_going_on(folder: Path, run_id: str, turn: int) -> int:
    adapter = FolderAdapter(folder)
    start = bytes_read()
    run = await adapter.claim(run_id, "next", NOW, SOON)
    assert await adapter.get_snapshot(run_id)
    calls = await adapter.load_calls(run_id, turn)
    assert [call.sequence for call in calls] == [run.turn - 4, run.turn - 3, run.turn - 2]
    parked = evolve(run, status=Status.SUSPENDED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(parked, "next"))
    found = await adapter.get_task_run(run_id)
    assert found
    assert found.turn == turn + 2
    assert len(await adapter.query_task_runs(status="suspended")) == 1
    await adapter.get_pending_stack_runs()
    assert await adapter.wakeups(NOW) == []
    read = bytes_read() - start
    await adapter.close()
    return read


async def test_going_on_after_20_000_calls_reads_as_much_as_after_20(tmp_path: Path) -> None:
    costs = []
    for calls in (20, 20_000):
        folder = tmp_path / str(calls)
        run_id, turn = await a_long_run(folder, calls)
        size = next(folder.glob("*/runs/*.journal")).stat().st_size
        costs.append(await cost_of_going_on(folder, run_id, turn))
    assert size > 10_000_000
    assert abs(costs[1] - costs[0]) < 1000
    assert costs[1] < 100_000


async def test_a_list_reads_no_large_values_and_no_more_runs_than_it_shows(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    for number in range(30):
        await adapter.create_task_run(new_run(number, input={"text": "x" * 200_000}))
    start = bytes_read()
    assert len(await adapter.query_task_runs()) == 30
    every = bytes_read() - start
    assert every < 100_000
    start = bytes_read()
    assert len(await adapter.query_task_runs(limit=3)) == 3
    assert bytes_read() - start < every / 5
    await adapter.close()


async def test_looking_for_work_reads_a_finished_run_once(tmp_path: Path) -> None:
    adapter, other = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    runs = [
        await adapter.create_task_run(new_run(i, status=Status.FAILED, code="#" * 10_000))
        for i in range(10)
    ]
    assert await adapter.wakeups(NOW) == []
    start = bytes_read()
    assert await adapter.wakeups(NOW) == []
    assert bytes_read() - start < 10_000
    assert len(await adapter.query_task_runs(status="failed")) == 10
    assert len(await adapter.query_task_runs(status=["failed", "pending"])) == 10
    assert await adapter.query_task_runs(status="completed") == []
    await other.update_task_run(runs[3].id, status=Status.SUSPENDED, wake_at=NOW)
    assert await adapter.wakeups(NOW) == [runs[3].id]
    assert len(await adapter.query_task_runs(status="failed")) == 9
    await adapter.close()
    await other.close()


async def test_looking_for_work_among_suspended_runs_reads_each_once(tmp_path: Path) -> None:
    adapter, other = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    sleeping = {"status": Status.SUSPENDED, "wake_at": LATER, "code": "#" * 5000}
    runs = [await adapter.create_task_run(new_run(i, **sleeping)) for i in range(200)]
    start = bytes_read()
    assert await adapter.wakeups(NOW) == []
    assert bytes_read() - start > 200 * 5000
    start = bytes_read()
    for _ in range(20):
        assert await adapter.wakeups(NOW) == []
        assert await adapter.next_wakeup(NOW) == LATER
        assert await adapter.query_task_runs(status="running") == []
        assert await adapter.query_task_runs(parent_run_id="x") == []
    assert bytes_read() - start < 1000
    await other.answer(runs[7].id, None, NOW)
    start = bytes_read()
    assert await adapter.wakeups(NOW) == [runs[7].id]
    assert bytes_read() - start < 20_000  # of one run
    await adapter.close()
    await other.close()


async def test_a_run_that_another_process_drives_is_not_read_at_each_of_its_steps(
    tmp_path: Path,
) -> None:
    adapter, other = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    run = await other.create_task_run(new_run(code="#" * 5000))
    run = await other.claim(run.id, "token", NOW, LATER)
    assert await adapter.wakeups(NOW) == []
    start = bytes_read()
    for turn in range(1, 20):
        await other.commit(Commit(evolve(run, turn=turn), "token"))
        assert await adapter.wakeups(NOW) == []
    assert bytes_read() - start < 1000
    parked = evolve(run, turn=20, status=Status.SUSPENDED, lease_token=None, wake_at=NOW)
    await other.commit(Commit(parked, "token"))
    assert await adapter.wakeups(NOW) == [run.id]
    await adapter.close()
    await other.close()


async def test_a_change_whose_view_was_not_written_is_found_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_index, "_COARSE", 0.0)
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run(status=Status.SUSPENDED))
    runs = next(tmp_path.glob("*/runs"))
    os.utime(runs, (0, 0))
    assert await adapter.wakeups(NOW) == []
    lease = Lease(adapter.places.existing(run.id))  # it dies before it writes the view
    lease.write(at=NOW, run=evolve(run, wake_at=NOW))
    lease.close()
    assert await adapter.wakeups(NOW) == []
    monkeypatch.setattr(folder_index, "_TRUSTED", 0.0)
    assert await adapter.wakeups(NOW) == [run.id]
    await adapter.close()


async def test_a_run_in_the_index_that_is_deleted_or_damaged_is_no_work(tmp_path: Path) -> None:
    adapter, other = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    runs = [await adapter.create_task_run(new_run(i)) for i in range(3)]
    assert await adapter.wakeups(LATER) == [run.id for run in runs]
    await other.delete_task_run(runs[0].id)
    next(tmp_path.glob(f"*/runs/run-{runs[1].id}.json")).write_bytes(b"?")
    assert await adapter.wakeups(LATER) == [runs[2].id]
    assert await adapter.query_task_runs(status="pending") == [runs[2]]
    await adapter.close()
    await other.close()
