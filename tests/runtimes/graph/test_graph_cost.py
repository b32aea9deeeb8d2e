"""What a state costs, in operations of the store; and that the ten-thousandth costs as much."""

import json
import os
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sequential.core.model import Commit, RunEvent, StackRun, Status, TaskConfig
from sequential.runner.engine import Engine
from sequential.storage import folder_view
from sequential.storage.base import StorageAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock

THOROUGH = "CHAOS_SECONDS" in os.environ  # `make chaos`
COUNT = {"type": "assign", "params": {"n": {"$expr": "context.n + 1"}}}
HANDLED = {
    "initial": "work",
    "context": {"n": 0},
    "states": {
        "work": {"invoke": {"src": "work", "onDone": {"target": "next", "actions": COUNT}}},
        "next": {"always": [{"target": "over", "guard": {"$expr": "context.n >= 20"}}, "work"]},
        "over": {"type": "final"},
    },
}
RING = {
    "initial": "a",
    "context": {"n": 0},
    "states": {
        "a": {"on": {"NEXT": {"target": "b", "actions": COUNT}}},
        "b": {"on": {"NEXT": {"target": "a", "actions": COUNT}, "END": "over"}},
        "over": {"type": "final"},
    },
    "output": {"$expr": "context.n"},
}
WRITES = ("claim", "commit", "answer", "amend", "create_task_run", "store_snapshot", "change")


def counted(storage: StorageAdapter, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is written, and how large the commits of runs are."""
    seen: Counter[str] = Counter()
    for name in WRITES:

        def wrapped(real: Any, name: str = name) -> Any:
            async def call(*args: Any, **named: Any) -> Any:
                seen[name] += 1
                return await real(*args, **named)

            return call

        monkeypatch.setattr(storage, name, wrapped(getattr(storage, name)))
    return seen


@pytest.mark.parametrize("kind", ["sandbox", "native"])
async def test_a_handler_costs_its_run_and_one_commit_of_the_graph(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = MemoryAdapter()
    async with Engine(storage, clock=FakeClock()) as engine:
        config = TaskConfig(name="job", runtime=kind, graph=json.dumps(HANDLED))
        await engine.store_task("job", "def work(input):\n    return 1\n", config)
        await engine.run("job")
        seen = counted(storage, monkeypatch)
        assert (await engine.run("job")).status is Status.COMPLETED
    # The graph is parked now and then when a handler is slow to start: hence not exact.
    assert seen["create_task_run"] == 21
    assert 21 <= seen["claim"] <= 60
    assert 41 <= seen["commit"] <= 90
    assert seen["answer"] <= 40


class Steps:
    """What each turn of a run writes and loads, in bytes and in records."""

    def __init__(self, storage: StorageAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[int] = []
        self.loaded: list[int] = []
        self.searched = 0
        commit, load = storage.commit, storage.load_calls

        async def committing(one: Commit) -> None:
            parts = (one.run, *one.requested, *one.updated)
            self.written.append(sum(len(msgspec.json.encode(part)) for part in parts))
            await commit(one)

        async def loading(run_id: str, after: int = 0) -> list[StackRun]:
            self.loaded.append(len(calls := await load(run_id, after)))
            return calls

        async def searching(**filters: Any) -> list[Any]:
            self.searched += 1
            return []

        for name in ("query_stack_runs", "query_task_runs"):
            monkeypatch.setattr(storage, name, searching)
        monkeypatch.setattr(storage, "commit", committing)
        monkeypatch.setattr(storage, "load_calls", loading)


def refused(*_: Any) -> None:
    raise AssertionError("this costs more with every transition")


async def transitions(engine: Engine, run_id: str, number: int, *, together: int) -> None:
    """So many events, so many at a time given to a run that nobody drives."""
    for _ in range(number // together):
        for _ in range(together):
            now = engine.now()
            event = RunEvent(secrets.token_hex(8), "NEXT", now)
            await engine.storage.answer(run_id, event, now)
        await engine.drive(run_id)


MANY = 10_000 if THOROUGH else 1_000


@pytest.mark.parametrize(
    ("store", "number"), [("memory", 10_000), ("sqlite", MANY), ("folder", MANY)]
)
async def test_the_last_of_many_transitions_costs_what_the_first_does(
    store: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = store if store == "memory" else f"{store}:{tmp_path / 'tasks'}"
    async with Engine(place, project=tmp_path, clock=FakeClock()) as engine:
        await engine.store_task("job", "", TaskConfig(name="job", graph=json.dumps(RING)))
        run = await engine.create_run("job")
        await engine.drive(run.id)
        await transitions(engine, run.id, 10, together=1)
        monkeypatch.setattr(folder_view, "scan", refused)  # the whole journal of a run
        steps = Steps(engine.storage, monkeypatch)
        await transitions(engine, run.id, 10, together=1)
        first, steps.written, steps.loaded = (steps.written, steps.loaded), [], []
        await transitions(engine, run.id, number - 20, together=20)
        steps.written, steps.loaded = [], []
        await transitions(engine, run.id, 10, together=1)
        assert max(steps.loaded) <= max(first[1])
        assert len(steps.loaded) <= 2 * len(first[1])  # a folder is told of its own changes, too
        assert sum(steps.written) < sum(first[0]) * 1.2  # the numbers have more digits
        assert steps.searched == 0
        run = await engine.get_run(run.id)
        assert run.turn > number
        monkeypatch.undo()
        noted = await engine.storage.query_stack_runs(task_run_id=run.id, operation="graph.step")
        assert len(noted) == run.turn


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_an_event_with_an_id_reads_as_little_after_many_others(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = store if store == "memory" else f"{store}:{tmp_path / 'tasks'}"
    async with Engine(place, project=tmp_path, clock=FakeClock()) as engine:
        await engine.store_task("job", "", TaskConfig(name="job", graph=json.dumps(RING)))
        run = await engine.create_run("job")
        await engine.drive(run.id)
        await transitions(engine, run.id, 200, together=20)
        await engine.send(run.id, "NEXT", id="click-1")
        taken = await engine.drive(run.id)
        read: list[int] = []
        for name in ("query_stack_runs", "load_calls"):
            real = getattr(engine.storage, name)

            async def reading(*args: Any, real: Any = real, **filters: Any) -> Any:
                read.append(len(calls := await real(*args, **filters)))
                return calls

            monkeypatch.setattr(engine.storage, name, reading)
        again = await engine.send(run.id, "NEXT", id="click-1")
        assert again.answers == taken.answers
        assert (await engine.send(run.id, "NEXT", id="click-2")).answers == taken.answers + 1
    assert sum(read) <= 3  # the call that took the first, and the one that waits now
