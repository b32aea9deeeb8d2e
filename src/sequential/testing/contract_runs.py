"""What a store must do with runs and their calls: create, find, change, list, delete."""

import asyncio
import random
from typing import Any

import pytest

from sequential.core.model import (
    Amendment,
    CallStatus,
    Commit,
    Failure,
    Frame,
    LogLine,
    Snapshot,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.core.transitions import Event, Happening
from sequential.errors import (
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
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


class RunsContract(Contract):
    """Task runs."""

    async def test_a_run_comes_back_as_it_was_created(self, adapter: StorageAdapter) -> None:
        run = new_run()
        assert await adapter.create_task_run(run) == run
        assert await adapter.get_task_run(run.id) == run

    async def test_another_adapter_sees_what_was_written(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        await adapter.create_stack_run(call := new_call(run, 0))
        assert await other.get_task_run(run.id) == run
        assert await other.get_stack_run(call.id) == call
        changed = await other.update_task_run(run.id, status=Status.PAUSED)
        assert await adapter.get_task_run(run.id) == changed

    async def test_an_id_is_used_once(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        with pytest.raises(RunExistsError):
            await adapter.create_task_run(evolve(run, input="another"))
        assert await adapter.get_task_run(run.id) == run

    async def test_of_many_who_create_one_run_one_succeeds(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = new_run()
        tries = [
            (adapter if i % 2 else other).create_task_run(evolve(run, input=i)) for i in range(12)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        made = [result for result in results if isinstance(result, TaskRun)]
        assert len(made) == 1
        assert all(isinstance(r, TaskRun | RunExistsError) for r in results)
        assert await adapter.get_task_run(run.id) == made[0]

    async def test_runs_created_at_once_are_all_there(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        runs = [new_run(i) for i in range(30)]
        await asyncio.gather(
            *((other, adapter)[i % 2].create_task_run(r) for i, r in enumerate(runs))
        )
        assert await adapter.query_task_runs() == runs[::-1]

    @pytest.mark.parametrize("strange", ["", "x", "../../etc/passwd", "a'b", "\0", "0" * 5000])
    async def test_what_is_unknown_is_not_found(
        self, adapter: StorageAdapter, strange: str
    ) -> None:
        await adapter.create_task_run(new_run())
        assert await adapter.get_task_run(strange) is None
        assert await adapter.get_stack_run(strange) is None
        assert await adapter.get_stack_run(f"{strange}:0") is None
        assert await adapter.get_snapshot(strange) is None
        assert await adapter.get_log(strange) == []
        assert await adapter.load_calls(strange) == []
        assert await adapter.query_stack_runs(task_run_id=strange) == []
        assert await adapter.query_task_runs(id=strange) == []
        for attempt in (
            adapter.update_task_run(strange, turn=1),
            adapter.claim(strange, "token", NOW, SOON),
            adapter.renew(strange, "token", SOON),
            adapter.commit(Commit(new_run(id=strange), "token")),
            adapter.create_stack_run(new_call(new_run(id=strange), 0)),
            adapter.amend(new_run(id=strange), Amendment(new_run(id=strange, turn=1))),
            adapter.answer(strange, answer(), NOW),
            adapter.change(strange, Happening(Event.CANCEL), NOW),
            adapter.delete_task_run(strange),
        ):
            with pytest.raises(RunNotFoundError):
                await attempt
        await adapter.release(strange, "token")
        await adapter.delete_stack_run(strange)
        await adapter.delete_stack_run(f"{strange}:0")
        assert len(await adapter.query_task_runs()) == 1

    async def test_an_update_changes_only_the_named_fields(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        changes: dict[str, Any] = {
            "status": Status.FAILED,
            "error": Failure("ValueError", "no", traceback=(Frame("code.py", 2),)),
            "where": Frame("code.py", 3, source="x"),
            "turn": 7,
            "ended_at": SOON,
            "updated_at": SOON,
        }
        assert await adapter.update_task_run(run.id, **changes) == evolve(run, **changes)
        back = {"status": Status.SUSPENDED, "error": None, "where": None, "ended_at": None}
        await adapter.update_task_run(run.id, **back)
        assert await adapter.get_task_run(run.id) == evolve(run, **{**changes, **back})

    async def test_runs_are_listed_newest_first(self, adapter: StorageAdapter) -> None:
        runs = [new_run(i) for i in range(6)]
        for run in random.sample(runs, len(runs)):
            await adapter.create_task_run(run)
        assert await adapter.query_task_runs() == runs[::-1]
        assert await adapter.query_task_runs(limit=2) == runs[:3:-1]
        assert await adapter.query_task_runs(limit=0) == []
        assert await adapter.query_task_runs(limit=100) == runs[::-1]

    async def test_filters_are_equality_and_a_list_means_any(self, adapter: StorageAdapter) -> None:
        statuses = [Status.PENDING, Status.PAUSED, Status.FAILED, Status.PENDING]
        tasks = ["a", "b", "a", "b"]
        runs = [
            await adapter.create_task_run(new_run(i, status=status, task_identifier=task))
            for i, (status, task) in enumerate(zip(statuses, tasks, strict=True))
        ]

        async def found(**filters: Any) -> list[int]:
            return [runs.index(run) for run in await adapter.query_task_runs(**filters)]

        assert await found(status="pending") == [3, 0]
        assert await found(status=Status.PENDING, task_identifier="a") == [0]
        assert await found(status=["paused", "failed"]) == [2, 1]
        assert await found(status=["pending"], limit=1) == [3]
        assert await found(task_identifier=["a", "c"]) == [2, 0]
        assert await found(status=[]) == []
        assert await found(task_identifier="../a") == []
        assert await found(id=runs[1].id) == [1]
        assert await found(id=[runs[1].id, runs[2].id, "x"]) == [2, 1]
        assert await found(wake_at=None, turn=0, task_identifier="b") == [3, 1]
        assert await found(wake_at=NOW) == []

    async def test_every_field_of_a_run_is_kept(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        changes: dict[str, Any] = {
            "priority": -3,
            "parent_run_id": new_run().id,
            "expires_at": LATER,
            "failed_turn": 4,
            "answers": 2,
            "events": (answer(1), answer(2, data=None)),
            "config": TaskConfig("my-task", ttl=60.5, concurrency=3),
        }
        created = await adapter.create_task_run(new_run(1, **changes))
        assert await other.get_task_run(created.id) == created
        plain = await adapter.create_task_run(new_run(2))
        del changes["config"]
        assert await adapter.update_task_run(plain.id, **changes) == evolve(plain, **changes)
        assert await other.get_task_run(plain.id) == evolve(plain, **changes)
        back = {name: getattr(plain, name) for name in changes}
        await adapter.update_task_run(plain.id, **back)
        assert await other.get_task_run(plain.id) == plain

    async def test_the_runs_of_a_run_are_found(self, adapter: StorageAdapter) -> None:
        parent = await adapter.create_task_run(new_run(0))
        children = [
            await adapter.create_task_run(new_run(i, parent_run_id=parent.id)) for i in (1, 2, 3)
        ]
        assert await adapter.query_task_runs(parent_run_id=parent.id) == children[::-1]
        found = await adapter.query_task_runs(parent_run_id=parent.id, before=children[2].id)
        assert found == children[1::-1]
        assert await adapter.query_task_runs(parent_run_id=children[0].id) == []
        assert await adapter.query_task_runs(parent_run_id=None) == [parent]

    @pytest.mark.parametrize("filters", [{}, {"task_identifier": "my-task"}, {"status": "pending"}])
    async def test_pages_hold_every_run_once_while_others_are_created(
        self, adapter: StorageAdapter, other: StorageAdapter, filters: dict[str, Any]
    ) -> None:
        runs = [await adapter.create_task_run(new_run(i)) for i in range(11)]
        found: list[TaskRun] = []
        while page := await adapter.query_task_runs(
            limit=3, before=found[-1].id if found else None, **filters
        ):
            assert len(page) <= 3
            found += page
            await other.create_task_run(new_run(100 + len(found)))
        assert found == runs[::-1]

    async def test_a_page_begins_behind_an_id_whether_it_is_there_or_not(
        self, adapter: StorageAdapter
    ) -> None:
        runs = [await adapter.create_task_run(new_run(i * 10)) for i in range(4)]
        assert await adapter.query_task_runs(before=new_run(25).id) == runs[2::-1]
        assert await adapter.query_task_runs(before=new_run(25).id, limit=1) == [runs[2]]
        assert await adapter.query_task_runs(before=runs[0].id) == []
        assert await adapter.query_task_runs(before="") == []
        assert await adapter.query_task_runs(before="~") == runs[::-1]

    async def test_ids_are_found_by_their_beginning(self, adapter: StorageAdapter) -> None:
        runs = [new_run(i * 2**24, task_identifier=f"task{i % 2}") for i in range(4)]
        for run in runs:
            await adapter.create_task_run(run)
        every = sorted(run.id for run in runs)
        assert await adapter.find_run_ids("") == every
        assert await adapter.find_run_ids(runs[2].id) == [runs[2].id]
        assert await adapter.find_run_ids(runs[2].id[:-1], "task0") == [runs[2].id]
        assert await adapter.find_run_ids(runs[2].id[:8], "task1") == []
        assert await adapter.find_run_ids("", "task1") == sorted([runs[1].id, runs[3].id])
        for strange in ("%", "_", "*", "../", "zz", "\0", runs[0].id + "0"):
            assert await adapter.find_run_ids(strange) == []

    async def test_a_run_is_deleted_with_all_that_belongs_to_it(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run, kept = [await adapter.create_task_run(new_run(i)) for i in range(2)]
        for one in (run, kept):
            await adapter.create_stack_run(new_call(one, 0, input={"text": "x" * 100_000}))
            await adapter.append_log(one.id, LogLine(NOW, "x"))
            await adapter.store_snapshot(Snapshot(one.id, 1, b"x"))
        await other.delete_task_run(run.id)
        for store in (adapter, other):
            assert await store.get_task_run(run.id) is None
            assert await store.get_stack_run(f"{run.id}:0") is None
            assert await store.query_stack_runs(task_run_id=run.id) == []
            assert await store.get_log(run.id) == []
            assert await store.get_snapshot(run.id) is None
            assert await store.query_task_runs() == [kept]
            assert await store.find_run_ids("") == [kept.id]
            assert await store.wakeups(LATER) == [kept.id]
            assert len(await store.query_stack_runs()) == 1
        with pytest.raises(RunNotFoundError):
            await adapter.delete_task_run(run.id)

    async def test_a_run_that_is_driven_is_not_deleted(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        claimed = await adapter.claim(run.id, "token", NOW, LATER)
        with pytest.raises(RunBusyError):
            await other.delete_task_run(run.id)
        await adapter.commit(Commit(evolve(claimed, turn=1), "token", (new_call(run, 0),)))
        await adapter.release(run.id, "token")
        await other.delete_task_run(run.id)
        assert await adapter.get_task_run(run.id) is None

    async def test_nothing_is_damaged(self, adapter: StorageAdapter) -> None:
        await adapter.create_task_run(new_run())
        assert await adapter.damaged() == []


class CallsContract(Contract):
    """Stack runs."""

    async def test_a_call_is_created_changed_and_found(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        call = new_call(run, 0, due_at=SOON, parent_stack_run_id="p")
        assert await adapter.create_stack_run(call) == call
        assert await adapter.get_stack_run(call.id) == call
        done = delivered(call, 1, error=Failure("OSError", "gone"), due_at=None, updated_at=SOON)
        changes = {name: getattr(done, name) for name in done.__struct_fields__ if name != "id"}
        assert await adapter.update_stack_run(call.id, **changes) == done
        assert await adapter.get_stack_run(call.id) == done
        again = await adapter.update_stack_run(call.id, attempts=5, delivered_turn=None)
        assert await adapter.get_stack_run(call.id) == again
        assert await adapter.load_calls(run.id, 9) == [again]
        assert await adapter.get_task_run(run.id) == run

    async def test_a_call_is_deleted(self, adapter: StorageAdapter, other: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        calls = [await adapter.create_stack_run(new_call(run, i)) for i in range(3)]
        await other.delete_stack_run(calls[1].id)
        await other.delete_stack_run(calls[1].id)  # what is not there need not be deleted
        for store in (adapter, other):
            assert await store.get_stack_run(calls[1].id) is None
            assert await store.query_stack_runs(task_run_id=run.id) == [calls[0], calls[2]]
            assert await store.load_calls(run.id) == [calls[0], calls[2]]
        again = await adapter.create_stack_run(new_call(run, 1, operation="clock.sleep"))
        assert await other.get_stack_run(calls[1].id) == again

    async def test_an_unknown_call_cannot_be_changed(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        for unknown in (f"{run.id}:3", f"{run.id}:", f"{run.id}:-1", "x:0", ""):
            with pytest.raises((StorageError, RunNotFoundError)):
                await adapter.update_stack_run(unknown, attempts=1)

    async def test_calls_are_listed_in_order(self, adapter: StorageAdapter) -> None:
        runs = [await adapter.create_task_run(new_run(i)) for i in range(2)]
        calls = [new_call(run, i) for run in runs for i in range(12)]
        for call in random.sample(calls, len(calls)):
            await adapter.create_stack_run(call)
        assert await adapter.query_stack_runs(task_run_id=runs[0].id) == calls[:12]
        assert await adapter.query_stack_runs(task_run_id=[runs[1].id]) == calls[12:]
        assert await adapter.query_stack_runs(sequence=[3, 11]) == [
            calls[i] for i in (3, 11, 15, 23)
        ]
        assert await adapter.query_stack_runs(sequence=0, task_run_id=runs[1].id) == [calls[12]]
        assert await adapter.query_stack_runs(status="failed") == []

    async def test_pending_calls_come_oldest_first(self, adapter: StorageAdapter) -> None:
        one, two = [await adapter.create_task_run(new_run(i)) for i in range(2)]
        waiting = {"status": CallStatus.PENDING}
        calls = [
            new_call(one, 0, created_at=LATER, **waiting),
            new_call(one, 1),
            new_call(two, 1, created_at=NOW, **waiting),
            new_call(two, 0, created_at=NOW, **waiting),
        ]
        for call in calls:
            await adapter.create_stack_run(call)
        assert await adapter.get_pending_stack_runs() == [calls[3], calls[2], calls[0]]

    async def test_calls_created_at_once_are_all_there(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        calls = [new_call(run, i) for i in range(25)]
        await asyncio.gather(*(adapter.create_stack_run(call) for call in calls))
        assert await adapter.query_stack_runs(task_run_id=run.id) == calls
