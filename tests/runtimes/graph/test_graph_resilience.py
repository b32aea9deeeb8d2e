"""Graph runs that are left alone, met at bad moments, and taken up by others."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runtimes.graph.conftest import Start, entered, handlers, over
from sequential.config import Settings
from sequential.core.model import CallStatus, Limits, Snapshot, Status, TaskConfig, TaskRun
from sequential.errors import InvalidTransitionError
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.runner.worker import Worker
from sequential.services.registry import standard_services
from sequential.storage.base import StorageAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.clock import FakeClock

WAITING = {
    "id": "job",
    "initial": "wait",
    "states": {
        "wait": {"after": {"5000": "late", "1000": "early"}, "on": {"GO": "work"}},
        "work": {"onDone": "end", "on": {"STOP": "stopped"}},
        **{name: {"type": "final"} for name in ("early", "late", "stopped", "end")},
    },
}
WORK = "async def work(input):\n    return await wait_for_event('parcel')\n"


class Place:
    """A store, and engines on it that live one after the other."""

    def __init__(self, storage: StorageAdapter, **runner: Any) -> None:
        self.storage = storage
        self.clock = FakeClock()
        self._settings = Settings(project=Path(), runner=RunnerSettings(**runner))

    @contextlib.asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        services = standard_services()
        engine = Engine(self.storage, services, self._settings, secret=b"k" * 32, clock=self.clock)
        try:
            yield engine
        finally:
            await engine.end()
            await services.close()

    async def create(self, graph: Any, code: str = "", input: Any = None, **policy: Any) -> str:
        config = TaskConfig(name="job", graph=json.dumps(graph), **policy)
        async with self.engine() as engine:
            await engine.store_task("job", code, config)
            return (await engine.create_run("job", input)).id

    async def drive(self, run_id: str, *, budget: float | None = None) -> TaskRun:
        """By an engine of its own, until it rests."""
        async with self.engine() as engine:
            return await engine.drive(run_id, budget=budget)

    async def drive_all(self, run_id: str) -> TaskRun:
        """The run and its handlers, turn by turn, each by an engine of its own."""
        for _ in range(300):
            run = await self.drive(run_id, budget=0)
            if run.status.is_final:
                return run
            for child in await self.storage.query_task_runs(parent_run_id=run_id):
                if not child.status.is_final:
                    await self.drive(child.id, budget=0)
        raise AssertionError(f"the run does not end: {run}")


@pytest.fixture
def place() -> Place:
    return Place(MemoryAdapter())


async def test_timers_that_came_due_meanwhile_fire_in_their_order(place: Place) -> None:
    run_id = await place.create(WAITING, WORK)
    await place.drive(run_id, budget=0)
    place.clock.advance(3600)
    await place.drive(run_id)
    async with place.engine() as engine:
        assert (await entered(engine, await engine.get_run(run_id)))[-1] == ["job.early"]


async def test_a_late_worker_shifts_no_timer(place: Place) -> None:
    graph = {
        "initial": "a",
        "states": {"a": {"after": {"1000": "b"}}, "b": {"after": {"1000": "c"}},
                   "c": {"type": "final"}},
    }  # fmt: skip
    run_id = await place.create(graph)
    run = await place.drive(run_id, budget=0)
    place.clock.advance(10)
    async with place.engine() as engine:
        run = await engine.resume(run_id)
        calls = await engine.list_calls(run_id)
    assert run.ended_at
    assert run.ended_at[17:19] in ("11", "12")
    asked = [call.created_at for call in calls if call.operation == "clock.sleep"]
    assert [moment[17:19] for moment in asked] == ["00", "10"]


async def test_an_event_that_comes_before_the_start_waits_for_its_state(place: Place) -> None:
    run_id = await place.create(WAITING, WORK)
    async with place.engine() as engine:
        await engine.send(run_id, "GO")
        await engine.drive(run_id)
        assert await engine.accepted_events(run_id) == ["STOP"]
        assert (await engine.get_run(run_id)).events == ()


async def test_events_that_race_with_the_end_of_a_handler_are_neither_lost_nor_doubled(
    engine: Engine, start: Start
) -> None:
    count = {"type": "assign", "params": {"n": {"$expr": "context.n + 1"}}}
    graph = {
        "initial": "a",
        "context": {"n": 0, "turns": 0},
        "on": {"HIT": {"actions": count}, "END": ".over"},
        "states": {
            "a": {"invoke": {"src": "quick", "onDone": "b"}},
            "b": {"invoke": {"src": "quick", "onDone": "a"}},
            "over": {"type": "final"},
        },
        "output": {"$expr": "context.n"},
    }
    run = await start(graph, "def quick(input):\n    return 1\n")
    for number in range(60):
        await engine.send(run.id, "HIT", id=f"hit-{number}")
        if number % 7 == 0:
            await asyncio.sleep(random.Random(number).random() / 50)
    for number in range(60):  # delivered again
        await engine.send(run.id, "HIT", id=f"hit-{number}")
    await engine.send(run.id, "END")
    assert (await over(run)).result == 60
    async with asyncio.timeout(10):  # the last handler is cancelled after the end
        while any(not c.status.is_final for c in await engine.list_children(run.id)):
            await asyncio.sleep(0.01)


async def test_a_handler_that_was_left_just_before_a_crash_is_ended_by_the_next_worker(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = json.loads(json.dumps(WAITING))
    graph["initial"] = "work"
    graph["states"]["stopped"] = {"after": {"60000": "end"}}
    run_id = await place.create(graph, WORK)
    await place.drive(run_id)
    async with place.engine() as engine:
        (child,) = await engine.list_children(run_id)
        await engine.drive(child.id)
        await engine.send(run_id, "STOP")

        async def crash(run_ids: Any) -> None:
            raise asyncio.CancelledError

        monkeypatch.setattr(engine._executor.family, "cancel_runs", crash)
        with pytest.raises(asyncio.CancelledError):
            await engine.drive(run_id)
        assert (await engine.get_run(child.id)).status is Status.SUSPENDED
    await place.drive(run_id)
    async with place.engine() as engine:
        assert (await engine.get_run(child.id)).status is Status.CANCELLED


async def test_a_handler_that_could_not_be_ended_is_ended_when_the_run_is_next_driven(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = json.loads(json.dumps(WAITING))
    graph["initial"] = "work"
    graph["states"]["stopped"] = {"on": {"AGAIN": "end"}, "after": {"60000": "end"}}
    run_id = await place.create(graph, WORK)
    async with place.engine() as engine:
        await engine.drive(run_id)
        (child,) = await engine.list_children(run_id)
        await engine.drive(child.id)
        await engine.send(run_id, "STOP")

        async def troubled(run_ids: Any) -> None:
            """As when the store has failed."""

        with monkeypatch.context() as patched:
            patched.setattr(engine._executor.family, "cancel_runs", troubled)
            await engine.drive(run_id, budget=0)
        assert (await engine.get_run(child.id)).status is Status.SUSPENDED
        await engine.drive(run_id, budget=0)
        assert (await engine.get_run(child.id)).status is Status.CANCELLED


async def test_states_are_the_same_whatever_snapshots_are_lost(place: Place) -> None:
    graph = {
        "initial": "both",
        "context": {"log": []},
        "states": {
            "both": {
                "type": "parallel",
                "states": {
                    side: {
                        "initial": "one",
                        "states": {
                            "one": {"invoke": {"src": "work", "input": side, "onDone": "two"}},
                            "two": {"after": {"100": "three"}},
                            "three": {"invoke": {"src": "work", "input": side, "onDone": "end"}},
                            "end": {"type": "final"},
                        },
                    }
                    for side in ("left", "right")
                },
                "onDone": "over",
            },
            "over": {"type": "final"},
        },
    }
    code = "async def work(input):\n    await sleep(0.01)\n    return input\n"
    seen = []
    for seed in range(4):
        chance = random.Random(seed)

        class Forgetful(MemoryAdapter):
            async def get_snapshot(self, run_id: str, chance: Any = chance) -> Snapshot | None:
                return await super().get_snapshot(run_id) if chance.random() < 0.5 else None

        lossy = Place(Forgetful() if seed else MemoryAdapter(), snapshot_every=1)
        run_id = await lossy.create(graph, code, runtime="native")
        run = await lossy.drive_all(run_id)
        assert run.status is Status.COMPLETED
        async with lossy.engine() as engine:
            seen.append(sorted(map(tuple, await entered(engine, run))))
    assert seen[1:] == seen[:1] * 3


async def test_a_run_keeps_the_graph_it_began_with(place: Place) -> None:
    run_id = await place.create(WAITING, WORK)
    await place.drive(run_id, budget=0)
    other = {"initial": "x", "states": {"x": {"on": {"GO": "y"}}, "y": {"type": "final"}}}
    await place.create(other)
    async with place.engine() as engine:
        run = await engine.resume(run_id)
        assert (await entered(engine, run))[-1] == ["job.early"]


async def test_a_paused_run_takes_no_outcome_and_then_goes_on(place: Place) -> None:
    graph = {"initial": "work", "states": {"work": {"onDone": "end"}, "end": {"type": "final"}}}
    run_id = await place.create(graph, "def work(input):\n    return 5\n")
    await place.drive(run_id)
    async with place.engine() as engine:
        await engine.pause(run_id)
        (child,) = await engine.list_children(run_id)
        await engine.drive(child.id)
        with pytest.raises(InvalidTransitionError, match="paused"):
            await engine.drive(run_id)
        await engine.unpause(run_id)
        assert (await engine.resume(run_id)).value == 5


async def test_retry_goes_on_from_the_handler_that_failed(place: Place, tmp_path: Path) -> None:
    graph = {
        "initial": "a",
        "states": {"a": {"onDone": "b"}, "b": {"onDone": "c"}, "c": {"type": "final"}},
    }
    code = f"""
import pathlib
def noted(name):
    with open({str(tmp_path / "calls")!r}, "a") as file:
        file.write(name)
def a(input):
    noted("a")
    return 1
def b(input):
    noted("b")
    if not pathlib.Path({str(tmp_path / "mended")!r}).exists():
        raise OSError("broken")
    return input + 1
"""
    run_id = await place.create(graph, code, runtime="native")
    async with place.engine() as engine:
        assert (await engine.resume(run_id)).status is Status.FAILED
        (tmp_path / "mended").touch()
        await engine.retry(run_id)
        assert (await engine.resume(run_id)).value == 2
    assert (tmp_path / "calls").read_text() == "abb"


async def test_cancelling_a_run_ends_the_handlers_of_all_its_regions(
    engine: Engine, start: Start
) -> None:
    work = {"initial": "w", "states": {"w": {"invoke": {"src": "work", "onDone": "e"}},
                                       "e": {"type": "final"}}}  # fmt: skip
    run = await start({"type": "parallel", "states": {"one": work, "two": work}}, WORK)
    while len(await handlers(engine, run)) < 2:
        await engine.wait(run.id, 0.01)
    await engine.cancel(run.id)
    assert await handlers(engine, run) == [("work", "cancelled")] * 2
    assert {c.status for c in await engine.list_calls(run.id)} <= {
        CallStatus.CANCELLED,
        CallStatus.COMPLETED,
    }


@pytest.mark.parametrize(
    ("policy", "code"), [({"timeout": 60.0}, "timeout"), ({"ttl": 60.0}, "expired")]
)
async def test_a_run_ends_when_its_time_is_over(
    engine: Engine, start: Start, policy: Any, code: str
) -> None:
    graph = {"initial": "a", "states": {"a": {"on": {"GO": "b"}}, "b": {"type": "final"}}}
    run = await over(await start(graph, **policy))
    assert run.record.error
    assert run.record.error.code == code


async def test_a_handler_that_computes_for_ever_is_an_error_of_its_state(place: Place) -> None:
    graph = {
        "initial": "a",
        "states": {"a": {"onDone": "b", "onError": "handle"}, "handle": {"onDone": "b"},
                   "b": {"type": "final"}},
    }  # fmt: skip
    code = (
        "def a(input):\n    while True: pass\n\ndef handle(error):\n    return error['message']\n"
    )
    run_id = await place.create(graph, code, limits=Limits(turn_seconds=0.2))
    async with place.engine() as engine:
        assert "0.2" in (await engine.resume(run_id)).value


async def test_two_workers_share_the_handlers_of_a_run(tmp_path: Path) -> None:
    side = {"initial": "w", "states": {"w": {"invoke": {"src": "work", "onDone": "e"}},
                                       "e": {"type": "final"}}}  # fmt: skip
    graph = {"type": "parallel", "states": {f"s{n}": side for n in range(6)}}
    code = "import os\nasync def work(input):\n    await sleep(0.05)\n    return 1\n"
    adapters = [SqliteAdapter(tmp_path / "workflow.db") for _ in range(2)]
    settings = Settings(project=tmp_path)
    engines = [
        Engine(adapter, standard_services(), settings, secret=b"k" * 32) for adapter in adapters
    ]
    for adapter in adapters:
        await adapter.init()
    config = TaskConfig(name="job", runtime="native", graph=json.dumps(graph))
    await engines[0].store_task("job", code, config)
    runs = [await engines[0].create_run("job") for _ in range(3)]
    workers = [Worker(engine, concurrency=3, sweep=0.05) for engine in engines]
    working = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        async with asyncio.timeout(20):
            ended = [await engines[0].wait(run.id) for run in runs]
    finally:
        for worker in workers:
            worker.stop()
        await asyncio.gather(*working)
    assert [run.status for run in ended] == [Status.COMPLETED] * 3
    for run in runs:
        assert await handlers(engines[0], run) == [("work", "completed")] * 6
        calls = await engines[0].list_calls(run.id)
        assert len([call for call in calls if call.operation == "graph.step"]) == 7
    for engine in engines:
        await engine.close()
