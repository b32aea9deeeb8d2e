"""Any sequence of operations, crashes included, leaves the folder as it leaves the memory."""

import asyncio
import functools
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sequential.core.model import (
    Amendment,
    CallStatus,
    Commit,
    Failure,
    Frame,
    LogLine,
    RunEvent,
    Snapshot,
    Status,
    evolve,
)
from sequential.core.transitions import Event, Happening
from sequential.errors import SequentialError
from sequential.storage import folder
from sequential.storage.base import StorageAdapter
from sequential.storage.folder import FolderAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.testing.storage_contract import NOW, SOON, delivered, new_call, new_run, text_of

large = st.none().map(lambda _: "x" * 70_000)
Operation = Callable[[StorageAdapter], Coroutine[Any, Any, Any]]

texts = st.text(max_size=20) | st.sampled_from(["", '"', '","crc":"', "\0\n"]) | large
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
trees = st.recursive(
    leaves | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.just("$payload") | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
frames = st.none() | st.builds(Frame, texts, st.integers(0, 9), source=texts)
failures = st.none() | st.builds(Failure, texts, texts)
run_changes = st.fixed_dictionaries(
    {},
    optional={
        "result": trees,
        "input": trees,
        "error": failures,
        "where": frames,
        "wake_at": st.none() | st.just(NOW),
        "crashes": st.integers(0, 3),
        "updated_at": texts,
    },
)
call_changes = st.fixed_dictionaries(
    {},
    optional={
        "result": trees,
        "input": trees,
        "error": failures,
        "status": st.sampled_from(CallStatus),
        "attempts": st.integers(0, 3),
        "duration": st.none() | st.floats(0, 9),
        "delivered_turn": st.none() | st.integers(0, 9),
    },
).map(lambda changes: consistent(changes))


def consistent(changes: dict[str, Any]) -> dict[str, Any]:
    """What was delivered is not pending any more."""
    if changes.get("delivered_turn") is not None:
        return {**changes, "status": CallStatus.COMPLETED}
    return {**changes, "delivered_turn": None} if "status" in changes else changes


class FolderLikeMemory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.path = Path(tempfile.mkdtemp())
        self.folder, self.memory = FolderAdapter(self.path), MemoryAdapter()
        self.reader = FolderAdapter(self.path)
        self.calls, self.claims, self.turn = 0, 0, 0
        self.held: str | None = None

    def teardown(self) -> None:
        self.runner.run(self.folder.close())
        self.runner.run(self.reader.close())
        self.runner.close()
        shutil.rmtree(self.path)

    def both(self, operation: Operation, asked: FolderAdapter | None = None) -> Any:
        """The outcome of one operation on both, which must be the same."""
        outcomes: list[Any] = []
        for adapter in (asked or self.folder, self.memory):
            try:
                outcomes.append(self.runner.run(operation(adapter)))
            except SequentialError as error:
                outcomes.append(type(error))
        assert repr(outcomes[0]) == repr(outcomes[1])
        return outcomes[0]

    @initialize(tree=trees, code=texts)
    def create(self, tree: Any, code: str) -> None:
        run = new_run(input=tree, code=code)
        self.run_id = run.id
        self.both(lambda adapter: adapter.create_task_run(run))

    @rule(changes=run_changes)
    def update_run(self, changes: dict[str, Any]) -> None:
        self.both(lambda adapter: adapter.update_task_run(self.run_id, **changes))

    @rule(changes=call_changes)
    def create_call(self, changes: dict[str, Any]) -> None:
        run = new_run(id=self.run_id)
        call = new_call(run, self.calls, **changes)
        self.calls += 1
        self.both(lambda adapter: adapter.create_stack_run(call))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), changes=call_changes)
    def update_call(self, data: Any, changes: dict[str, Any]) -> None:
        call_id = f"{self.run_id}:{data.draw(st.integers(0, self.calls))}"
        self.both(lambda adapter: adapter.update_stack_run(call_id, **changes))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def delete_call(self, data: Any) -> None:
        call_id = f"{self.run_id}:{data.draw(st.integers(0, self.calls))}"
        self.both(lambda adapter: adapter.delete_stack_run(call_id))

    @rule(number=st.none() | st.integers(0, 5), data=trees, from_outside=st.booleans())
    def answer(self, number: int | None, data: Any, from_outside: bool) -> None:
        event = None if number is None else RunEvent(f"event-{number}", "name", NOW, data)
        asked = self.reader if from_outside else self.folder
        self.both(lambda adapter: adapter.answer(self.run_id, event, SOON), asked)

    @rule(
        event=st.sampled_from([Event.PAUSE, Event.UNPAUSE, Event.CANCEL]),
        from_outside=st.booleans(),
    )
    def change(self, event: Event, from_outside: bool) -> None:
        asked = self.reader if from_outside else self.folder
        self.both(lambda adapter: adapter.change(self.run_id, Happening(event), SOON), asked)
        self.look_at_lease()

    @rule(
        back=st.integers(0, 3),
        changes=run_changes,
        status=st.sampled_from([Status.SUSPENDED, Status.FAILED]),
        dropped=st.sets(st.integers(0, 5)),
        data=st.data(),
    )
    def amend(
        self, *, back: int, changes: dict[str, Any], status: Status, dropped: set[int], data: Any
    ) -> None:
        run = self.runner.run(self.memory.get_task_run(self.run_id))
        assert run
        every = self.runner.run(self.memory.load_calls(self.run_id, -1))
        calls = [call for call in every if call.sequence not in dropped]
        changed = data.draw(st.lists(st.sampled_from(calls), unique_by=id)) if calls else []
        turn = max(0, run.turn - back)
        rewound = {"status": status, "turn": turn, "lease_token": None, "lease_until": None}
        again = evolve(run, **{**changes, **rewound})
        renewed = [evolve(call, **data.draw(call_changes)) for call in changed]
        amendment = Amendment(again, tuple(renewed), tuple(sorted(dropped)))

        async def amend(adapter: StorageAdapter) -> Any:
            seen = await adapter.get_task_run(self.run_id)
            assert seen
            return await adapter.amend(seen, amendment)

        self.both(amend)
        self.turn = turn
        self.look_at_lease()

    def look_at_lease(self) -> None:
        run = self.runner.run(self.memory.get_task_run(self.run_id))
        self.held = self.held if run and run.lease_token else None

    @rule(text=texts)
    def log(self, text: str) -> None:
        if text:
            self.both(lambda adapter: adapter.append_log(self.run_id, LogLine(NOW, text)))

    @rule(ahead=st.integers(-2, 1), data=st.binary(max_size=20))
    def snapshot(self, ahead: int, data: Any) -> None:
        snapshot = Snapshot(self.run_id, max(0, self.turn + ahead), data)
        self.both(lambda adapter: adapter.store_snapshot(snapshot))

    @precondition(lambda self: not self.held)
    @rule()
    def claim(self) -> None:
        self.claims += 1
        token = f"token {self.claims}"
        run = self.both(lambda adapter: adapter.claim(self.run_id, token, NOW, ""))
        if not isinstance(run, type):
            self.held = token

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        token = str(self.held)
        self.both(lambda adapter: adapter.release(self.run_id, token))
        self.held = None

    @rule(
        data=st.data(),
        status=st.sampled_from([Status.RUNNING] * 4 + [Status.SUSPENDED, Status.FAILED]),
        changes=run_changes,
        asked=st.integers(0, 2),
        log=texts,
        saved=st.booleans(),
        stale=st.integers(0, 9),
    )
    def commit(
        self,
        *,
        data: Any,
        status: Status,
        changes: dict[str, Any],
        asked: int,
        log: str,
        saved: bool,
        stale: int,
    ) -> None:
        token = self.held if self.held and stale else "stale"
        run = self.runner.run(self.memory.get_task_run(self.run_id))
        assert run
        calls = self.runner.run(self.memory.load_calls(self.run_id, 10**6))
        turn = self.turn + 1
        given = data.draw(st.lists(st.sampled_from(calls), unique_by=id)) if calls else []
        updated = [delivered(call, turn, result=data.draw(trees)) for call in given]
        requested = [new_call(run, self.calls + i, requested_turn=turn) for i in range(asked)]
        run = evolve(run, **{**changes, "turn": turn, "status": status})
        if status is not Status.RUNNING:
            run = evolve(run, lease_token=None, lease_until=None)
        snapshot = Snapshot(self.run_id, turn, b"state") if saved else None
        taken = tuple(event.id for event in run.events if data.draw(st.booleans()))
        step = Commit(run, token, tuple(requested), tuple(updated), log, snapshot, taken)
        if self.both(lambda adapter: adapter.commit(step)) is None:
            self.calls += asked
            self.turn = turn
            self.held = self.held if status is Status.RUNNING else None

    @rule(damage=st.sampled_from(["", "view", "snapshot", "torn", "zeros"]))
    def crash(self, damage: str) -> None:
        """The process ends; a power failure may take what was not synchronised."""
        self.runner.run(self.folder.close())
        self.folder, self.held = FolderAdapter(self.path), None
        (runs,) = self.path.glob("*/runs")
        if damage == "view":
            (runs / f"run-{self.run_id}.json").write_bytes(b"")
        elif damage == "snapshot":
            (runs / f"run-{self.run_id}.snapshot").unlink(missing_ok=True)
            self.memory._snapshots.clear()
        elif damage:
            with (runs / f"run-{self.run_id}.journal").open("ab") as file:
                file.write(b'{"at":"2026-' if damage == "torn" else bytes(100))

    @invariant()
    def the_same_is_read(self) -> None:
        self.both(lambda adapter: adapter.query_stack_runs(task_run_id=self.run_id))
        self.both(lambda adapter: adapter.get_log(self.run_id))
        self.both(lambda adapter: adapter.get_snapshot(self.run_id))
        self.both(lambda adapter: adapter.get_pending_stack_runs())
        for after in {0, 1, self.turn - 1, self.turn}:
            self.both(functools.partial(_load_calls, self.run_id, after))
        one, two = (
            text_of(self.runner.run(adapter.get_task_run(self.run_id)))
            for adapter in (self.reader, self.memory)
        )
        assert one == two


async def _load_calls(run_id: str, after: int, adapter: StorageAdapter) -> Any:
    return await adapter.load_calls(run_id, after)


def test_the_folder_behaves_like_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_ASKED", 0.002)
    run_state_machine_as_test(
        FolderLikeMemory,
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
