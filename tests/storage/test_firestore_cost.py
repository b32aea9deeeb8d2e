"""What is billed, counted by the test server: the figures of docs/firestore.md."""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from sequential.core import times
from sequential.core.model import Commit, Snapshot, Status, TaskConfig, evolve
from sequential.storage.firestore import FirestoreAdapter
from sequential.storage.firestore_place import Place
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run
from support.firestore_server import FirestoreServer

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


@pytest_asyncio.fixture
async def adapter(
    server: FirestoreServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FirestoreAdapter]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
    adapter = FirestoreAdapter(Place("demo", "(default)", f"cost{next(_numbers)}"))
    await adapter.init()
    yield adapter
    await adapter.close()


class Bill:
    """What was read, written and deleted since it was last asked for."""

    def __init__(self, server: FirestoreServer) -> None:
        self._server = server
        server.reset_counts()

    def take(self) -> tuple[int, int, int]:
        counts = self._server.counts
        self._server.reset_counts()
        return counts["reads"], counts["writes"], counts["deletes"]


async def test_a_step_is_one_write_and_reads_nothing(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    bill = Bill(server)
    await adapter.create_task_run(new_run())
    assert bill.take() == (0, 2, 0), "the run and, for the first of its kind, its program"
    run = await adapter.create_task_run(new_run(1))
    assert bill.take() == (0, 1, 0)
    [claimed, _] = await adapter.claim_due("token", NOW, LATER, 2)
    assert claimed.id in (run.id, claimed.id)
    assert bill.take()[1:] == (2, 0)
    call = new_call(claimed, 0, requested_turn=1)
    run = evolve(claimed, turn=1)
    await adapter.commit(Commit(run, "token", (call,), log="printed"))
    assert bill.take() == (0, 1, 0)
    for turn in range(2, 30):
        done, call = delivered(call, turn), new_call(run, turn - 1, requested_turn=turn)
        run = evolve(run, turn=turn)
        await adapter.commit(Commit(run, "token", (call,), (done,), log="printed"))
    assert bill.take() == (0, 28, 0)
    await adapter.renew(run.id, "token", LATER)
    assert bill.take() == (0, 1, 0)
    parked = evolve(run, status=Status.SUSPENDED, lease_token=None, lease_until=None, wake_at=SOON)
    await adapter.commit(Commit(parked, "token", snapshot=Snapshot(run.id, 29, b"x" * 100_000)))
    assert bill.take() == (0, 1, 0)


async def test_a_resume_is_three_reads_and_one_write(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    run = await adapter.create_task_run(new_run(status=Status.SUSPENDED, wake_at=SOON))
    await adapter.create_stack_run(new_call(run, 0))
    await adapter.store_snapshot(Snapshot(run.id, 1, b"x" * 200_000))
    bill = Bill(server)
    [claimed] = await adapter.claim_due("token", SOON, LATER, 10)
    assert claimed.id == run.id
    assert bill.take() == (1, 1, 0)
    assert await adapter.get_snapshot(run.id)
    assert len(await adapter.load_calls(run.id, 1)) == 1
    assert bill.take() == (2, 0, 0)


async def test_a_snapshot_or_a_value_that_is_large_is_a_document_for_each_megabyte(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, LATER)
    bill = Bill(server)
    await adapter.commit(Commit(run, "token", snapshot=Snapshot(run.id, 1, b"x" * 1_500_000)))
    assert bill.take() == (0, 3, 0)
    call = new_call(run, 0, input="x" * 40_000)
    await adapter.commit(Commit(run, "token", (call,), snapshot=Snapshot(run.id, 2, b"small")))
    assert bill.take() == (0, 2, 2)


async def test_looking_for_work_does_not_get_dearer_with_what_is_stored(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    asleep = {"status": Status.SUSPENDED, "wake_at": LATER}
    for i in range(60):
        await adapter.create_task_run(new_run(i, **(asleep if i % 2 else {"status": "completed"})))
    bill = Bill(server)
    assert await adapter.wakeups(SOON) == []
    assert await adapter.next_wakeup(SOON) == LATER
    assert bill.take() == (2, 0, 0)
    due = await adapter.create_task_run(new_run(99))
    bill.take()
    assert await adapter.wakeups(SOON, 5, tasks=["my-task", "another"]) == [due.id]
    assert await adapter.wakeups(SOON, 5, tasks=["another"]) == []
    assert bill.take() == (2, 0, 0)


async def test_of_many_that_are_due_only_the_wanted_ones_are_read(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    runs = [
        await adapter.create_task_run(new_run(i, priority=i % 7, task_identifier=f"t{i % 2}"))
        for i in range(100)
    ]
    bill = Bill(server)
    expected = sorted(runs, key=lambda run: (-run.priority, run.updated_at))
    assert await adapter.wakeups(LATER, 10) == [run.id for run in expected[:10]]
    assert bill.take()[0] <= 11
    late = await adapter.create_task_run(
        new_run(200, status=Status.SUSPENDED, wake_at=times.after(NOW, 900), priority=9)
    )
    assert await adapter.wakeups(LATER, 3) == [late.id, *(run.id for run in expected[:2])]
    ones = [run for run in expected if run.task_identifier == "t1"]
    found = await adapter.wakeups(NOW, 60, without=["t0"])
    assert found == [run.id for run in ones]


async def test_a_limited_task_costs_its_driven_runs_and_one_write_more(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    config = TaskConfig("my-task", concurrency=3)
    runs = [await adapter.create_task_run(new_run(i, config=config)) for i in range(6)]
    await adapter.claim(runs[0].id, "a", NOW, LATER)
    bill = Bill(server)
    await adapter.claim(runs[1].id, "a", NOW, LATER)
    assert bill.take() == (3, 2, 0)
    assert len(await adapter.claim_due("b", NOW, LATER, 10)) == 1


async def test_runs_that_wait_for_room_cost_nobody_anything(
    server: FirestoreServer, adapter: FirestoreAdapter
) -> None:
    config = TaskConfig("my-task", concurrency=2)
    for i in range(50):
        await adapter.create_task_run(new_run(i, config=config, priority=5))
    driven = await adapter.claim_due("token", NOW, LATER, 10)
    assert len(driven) == 2
    bill = Bill(server)
    assert await adapter.claim_due("token", NOW, LATER, 10) == []
    # The mark of the task, its two driven runs, the best that waits for room or for a time.
    assert bill.take() == (5, 0, 0)
    free = await adapter.create_task_run(new_run(70, task_identifier="another"))
    bill.take()
    assert [run.id for run in await adapter.claim_due("token", NOW, LATER, 10)] == [free.id]
    assert bill.take() == (6, 1, 0)
    end = evolve(driven[0], status=Status.COMPLETED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(end, "token"))
    bill.take()
    assert len(await adapter.claim_due("token", NOW, LATER, 10)) == 1
    assert bill.take()[0] <= 8
    assert len(await adapter.wakeups(SOON, 100)) == 47
    unlimited = TaskConfig("my-task")
    waiting = (await adapter.wakeups(NOW, 1))[0]
    await adapter.update_task_run(waiting, config=unlimited)
    assert [run.id for run in await adapter.claim_due("token", NOW, LATER, 10)] == [waiting]
    assert len(await adapter.query_task_runs(task_identifier="my-task")) == 50
    assert len(await adapter.query_task_runs()) == 51
    assert len(await adapter.find_run_ids("")) == 51


@pytest.mark.parametrize("filters", [{}, {"task_identifier": "my-task"}, {"parent_run_id": "p"}])
async def test_a_page_of_a_list_reads_its_runs(
    server: FirestoreServer, adapter: FirestoreAdapter, filters: Any
) -> None:
    runs = [await adapter.create_task_run(new_run(i, parent_run_id="p")) for i in range(30)]
    await adapter.create_task_run(new_run(50, task_identifier="another"))
    bill = Bill(server)
    page = await adapter.query_task_runs(limit=10, before=runs[20].id, **filters)
    assert page == runs[19:9:-1]
    assert bill.take() == (10, 0, 0)
    assert await adapter.find_run_ids(runs[3].id[:13])
    await adapter.delete_task_run(runs[0].id)
