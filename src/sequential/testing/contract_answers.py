"""What a store must do when a run is changed from outside: amendments, answers, operators."""

import asyncio
import contextlib
from typing import Any

import pytest

from sequential.core.model import (
    Amendment,
    CallStatus,
    Commit,
    Failure,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.core.transitions import Event, Happening
from sequential.errors import (
    InvalidTransitionError,
    LeaseLostError,
    RunChangedError,
    RunNotFoundError,
)
from sequential.storage.base import StorageAdapter
from sequential.testing.contract_base import Contract
from sequential.testing.contract_records import (
    LATER,
    NOW,
    SOON,
    answer,
    delivered,
    new_call,
    new_run,
)


class AmendmentsContract(Contract):
    """Amendments, fenced by what the caller has seen."""

    async def test_an_amendment_changes_what_differs(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.FAILED, turn=3))
        calls = [await adapter.create_stack_run(new_call(run, i)) for i in range(4)]
        seen = await other.get_task_run(run.id)
        assert seen
        await adapter.update_task_run(run.id, priority=7)  # not what the amendment is about
        again = evolve(seen, status=Status.SUSPENDED, wake_at=NOW, error=None, turn=2)
        changed = (delivered(calls[0], 2, result={"text": "x" * 100_000}),)
        amended = await other.amend(seen, Amendment(again, changed, (2, 3, 9)))
        assert amended == evolve(again, priority=7)
        for store in (adapter, other):
            assert await store.get_task_run(run.id) == amended
            assert await store.query_stack_runs(task_run_id=run.id) == [changed[0], calls[1]]
            assert await store.load_calls(run.id, 1) == [changed[0], calls[1]]
            assert await store.load_calls(run.id, 2) == [calls[1]]
            assert await store.get_stack_run(calls[2].id) is None
        assert await adapter.wakeups(SOON) == [run.id]
        claimed = await adapter.claim(run.id, "token", NOW, SOON)  # and the run goes on
        late = new_call(run, 2, operation="clock.sleep")
        await adapter.commit(Commit(evolve(claimed, turn=3), "token", (late,)))
        assert await other.load_calls(run.id, 2) == [calls[1], late]

    @pytest.mark.parametrize(
        "changes",
        [{"status": Status.PAUSED}, {"turn": 4}, {"answers": 1}, {"lease_token": "token"}],
    )
    async def test_an_amendment_of_what_has_moved_on_is_refused(
        self, adapter: StorageAdapter, other: StorageAdapter, changes: dict[str, Any]
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.SUSPENDED, turn=3))
        call = await adapter.create_stack_run(new_call(run, 0))
        moved = await other.update_task_run(run.id, **changes)
        amendment = Amendment(evolve(run, result="amended"), (delivered(call, 9),), (0,))
        for store in (adapter, other):
            with pytest.raises(RunChangedError):
                await store.amend(run, amendment)
        assert await adapter.get_task_run(run.id) == moved
        assert await adapter.query_stack_runs(task_run_id=run.id) == [call]

    async def test_an_amendment_may_bring_another_program(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.FAILED, input="x" * 100_000))
        again = evolve(
            run,
            status=Status.SUSPENDED,
            input={"small": 1},
            code="pass\n",
            filename="main.py",
            config=TaskConfig("my-task", ttl=5.0),
        )
        assert await other.amend(run, Amendment(again)) == again
        assert await adapter.get_task_run(run.id) == again
        claimed = await adapter.claim(run.id, "token", NOW, SOON)
        assert (claimed.code, claimed.config) == (again.code, again.config)
        assert claimed.input == again.input

    async def test_an_amendment_of_what_is_gone_says_so(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        await adapter.delete_task_run(run.id)
        with pytest.raises(RunNotFoundError):
            await adapter.amend(run, Amendment(evolve(run, answers=1)))

    async def test_of_many_who_amend_one_state_one_wins(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.SUSPENDED))
        tries = [
            (adapter, other)[i % 2].amend(
                run, Amendment(evolve(run, answers=1, events=(answer(i),)))
            )
            for i in range(8)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        (won,) = [result for result in results if isinstance(result, TaskRun)]
        assert sum(isinstance(result, RunChangedError) for result in results) == 7
        assert await adapter.get_task_run(run.id) == await other.get_task_run(run.id) == won

    async def test_amendments_that_are_tried_again_are_all_written(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.SUSPENDED))

        async def append(store: StorageAdapter, number: int) -> None:
            while True:
                old = await store.get_task_run(run.id)
                assert old
                events = (*old.events, answer(number))
                changed = evolve(old, answers=old.answers + 1, events=events)
                with contextlib.suppress(RunChangedError):
                    await store.amend(old, Amendment(changed))
                    return

        await asyncio.gather(*(append((adapter, other)[i % 2], i) for i in range(12)))
        found = await adapter.get_task_run(run.id)
        assert found
        assert found.answers == 12
        assert sorted(event.data["number"] for event in found.events) == [*range(12)]


class AnswersContract(Contract):
    """Answers from outside, whoever drives the run."""

    async def test_an_answer_makes_a_run_due(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.SUSPENDED))
        assert await adapter.wakeups(SOON) == []
        answered = await other.answer(run.id, answer(1), SOON)
        assert (answered.answers, answered.events, answered.wake_at) == (1, (answer(1),), SOON)
        assert await adapter.get_task_run(run.id) == answered
        assert await adapter.wakeups(SOON) == [run.id]
        again = await adapter.answer(run.id, answer(1), LATER)
        assert (again.answers, again.events) == (1, (answer(1),))
        woken = await adapter.answer(run.id, None, LATER)
        assert (woken.answers, woken.events) == (2, (answer(1),))

    @pytest.mark.parametrize("status", [s for s in Status if s.is_final])
    async def test_what_is_over_takes_no_answer(
        self, adapter: StorageAdapter, status: Status
    ) -> None:
        run = await adapter.create_task_run(new_run(status=status))
        with pytest.raises(InvalidTransitionError):
            await adapter.answer(run.id, answer(), NOW)
        assert await adapter.get_task_run(run.id) == run

    async def test_a_step_takes_exactly_the_answers_it_names(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        events = tuple(answer(i) for i in range(4))
        run = await adapter.create_task_run(new_run(events=events, answers=4))
        run = await adapter.claim(run.id, "token", NOW, SOON)
        assert run.events == events
        step = Commit(evolve(run, turn=1), "token", taken=("event-2", "event-0", "unknown"))
        await adapter.commit(step)
        found = await other.get_task_run(run.id)
        assert found == evolve(run, turn=1, events=(events[1], events[3]))
        rest = Commit(evolve(run, turn=2), "token", taken=("event-1", "event-3"))
        await adapter.commit(rest)
        assert await other.get_task_run(run.id) == evolve(run, turn=2, events=())

    async def test_a_call_keeps_which_answer_settled_it(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.SUSPENDED))
        run = await other.answer(run.id, answer(0), NOW)
        run = await adapter.claim(run.id, "token", NOW, SOON)
        call = new_call(run, 0, operation="events.wait")
        asked = evolve(run, turn=1)
        await adapter.commit(Commit(asked, "token", (call,)))
        settled = evolve(delivered(call, 2), parent_stack_run_id=answer(0).id)
        step = Commit(evolve(asked, turn=2), "token", updated=(settled,), taken=(answer(0).id,))
        await adapter.commit(step)
        filters = {"task_run_id": run.id, "operation": "events.wait"}
        for store in (adapter, other):
            assert await store.query_stack_runs(**filters) == [settled]
            stored = await store.get_task_run(run.id)
            assert stored
            assert stored.events == ()

    async def test_a_step_overwrites_no_answer(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, LATER)
        await other.answer(run.id, answer(1), SOON)
        await other.answer(run.id, answer(2), SOON)
        assert await adapter.renew(run.id, "token", LATER) == 2
        step = evolve(run, turn=1, events=(answer(9),), answers=7)  # not for a step to write
        await adapter.commit(Commit(step, "token"))
        found = await other.get_task_run(run.id)
        assert found
        assert (found.turn, found.answers) == (1, 2)
        assert found.events == (answer(1), answer(2))
        assert found.wake_at is None

    @pytest.mark.parametrize("seen", [0, 1, 2])
    async def test_a_run_parked_before_it_saw_an_answer_is_due(
        self, adapter: StorageAdapter, other: StorageAdapter, seen: int
    ) -> None:
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, LATER)
        for number in range(2):
            await other.answer(run.id, answer(number), NOW)
        parked = evolve(
            run,
            status=Status.SUSPENDED,
            answers=seen,
            updated_at=SOON,
            lease_token=None,
            lease_until=None,
        )
        await adapter.commit(Commit(parked, "token"))
        found = await other.get_task_run(run.id)
        assert found
        assert (found.answers, len(found.events)) == (2, 2)
        assert found.wake_at == (None if seen == 2 else SOON)
        assert await other.wakeups(LATER) == ([] if seen == 2 else [run.id])

    async def test_answers_from_two_sides_reach_a_driver_that_parks_once_each(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        """Ten times ten answers, while a worker takes what it sees, parks, and looks for work."""
        run = await adapter.create_task_run(new_run())
        taken: list[str] = []

        async def tell(number: int) -> None:
            store = (adapter, other)[number % 2]
            for i in range(number * 10, number * 10 + 10):
                await store.answer(run.id, answer(i), SOON)

        async def drive() -> None:
            for claimed in await adapter.claim_due("token", SOON, LATER, 1):
                step = evolve(claimed, turn=claimed.turn + 1)
                ids = tuple(event.id for event in claimed.events)
                await adapter.commit(Commit(step, "token", taken=ids))
                taken.extend(ids)
                parked = evolve(
                    step,
                    status=Status.SUSPENDED,
                    wake_at=None,
                    lease_token=None,
                    lease_until=None,
                    updated_at=SOON,
                )
                await adapter.commit(Commit(parked, "token"))

        telling = asyncio.gather(*(tell(number) for number in range(10)))
        while not telling.done():
            await drive()
            await asyncio.sleep(0)
        await telling
        while await adapter.wakeups(SOON):
            await drive()
        assert sorted(taken) == sorted(answer(i).id for i in range(100))
        found = await other.get_task_run(run.id)
        assert found
        assert (found.answers, found.events, found.wake_at) == (100, (), None)


class OperatorsContract(Contract):
    """Pausing and cancelling, whoever drives the run."""

    async def test_a_run_is_paused_and_unpaused(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.SUSPENDED, turn=3))
        paused = await other.change(run.id, Happening(Event.PAUSE), SOON)
        assert paused.status is Status.PAUSED
        assert await adapter.get_task_run(run.id) == paused
        await adapter.answer(run.id, answer(), SOON)
        assert await adapter.wakeups(LATER) == []
        with pytest.raises(InvalidTransitionError):
            await adapter.claim(run.id, "token", NOW, SOON)
        with pytest.raises(InvalidTransitionError):
            await other.change(run.id, Happening(Event.PAUSE), SOON)
        woken = await other.change(run.id, Happening(Event.UNPAUSE), SOON)
        assert (woken.status, woken.wake_at) == (Status.SUSPENDED, SOON)
        assert await adapter.wakeups(SOON) == [run.id]
        assert (await adapter.claim(run.id, "token", SOON, LATER)).events == (answer(),)

    @pytest.mark.parametrize("event", [Event.PAUSE, Event.CANCEL])
    async def test_who_drives_a_run_that_is_stopped_loses_it(
        self, adapter: StorageAdapter, other: StorageAdapter, event: Event
    ) -> None:
        if not self.amends_driven:
            pytest.skip("a run that is driven elsewhere is stopped in another way")
        run = await adapter.create_task_run(new_run())
        claimed = await adapter.claim(run.id, "token", NOW, LATER)
        call = new_call(run, 0)
        await adapter.commit(Commit(evolve(claimed, turn=1), "token", (call,)))
        stopped = await other.change(run.id, Happening(event), SOON)
        assert (stopped.lease_token, stopped.lease_until) == (None, None)
        with pytest.raises(LeaseLostError):
            await adapter.renew(run.id, "token", LATER)
        late = Commit(evolve(claimed, turn=2), "token", (new_call(run, 1),), (delivered(call, 2),))
        with pytest.raises(LeaseLostError):
            await adapter.commit(late)
        await adapter.release(run.id, "token")
        assert await adapter.get_task_run(run.id) == stopped
        given_up = evolve(call, status=CallStatus.CANCELLED, updated_at=SOON)
        left = given_up if event is Event.CANCEL else call
        assert await other.query_stack_runs(task_run_id=run.id) == [left]

    async def test_a_run_is_cancelled_with_its_calls(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(status=Status.SUSPENDED, turn=2))
        done = await adapter.create_stack_run(delivered(new_call(run, 0), 2))
        waiting = new_call(run, 1, status=CallStatus.PENDING, due_at=LATER)
        await adapter.create_stack_run(waiting)
        failure = Failure("CancelledError", "enough", "cancelled")
        ended = await other.change(run.id, Happening(Event.CANCEL, error=failure), SOON)
        assert (ended.status, ended.error, ended.ended_at) == (Status.CANCELLED, failure, SOON)
        given_up = evolve(waiting, status=CallStatus.CANCELLED, updated_at=SOON)
        assert await adapter.query_stack_runs(task_run_id=run.id) == [done, given_up]
        with pytest.raises(InvalidTransitionError):
            await adapter.change(run.id, Happening(Event.CANCEL), SOON)
