"""What a store must do for those who drive runs: leases and commits."""

import asyncio
import random

import pytest

from sequential.core import times
from sequential.core.model import (
    Commit,
    Frame,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskRun,
    evolve,
)
from sequential.errors import (
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
)
from sequential.storage.base import StorageAdapter
from sequential.testing.contract_base import Contract
from sequential.testing.contract_records import (
    LATER,
    NOW,
    SOON,
    delivered,
    new_call,
    new_run,
)


class LeasesContract(Contract):
    """Leases."""

    async def test_a_claim_takes_the_lease(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        assert not await other.is_leased(run, NOW)
        claimed = await adapter.claim(run.id, "token", NOW, SOON)
        assert claimed == await other.get_task_run(run.id)
        assert claimed.status is Status.RUNNING
        assert (claimed.lease_token, claimed.lease_until) == ("token", SOON)
        assert claimed.started_at == claimed.updated_at == NOW
        assert await other.is_leased(claimed, NOW)
        assert await adapter.is_leased(claimed, NOW)
        for adapter_ in (adapter, other):
            for token in ("token", "another"):
                with pytest.raises(RunBusyError):
                    await adapter_.claim(run.id, token, NOW, SOON)
        assert await other.get_task_run(run.id) == claimed

    async def test_of_many_who_claim_one_succeeds(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        results = await asyncio.gather(
            *((adapter, other)[i % 2].claim(run.id, f"t{i}", NOW, SOON) for i in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, TaskRun) for result in results) == 1
        assert sum(isinstance(result, RunBusyError) for result in results) == 9

    @pytest.mark.parametrize("status", [Status.PAUSED, *(s for s in Status if s.is_final)])
    async def test_what_is_paused_or_over_cannot_be_claimed(
        self, adapter: StorageAdapter, status: Status
    ) -> None:
        run = await adapter.create_task_run(new_run(status=status))
        with pytest.raises(InvalidTransitionError):
            await adapter.claim(run.id, "token", NOW, SOON)
        assert await adapter.get_task_run(run.id) == run
        assert not await adapter.is_leased(run, NOW)

    async def test_a_lease_is_renewed_by_its_holder_only(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        with pytest.raises(LeaseLostError):
            await adapter.renew(run.id, "token", LATER)
        run = await adapter.claim(run.id, "token", NOW, SOON)
        assert await adapter.renew(run.id, "token", LATER) == 0
        with pytest.raises(LeaseLostError):
            await adapter.renew(run.id, "another", LATER)
        with pytest.raises(RunBusyError):
            await adapter.claim(run.id, "another", times.after(SOON, 1), LATER)

    async def test_a_released_run_can_be_claimed_at_once(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        await adapter.claim(run.id, "one", NOW, LATER)
        await adapter.release(run.id, "another")
        with pytest.raises(RunBusyError):
            await other.claim(run.id, "two", NOW, LATER)
        await adapter.release(run.id, "one")
        released = await adapter.get_task_run(run.id)
        assert released
        assert released.lease_token is None
        assert not await other.is_leased(released, NOW)
        second = await other.claim(run.id, "two", NOW, LATER)
        await adapter.release(run.id, "one")
        with pytest.raises(LeaseLostError):
            await adapter.renew(run.id, "one", LATER)
        with pytest.raises(LeaseLostError):
            await adapter.commit(Commit(evolve(released, turn=1), "one"))
        await other.commit(Commit(evolve(second, turn=1), "two"))

    async def test_a_lease_ends_with_its_time_or_with_its_process(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        first = await adapter.claim(run.id, "one", NOW, SOON)
        if not self.leases_expire:
            with pytest.raises(RunBusyError):
                await other.claim(run.id, "two", LATER, LATER)
            await adapter.commit(Commit(evolve(first, turn=1), "one"))
            return
        assert not await other.is_leased(first, LATER)
        second = await other.claim(run.id, "two", LATER, times.after(LATER, 60))
        with pytest.raises(LeaseLostError):
            await adapter.commit(Commit(evolve(first, turn=1), "one"))
        assert await adapter.get_task_run(run.id) == second

    @pytest.mark.parametrize("status", [s for s in Status if s is not Status.RUNNING])
    async def test_a_commit_that_ends_the_driving_gives_the_lease_back(
        self, adapter: StorageAdapter, other: StorageAdapter, status: Status
    ) -> None:
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, LATER)
        run = evolve(run, status=status, lease_token=None, lease_until=None, wake_at=SOON)
        await adapter.commit(Commit(run, "token"))
        assert await other.get_task_run(run.id) == run
        assert not await other.is_leased(run, NOW)
        with pytest.raises(LeaseLostError):
            await adapter.commit(Commit(run, "token"))
        with pytest.raises(LeaseLostError):
            await adapter.renew(run.id, "token", LATER)
        if status in (Status.PENDING, Status.SUSPENDED):
            await other.claim(run.id, "two", NOW, SOON)

    async def test_the_holder_may_use_the_simple_methods(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, LATER)
        call = await adapter.create_stack_run(new_call(run, 0))
        call = await adapter.update_stack_run(call.id, attempts=2)
        assert call == new_call(run, 0, attempts=2)
        run = await adapter.update_task_run(run.id, wake_at=SOON)
        await adapter.commit(Commit(evolve(run, turn=1), "token", updated=(delivered(call, 1),)))
        assert await adapter.load_calls(run.id) == [delivered(call, 1)]
        paused = {"status": Status.PAUSED, "lease_token": None, "lease_until": None}
        await adapter.update_task_run(run.id, **paused)
        with pytest.raises(LeaseLostError):
            await adapter.commit(Commit(run, "token"))


class CommitsContract(Contract):
    """Commits."""

    async def test_a_commit_writes_everything(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, SOON)
        calls = [new_call(run, i, requested_turn=1) for i in range(3)]
        run = evolve(run, turn=1, where=Frame("code.py", 2))
        await adapter.commit(Commit(run, "token", tuple(calls)))
        run = evolve(run, turn=2, wake_at=SOON, where=Frame("code.py", 5), updated_at=SOON)
        snapshot = Snapshot(run.id, 2, b"state")
        calls[0] = delivered(calls[0], 2)
        calls[2] = evolve(calls[2], attempts=1, due_at=LATER)
        updated, requested = (calls[0], calls[2]), new_call(run, 3, requested_turn=2)
        calls.append(requested)
        await adapter.commit(Commit(run, "token", (requested,), updated, "printed", snapshot))
        assert await other.get_task_run(run.id) == run
        assert await other.query_stack_runs(task_run_id=run.id) == calls
        assert await other.load_calls(run.id, 2) == calls[1:]
        assert await other.get_log(run.id) == [LogLine(SOON, "printed")]
        assert await other.get_snapshot(run.id) == snapshot

    async def test_a_large_value_becomes_small_and_large_again(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(input="x" * 100_000))
        run = await adapter.claim(run.id, "token", NOW, SOON)
        call = new_call(run, 0, input="y" * 100_000)
        await adapter.commit(Commit(run, "token", (call,)))
        for turn, size in enumerate((5, 200_000, 0, 70_000), 1):
            run = evolve(run, turn=turn, result="r" * size, input="i" * (200_000 - size))
            call = evolve(call, result="c" * size, input="a" * (200_000 - size))
            await adapter.commit(Commit(run, "token", updated=(call,)))
            for store in (adapter, other):
                assert await store.get_task_run(run.id) == run
                assert await store.load_calls(run.id) == [call]

    async def test_a_commit_without_the_lease_writes_nothing(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, SOON)
        call = new_call(run, 0)
        await adapter.commit(Commit(run, "token", (call,)))
        stale = Commit(
            evolve(run, turn=9),
            "another",
            (new_call(run, 1),),
            (delivered(call, 9),),
            "printed",
            Snapshot(run.id, 9, b"state"),
        )
        for adapter_ in (adapter, other):
            with pytest.raises(LeaseLostError):
                await adapter_.commit(stale)
        assert await other.get_task_run(run.id) == run
        assert await other.query_stack_runs(task_run_id=run.id) == [call]
        assert await other.get_log(run.id) == []
        assert await other.get_snapshot(run.id) is None

    async def test_a_commit_moves_no_lease_back(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, SOON)
        await adapter.renew(run.id, "token", LATER)
        for turn in (1, 2):
            await adapter.commit(Commit(evolve(run, turn=turn), "token"))
            found = await other.get_task_run(run.id)
            assert found
            assert await other.is_leased(found, times.after(SOON, 1))
            assert found.lease_until == LATER or not self.leases_expire

    async def test_load_calls_agrees_with_a_model(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        dice = random.Random(7)  # noqa: S311
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, SOON)
        calls: dict[int, StackRun] = {}
        for turn in range(1, 25):
            open_calls = [call for call in calls.values() if call.delivered_turn is None]
            given = [delivered(c, turn) for c in dice.sample(open_calls, len(open_calls) // 2)]
            asked = [
                new_call(run, len(calls) + i, requested_turn=turn) for i in range(dice.randrange(4))
            ]
            calls |= {call.sequence: call for call in (*given, *asked)}
            run = evolve(run, turn=turn)
            snapshot = Snapshot(run.id, turn, b"s") if turn % 7 == 0 else None
            step = Commit(run, "token", tuple(asked), tuple(given), snapshot=snapshot)
            await adapter.commit(step)
            if turn % 5 == 0:
                await adapter.release(run.id, "token")
                run = await other.claim(run.id, "token", NOW, SOON)
                adapter, other = other, adapter
            for after in {0, turn // 2, turn - 1, turn, turn + 1}:
                late = [
                    calls[number]
                    for number in sorted(calls)
                    if (t := calls[number].delivered_turn) is None or t > after
                ]
                assert await other.load_calls(run.id, after) == late
