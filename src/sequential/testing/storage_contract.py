"""What every storage adapter must do, as a test class to inherit from.

    class TestMyAdapter(StorageContract):
        @pytest.fixture
        def open_adapter(self, tmp_path):
            async def open_adapter():
                return await create_adapter("mine:" + str(tmp_path / "store"))

            return open_adapter

`open_adapter()` opens the store of the test, an empty one at first; called again, it opens the same
store once more, as a second process would. Needs pytest and pytest-asyncio.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from sequential.core import ids, times
from sequential.core.model import (
    Allow,
    CallStatus,
    Commit,
    Failure,
    Frame,
    InputField,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.errors import (
    InvalidNameError,
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
    TaskNotFoundError,
)
from sequential.storage.base import StorageAdapter

OpenAdapter = Callable[[], Awaitable[StorageAdapter]]

NOW = "2026-03-01T12:00:00.123Z"
SOON = "2026-03-01T12:01:00.123Z"
LATER = "2026-03-01T13:00:00.000Z"

TEXTS = [
    "",
    'it\'s "quoted" \\ `back` %s $1 {x} ; DROP TABLE task_runs; --',
    "line\nline\r\n\ttab\x00nul\x1b[31m\x7f\u2028\ufeff",
    "naïve café 東京 \U0001f40d \u202eright-to-left e\u0301",
    '","crc":"00000000"}\n{"$payload": {"file": "../../etc/passwd"}}',
    "0123456789" * 10_000,
]
TREES: list[Any] = [
    None,
    *(False, 0, 0.0, "", [], {}, True, 1, 1.0, -0.0, 1e300, 5e-324, 2**53 + 1, -(2**70)),
    {"b": 1, "a": {"": [None, {"$bytes": "AAE="}]}, "id": "x", "$payload": {"file": "x"}},
    {"$payload": {"file": "run-input.json", "size": 1, "sha256": "00"}},
    *({text: [text]} for text in TEXTS),
]


def new_run(number: int = 0, **changes: Any) -> TaskRun:
    """A run as it is before anybody has driven it; later numbers have later ids."""
    at = times.after(NOW, number)
    run = TaskRun(
        id=ids.run_id(1_770_000_000_000 + number, random.randbytes(10)),  # noqa: S311
        task_identifier="my-task",
        status=Status.PENDING,
        input={"userId": "123"},
        created_at=at,
        updated_at=at,
        config=TaskConfig("my-task", inputs=(InputField("userId"),), allow=Allow(hosts=("a.b",))),
        code="async def my_task(userId):\n    return userId\n",
    )
    return evolve(run, **changes)


def new_call(run: TaskRun, sequence: int, **changes: Any) -> StackRun:
    """A call that was asked for in the turn after its number and is being performed."""
    call = StackRun(
        id=ids.stack_run_id(run.id, sequence),
        task_run_id=run.id,
        operation="http.fetch",
        status=CallStatus.IN_PROGRESS,
        input={"url": "https://example.com", "sequence": sequence},
        created_at=times.after(NOW, sequence),
        updated_at=times.after(NOW, sequence),
        sequence=sequence,
        fingerprint="0123456789abcdef",
        where=Frame("code.py", sequence + 1, 4, "my_task", "await fetch(url)"),
        requested_turn=sequence + 1,
    )
    return evolve(call, **changes)


def delivered(call: StackRun, turn: int, **changes: Any) -> StackRun:
    """The call, completed and delivered in `turn`."""
    done: dict[str, Any] = {
        "status": CallStatus.COMPLETED,
        "result": {"status": 200},
        "delivered_turn": turn,
        "delivered_order": 0,
        "delivered_at": NOW,
        "duration": 0.25,
        "attempts": 1,
    }
    return evolve(call, **{**done, **changes})


def text_of(record: Any) -> bytes:
    """A record as text: unlike `==`, this tells 1 from True and sees the order of keys."""
    return msgspec.json.encode(record)


class StorageContract:
    """Inherit from this and provide the fixture `open_adapter`."""

    pytestmark = pytest.mark.asyncio

    leases_expire = True  # False: a lease lasts as long as the process that took it

    @pytest.fixture
    def open_adapter(self) -> OpenAdapter:
        raise NotImplementedError("provide the fixture open_adapter: see the module's docstring")

    @pytest_asyncio.fixture
    async def adapter(self, open_adapter: OpenAdapter) -> AsyncIterator[StorageAdapter]:
        adapter = await open_adapter()
        yield adapter
        await adapter.close()

    @pytest_asyncio.fixture
    async def other(
        self, adapter: StorageAdapter, open_adapter: OpenAdapter
    ) -> AsyncIterator[StorageAdapter]:
        other = await open_adapter()
        yield other
        await other.close()

    # --- task runs -------------------------------------------------------------------------------

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
        ):
            with pytest.raises(RunNotFoundError):
                await attempt
        await adapter.release(strange, "token")

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

    # --- stack runs ------------------------------------------------------------------------------

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

    # --- values ----------------------------------------------------------------------------------

    async def test_values_come_back_exactly(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        for number, tree in enumerate(TREES):
            run = await adapter.create_task_run(new_run(number, input=tree))
            call = await adapter.create_stack_run(new_call(run, 0, input=tree))
            for result in (tree, [tree, tree], None, tree):
                run = await adapter.update_task_run(run.id, result=result)
                call = await adapter.update_stack_run(call.id, result=result)
                assert text_of(await other.get_task_run(run.id)) == text_of(run)
                assert text_of(await other.get_stack_run(call.id)) == text_of(call)

    async def test_true_does_not_pass_for_one(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run(input={"x": 1}, result=1))
        for result in (True, 1.0, 1, [1], [True], [1.0], {"a": 1, "b": 2}, {"b": 2, "a": 1}):
            run = await adapter.update_task_run(run.id, result=result)
            assert text_of(await other.get_task_run(run.id)) == text_of(run)

    async def test_any_text_comes_back_exactly(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        for number, text in enumerate(TEXTS):
            frame = Frame(text, 1, 2, text, text)
            failure = Failure(text, text, text, (frame,))
            config = TaskConfig("my-task", text, inputs=(InputField("a", description=text),))
            await adapter.store_task_function(
                function := TaskFunction(f"task{number}", text + "#", config, 1, NOW, NOW)
            )
            assert await other.get_task_function(function.identifier) == function
            run = new_run(number, error=failure, where=frame, code=text, config=config)
            await adapter.create_task_run(run)
            call = new_call(run, 0, operation=text, error=failure, fingerprint=text, where=frame)
            await adapter.create_stack_run(call)
            run = await adapter.claim(run.id, f"token {text}", NOW, SOON)
            await adapter.commit(Commit(run, f"token {text}", log=text))
            assert text_of(await other.get_task_run(run.id)) == text_of(run)
            assert text_of(await other.get_stack_run(call.id)) == text_of(call)
            assert await other.query_stack_runs(operation=text, task_run_id=run.id) == [call]
            assert "".join(line.text for line in await other.get_log(run.id)) == text

    async def test_ten_megabytes_in_every_value(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        large = {"text": "ä" * 5_000_000}
        run = await adapter.create_task_run(new_run(input=large))
        claimed = await adapter.claim(run.id, "token", NOW, SOON)
        call = new_call(run, 0, input=large)
        await adapter.commit(Commit(evolve(claimed, turn=1), "token", (call,)))
        done = delivered(call, 2, result=large)
        end = evolve(claimed, turn=2, status=Status.COMPLETED, result=large, lease_token=None)
        await adapter.commit(Commit(end, "token", updated=(done,), log="x" * 1_000_000))
        assert await other.get_task_run(run.id) == evolve(end, lease_until=None)
        assert await other.load_calls(run.id) == [done]
        assert await other.query_stack_runs(task_run_id=run.id) == [done]
        assert len((await other.get_log(run.id))[0].text) == 1_000_000
        assert [found.id for found in await other.query_task_runs()] == [run.id]

    # --- task functions --------------------------------------------------------------------------

    async def test_a_task_is_stored_with_a_version(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        one = TaskFunction("my-task", "x = 1\r\n", TaskConfig("my-task"), 1, NOW, NOW)
        assert await adapter.store_task_function(one) == one
        assert await other.get_task_function("my-task") == one
        same = evolve(one, created_at=SOON, updated_at=SOON)
        assert await other.store_task_function(same) == one
        change = evolve(one, code="x = 2", created_at=LATER, updated_at=SOON)
        two = await other.store_task_function(change)
        assert two == evolve(change, version=2, created_at=NOW)
        three = evolve(two, config=TaskConfig("my-task", timeout=3.5), updated_at=LATER)
        assert (await adapter.store_task_function(three)).version == 3
        assert await other.get_task_function("my-task") == evolve(three, version=3)

    async def test_tasks_are_listed_by_name(self, adapter: StorageAdapter) -> None:
        for name in ("b", "a", "c-1", "c_2"):
            await adapter.store_task_function(TaskFunction(name, "1", TaskConfig(name)))
        names = [task.identifier for task in await adapter.list_task_functions()]
        assert names == ["a", "b", "c-1", "c_2"]
        assert await adapter.get_task_function("unknown") is None

    @pytest.mark.parametrize("name", ["", "../evil", "a/b", "a\0", ".hidden", "1st", "é", "x" * 65])
    async def test_a_hostile_name_is_refused(self, adapter: StorageAdapter, name: str) -> None:
        with pytest.raises(InvalidNameError):
            await adapter.store_task_function(TaskFunction(name, "1", TaskConfig("x")))
        with pytest.raises(InvalidNameError):
            await adapter.get_task_function(name)

    async def test_a_task_is_deleted_with_its_runs(self, adapter: StorageAdapter) -> None:
        for name in ("a", "b"):
            await adapter.store_task_function(TaskFunction(name, "1", TaskConfig(name)))
        runs = [await adapter.create_task_run(new_run(i, task_identifier="a")) for i in range(3)]
        kept = await adapter.create_task_run(new_run(9, task_identifier="b"))
        await adapter.create_stack_run(new_call(runs[0], 0))
        await adapter.append_log(runs[0].id, LogLine(NOW, "x"))
        await adapter.store_snapshot(Snapshot(runs[0].id, 1, b"x"))
        assert await adapter.delete_task("a") == 3
        assert await adapter.get_task_function("a") is None
        assert await adapter.query_task_runs() == [kept]
        assert await adapter.get_stack_run(f"{runs[0].id}:0") is None
        assert await adapter.get_log(runs[0].id) == []
        assert await adapter.get_snapshot(runs[0].id) is None
        with pytest.raises(TaskNotFoundError):
            await adapter.delete_task("a")

    async def test_a_task_that_is_driven_is_not_deleted(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
        run = await adapter.create_task_run(new_run())
        claimed = await adapter.claim(run.id, "token", NOW, LATER)
        with pytest.raises(RunBusyError):
            await other.delete_task("my-task")
        await adapter.commit(Commit(evolve(claimed, turn=1), "token", (new_call(run, 0),)))
        await adapter.release(run.id, "token")
        assert await other.delete_task("my-task") == 1

    # --- snapshots and logs ----------------------------------------------------------------------

    async def test_the_newest_snapshot_is_kept(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        assert await adapter.get_snapshot(run.id) is None
        for turn, data in ((1, b"one"), (2, bytes(range(256)) * 8000), (3, b""), (4, b"\n\0")):
            snapshot = Snapshot(run.id, turn, data)
            await adapter.store_snapshot(snapshot)
            assert await other.get_snapshot(run.id) == snapshot

    async def test_the_log_keeps_its_order(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        run = await adapter.create_task_run(new_run())
        lines = [LogLine(times.after(NOW, i), f"line {i}\n") for i in range(5)]
        for line in lines[:3]:
            await adapter.append_log(run.id, line)
        run = await adapter.claim(run.id, "token", NOW, SOON)
        for line in lines[3:]:
            step = evolve(run, updated_at=line.at)
            await adapter.commit(Commit(step, "token", log=line.text))
        await adapter.commit(Commit(run, "token"))
        assert await other.get_log(run.id) == lines

    async def test_log_lines_appended_at_once_are_all_there(self, adapter: StorageAdapter) -> None:
        run = await adapter.create_task_run(new_run())
        lines = [LogLine(NOW, str(i)) for i in range(20)]
        await asyncio.gather(*(adapter.append_log(run.id, line) for line in lines))
        assert sorted(int(line.text) for line in await adapter.get_log(run.id)) == [*range(20)]

    # --- leases ----------------------------------------------------------------------------------

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
        await adapter.renew(run.id, "token", LATER)
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

    # --- commits ---------------------------------------------------------------------------------

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

    # --- waking ----------------------------------------------------------------------------------

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

    async def test_nothing_is_damaged(self, adapter: StorageAdapter) -> None:
        await adapter.create_task_run(new_run())
        assert await adapter.damaged() == []
