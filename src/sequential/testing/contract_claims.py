"""How a store must hand out work: many claims at once, limits of tasks, several runs in one go."""

import asyncio

import pytest

from sequential.core import times
from sequential.core.model import (
    Commit,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.errors import (
    TaskLimitError,
)
from sequential.storage.base import StorageAdapter
from sequential.testing.contract_base import Contract
from sequential.testing.contract_records import (
    LATER,
    NOW,
    SOON,
    answer,
    new_run,
)


class ClaimsContract(Contract):
    """Claims, one by one."""

    async def test_no_more_runs_of_a_task_are_driven_than_it_says(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        config = TaskConfig("my-task", concurrency=3)
        runs = [await adapter.create_task_run(new_run(i, config=config)) for i in range(20)]
        results = await asyncio.gather(
            *(
                (adapter, other)[i % 2].claim(run.id, f"t{i}", NOW, SOON)
                for i, run in enumerate(runs)
            ),
            return_exceptions=True,
        )
        claimed = [result for result in results if isinstance(result, TaskRun)]
        assert len(claimed) == 3
        assert sum(isinstance(result, TaskLimitError) for result in results) == 17
        driven = await other.query_task_runs(status=Status.RUNNING)
        assert sorted(run.id for run in driven) == sorted(run.id for run in claimed)

    async def test_who_ends_makes_room(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        config = TaskConfig("my-task", concurrency=1)
        one, two = [await adapter.create_task_run(new_run(i, config=config)) for i in range(2)]
        claimed = await adapter.claim(one.id, "one", NOW, LATER)
        with pytest.raises(TaskLimitError):
            await other.claim(two.id, "two", NOW, LATER)
        assert await other.get_task_run(two.id) == two
        parked = evolve(claimed, status=Status.SUSPENDED, lease_token=None, lease_until=None)
        await adapter.commit(Commit(parked, "one"))
        await other.claim(two.id, "two", NOW, LATER)
        with pytest.raises(TaskLimitError):
            await adapter.claim(one.id, "one", NOW, LATER)
        await other.release(two.id, "two")
        await adapter.claim(one.id, "one", NOW, LATER)

    async def test_a_limit_is_for_one_task(self, adapter: StorageAdapter) -> None:
        for i, task in enumerate(("a", "b", "c")):
            config = TaskConfig(task, concurrency=None if task == "c" else 1)
            run = new_run(i, task_identifier=task, config=config)
            await adapter.create_task_run(run)
            assert (await adapter.claim(run.id, "token", NOW, LATER)).status is Status.RUNNING
        for number in (8, 9):
            run = await adapter.create_task_run(new_run(number, task_identifier="c"))
            await adapter.claim(run.id, "token", NOW, LATER)

    async def test_a_lease_that_has_ended_takes_no_room(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        if not self.leases_expire:
            pytest.skip("a lease lasts as long as its process")
        config = TaskConfig("my-task", concurrency=1)
        one, two = [await adapter.create_task_run(new_run(i, config=config)) for i in range(2)]
        await adapter.claim(one.id, "one", NOW, SOON)
        await other.claim(two.id, "two", LATER, times.after(LATER, 60))
        with pytest.raises(TaskLimitError):
            await adapter.claim(one.id, "three", LATER, times.after(LATER, 60))


class DueContract(Contract):
    """Claims of what is due, several in one go."""

    async def test_what_is_due_is_claimed_in_order(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        made = [
            new_run(0),
            new_run(1, priority=1),
            new_run(2, status=Status.SUSPENDED, wake_at=LATER),
            new_run(3, status=Status.SUSPENDED, wake_at=NOW, task_identifier="another"),
            new_run(4, status=Status.PAUSED),
            new_run(5, updated_at=times.after(NOW, 30)),
        ]
        runs = [await adapter.create_task_run(run) for run in made]
        assert await adapter.claim_due("token", SOON, LATER, 0) == []
        first = await adapter.claim_due("token", SOON, LATER, 2, None, ["another"])
        assert [run.id for run in first] == [runs[1].id, runs[0].id]
        for run in first:
            assert await other.get_task_run(run.id) == run
            assert (run.status, run.lease_token) == (Status.RUNNING, "token")
            assert run.started_at == SOON
            assert await adapter.renew(run.id, "token", times.after(LATER, 60)) == 0
        assert await adapter.claim_due("token", SOON, LATER, 9, []) == []
        second = await other.claim_due("other", SOON, LATER, 9, ["another"])
        assert [run.id for run in second] == [runs[3].id]
        third = await other.claim_due("other", SOON, LATER, 9)
        assert [run.id for run in third] == [runs[5].id]
        assert await adapter.claim_due("token", SOON, LATER, 9) == []

    async def test_of_many_who_ask_for_work_no_two_get_the_same(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        runs = [await adapter.create_task_run(new_run(i)) for i in range(30)]
        taken: list[tuple[str, str]] = []

        async def work(store: StorageAdapter, token: str) -> None:
            while await store.wakeups(SOON, 1):
                for run in await store.claim_due(token, SOON, LATER, 4):
                    assert run.lease_token == token
                    taken.append((run.id, token))

        await asyncio.gather(*(work((adapter, other)[i % 2], f"worker-{i}") for i in range(6)))
        assert sorted(run_id for run_id, _ in taken) == [run.id for run in runs]
        for run_id, token in taken:
            found = await other.get_task_run(run_id)
            assert found
            assert found.lease_token == token

    @pytest.mark.parametrize("at_a_time", [1, 9])
    async def test_a_task_at_its_limit_keeps_nobody_waiting(
        self, adapter: StorageAdapter, other: StorageAdapter, at_a_time: int
    ) -> None:
        config = TaskConfig("my-task", concurrency=2)
        for i in range(12):
            await adapter.create_task_run(new_run(i, config=config, priority=1))
        free = [
            await adapter.create_task_run(new_run(i, task_identifier="another")) for i in (20, 21)
        ]
        claimed: list[TaskRun] = []
        end = times.after(LATER, 60)
        while more := await (adapter, other)[len(claimed) % 2].claim_due(
            "t", LATER, end, at_a_time
        ):
            assert len(more) <= at_a_time
            claimed += more
        assert [run.task_identifier for run in claimed] == [
            "my-task",
            "my-task",
            "another",
            "another",
        ]
        assert [run.id for run in claimed[2:]] == [run.id for run in free]

    async def test_a_large_run_is_claimed_whole(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        large = {"text": "x" * 100_000}
        run = await adapter.create_task_run(new_run(input=large, events=(answer(data=large),)))
        (claimed,) = await other.claim_due("token", NOW, SOON, 1)
        assert (claimed.input, claimed.events) == (large, run.events)
        await other.commit(Commit(evolve(claimed, turn=1), "token"))
        found = await adapter.get_task_run(run.id)
        assert found
        assert (found.input, found.events, found.turn) == (large, run.events, 1)
