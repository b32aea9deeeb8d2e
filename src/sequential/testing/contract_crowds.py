"""What a store must stand: several that open it at once, and many runs that are driven at once."""

import asyncio

from sequential.core.model import (
    Commit,
    Snapshot,
    Status,
    TaskRun,
    evolve,
)
from sequential.errors import (
    RunBusyError,
)
from sequential.storage.base import StorageAdapter
from sequential.testing.contract_base import Contract, OpenAdapter
from sequential.testing.contract_records import (
    LATER,
    NOW,
    SOON,
    delivered,
    new_call,
    new_run,
)


class CrowdsContract(Contract):
    """Many at once."""

    async def test_eight_open_an_empty_store_at_once(self, open_adapter: OpenAdapter) -> None:
        adapters = await asyncio.gather(*(open_adapter() for _ in range(8)))
        try:
            runs = [new_run(i) for i in range(8)]
            await asyncio.gather(
                *(one.create_task_run(run) for one, run in zip(adapters, runs, strict=True))
            )
            for one in adapters:
                assert await one.query_task_runs() == runs[::-1]
        finally:
            for one in dict.fromkeys(adapters):
                await one.close()

    async def test_many_runs_are_driven_by_two_at_once(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        stores = (adapter, other)
        runs = [new_run(i) for i in range(self.crowd)]
        await asyncio.gather(*(stores[i % 2].create_task_run(run) for i, run in enumerate(runs)))

        async def drive(number: int) -> TaskRun:
            store, token = stores[number % 2], f"token-{number}"
            run = await store.claim(runs[number].id, token, NOW, LATER)
            call = new_call(run, 0, requested_turn=1)
            await store.commit(Commit(run := evolve(run, turn=1), token, (call,), log="1"))
            assert await store.load_calls(run.id, 1) == [call]
            done, call = delivered(call, 2), new_call(run, 1, requested_turn=2)
            snapshot = Snapshot(run.id, 2, b"state")
            step = Commit(run := evolve(run, turn=2), token, (call,), (done,), "2", snapshot)
            await store.commit(step)
            end = {"status": Status.COMPLETED, "lease_token": None, "lease_until": None}
            run = evolve(run, turn=3, result=number, ended_at=SOON, **end)
            await store.commit(Commit(run, token, updated=(delivered(call, 3),), log="3"))
            return run

        ended = await asyncio.gather(*(drive(number) for number in range(self.crowd)))
        assert await other.wakeups(LATER) == []
        for number, run in enumerate(ended):
            store = stores[(number + 1) % 2]
            assert await store.get_task_run(run.id) == run
            calls = await store.query_stack_runs(task_run_id=run.id)
            assert [call.delivered_turn for call in calls] == [2, 3]
            assert "".join(line.text for line in await store.get_log(run.id)) == "123"
            assert await store.get_snapshot(run.id) == Snapshot(run.id, 2, b"state")

    async def test_who_races_for_a_run_drives_it_alone(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        steps = 0

        async def work(number: int) -> None:
            nonlocal steps
            store, token = (adapter, other)[number % 2], f"token-{number}"
            for _ in range(5):
                try:
                    mine = await store.claim(run.id, token, NOW, LATER)
                except RunBusyError:
                    await asyncio.sleep(0)
                    continue
                await store.commit(Commit(evolve(mine, turn=mine.turn + 1), token))
                steps += 1
                await store.release(run.id, token)

        await asyncio.gather(*(work(number) for number in range(6)))
        found = await other.get_task_run(run.id)
        assert found
        assert found.turn == steps > 0
