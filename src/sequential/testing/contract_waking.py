"""How a store must find work, and tell of it."""

from typing import Any

import pytest

from sequential.core import times
from sequential.core.model import (
    Commit,
    Status,
    evolve,
)
from sequential.storage.base import StorageAdapter
from sequential.testing.contract_base import Contract, until
from sequential.testing.contract_records import LATER, NOW, SOON, answer, new_run


class WakingContract(Contract):
    """What is due."""

    async def test_due_runs_are_found_longest_waiting_first(self, adapter: StorageAdapter) -> None:
        made = [
            new_run(0, status=Status.SUSPENDED, wake_at=LATER),
            new_run(1, status=Status.SUSPENDED, wake_at=SOON),
            new_run(2, status=Status.SUSPENDED),
            new_run(3, updated_at=NOW),
            new_run(4, status=Status.PAUSED, wake_at=NOW),
            new_run(5, status=Status.COMPLETED, wake_at=NOW),
            new_run(6, updated_at=LATER),
        ]
        runs = [await adapter.create_task_run(run) for run in made]
        late, soon, driven = runs[0].id, runs[1].id, runs[6].id
        assert await adapter.wakeups(SOON) == [runs[3].id, soon, driven]
        assert await adapter.wakeups(SOON, limit=1) == [runs[3].id]
        assert await adapter.wakeups(NOW) == [runs[3].id, driven]
        assert set(await adapter.wakeups(LATER)) == {runs[3].id, soon, driven, late}
        await adapter.claim(driven, "token", NOW, LATER)
        assert await adapter.wakeups(SOON) == [runs[3].id, soon]
        await adapter.release(driven, "token")
        assert driven in await adapter.wakeups(SOON)

    async def test_priority_goes_before_waiting(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        suspended = {"status": Status.SUSPENDED}
        made = [
            new_run(0, updated_at=NOW),
            new_run(1, updated_at=SOON, priority=5),
            new_run(2, wake_at=NOW, priority=5, **suspended),
            new_run(3, wake_at=SOON, priority=-1, **suspended),
            new_run(4, updated_at=times.after(NOW, -60)),
            new_run(5, wake_at=LATER, priority=9, **suspended),
            new_run(6, updated_at=NOW, priority=-2),
        ]
        runs = [await adapter.create_task_run(run) for run in made]
        in_order = [runs[i].id for i in (2, 1, 4, 0, 3, 6)]
        assert await other.wakeups(SOON) == in_order
        assert await other.wakeups(SOON, limit=3) == in_order[:3]
        await other.update_task_run(runs[6].id, priority=10)
        assert (await adapter.wakeups(SOON))[0] == runs[6].id

    async def test_a_run_may_begin_later(self, adapter: StorageAdapter) -> None:
        now, later = [
            await adapter.create_task_run(new_run(i, wake_at=at))
            for i, at in enumerate((None, LATER))
        ]
        assert await adapter.wakeups(SOON) == [now.id]
        assert set(await adapter.wakeups(LATER)) == {now.id, later.id}
        claimed = await adapter.claim_due("token", SOON, LATER, 9)
        assert [run.id for run in claimed] == [now.id]
        early = await adapter.claim(later.id, "early", SOON, times.after(LATER, 60))
        assert early.status is Status.RUNNING  # whoever asks for it by its id gets it

    async def test_a_worker_takes_care_of_some_tasks(self, adapter: StorageAdapter) -> None:
        runs = [
            await adapter.create_task_run(new_run(i, task_identifier=f"task{i % 3}"))
            for i in range(6)
        ]
        sleeping = {"status": Status.SUSPENDED, "wake_at": NOW}
        for i in (3, 4, 5):
            await adapter.update_task_run(runs[i].id, **sleeping)

        async def found(*names: Any) -> set[int]:
            ids = await adapter.wakeups(LATER, 100, *names)
            return {number for number, run in enumerate(runs) if run.id in ids}

        assert await found() == {0, 1, 2, 3, 4, 5}
        assert await found(["task0"]) == {0, 3}
        assert await found(["task0", "task2", "other"]) == {0, 2, 3, 5}
        assert await found([]) == set()
        assert await found(None, ["task0"]) == {1, 2, 4, 5}
        assert await found(None, {"task0", "task1", "other"}) == {2, 5}
        assert await found(["task0", "task1"], ["task1"]) == {0, 3}
        assert await found(["task0"], ["task0"]) == set()

    async def test_the_next_time_to_look_is_known(self, adapter: StorageAdapter) -> None:
        assert await adapter.next_wakeup(NOW) is None
        last = times.after(LATER, 60)
        made = [
            new_run(0),
            new_run(1, status=Status.SUSPENDED),
            new_run(2, status=Status.SUSPENDED, wake_at=NOW),
            new_run(3, status=Status.PAUSED, wake_at=SOON),
            new_run(4, status=Status.FAILED, wake_at=SOON),
        ]
        for run in made:
            await adapter.create_task_run(run)
        assert await adapter.next_wakeup(NOW) is None
        sleeping = new_run(5, status=Status.SUSPENDED, wake_at=last, task_identifier="another")
        await adapter.create_task_run(sleeping)
        assert await adapter.next_wakeup(NOW) == last
        delayed = await adapter.create_task_run(new_run(6, wake_at=LATER))
        assert await adapter.next_wakeup(NOW) == LATER
        assert await adapter.next_wakeup(NOW, ["another"]) == last
        assert await adapter.next_wakeup(NOW, ["another", "my-task"]) == LATER
        assert await adapter.next_wakeup(NOW, ["no-such-task"]) is None
        assert await adapter.next_wakeup(NOW, []) is None
        assert await adapter.next_wakeup(LATER) == last
        await adapter.delete_task_run(delayed.id)
        assert await adapter.next_wakeup(NOW) == last


class WatchingContract(Contract):
    """Being told."""

    async def test_who_watches_is_told_what_happened(self, adapter: StorageAdapter) -> None:
        told: list[str] = []
        await adapter.watch(told.append)
        run = await adapter.create_task_run(new_run())
        await until(lambda: run.id in told)
        told.clear()
        await adapter.answer(run.id, answer(), NOW)
        await until(lambda: run.id in told)
        claimed = await adapter.claim(run.id, "token", NOW, LATER)
        told.clear()
        parked = evolve(claimed, status=Status.SUSPENDED, lease_token=None, lease_until=None)
        await adapter.commit(Commit(parked, "token"))
        await until(lambda: run.id in told)
        claimed = await adapter.claim(run.id, "token", NOW, LATER)
        told.clear()
        ended = evolve(claimed, status=Status.COMPLETED, lease_token=None, lease_until=None)
        await adapter.commit(Commit(ended, "token"))
        await until(lambda: run.id in told)

    async def test_who_watches_is_told_what_others_did(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        if not self.tells_others:
            pytest.skip("this store does not tell what other processes did")
        told: list[str] = []
        await adapter.watch(told.append)
        run = await other.create_task_run(new_run())
        await until(lambda: run.id in told or "" in told)
        told.clear()
        await other.answer(run.id, answer(), NOW)
        await until(lambda: run.id in told or "" in told)
        claimed = await other.claim(run.id, "token", NOW, LATER)
        told.clear()
        parked = evolve(claimed, status=Status.SUSPENDED, lease_token=None, lease_until=None)
        await other.commit(Commit(parked, "token"))
        await until(lambda: run.id in told or "" in told)
