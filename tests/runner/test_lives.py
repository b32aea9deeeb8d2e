"""Random programs, and random things done to their runs from outside at random moments.

Whatever is answered, paused, cancelled or retried, and whichever workers are stopped or killed:
what the journals say replays to the same program, every outcome is delivered once, no event is
lost or taken twice, a call of `run_task` has one child, and no run is stuck.
"""

import asyncio
import contextlib
import inspect
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from sequential.config import Settings
from sequential.core import journal, times, values
from sequential.core.model import (
    CallStatus,
    Finished,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
    Waiting,
)
from sequential.errors import SequentialError, StorageError
from sequential.runner.child_runs import child_of
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.runner.worker import Worker
from sequential.runtimes.base import Program
from sequential.services.clock import ClockService
from sequential.services.events import EventsService
from sequential.services.registry import Services
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService

PATIENCE = 20.0  # seconds until everything has to be over
CODE = """
async def one(call):
    kind, given = call
    if kind == 'echo':
        return await services.tool.echo(given)
    if kind == 'sleep':
        return await sleep(given)
    if kind == 'event':
        return await wait_for_event(given)
    if kind == 'timed':
        try:
            return await wait_for_event(given, timeout=30)
        except TimeoutError:
            return 'late'
    return await run_task('job', {'steps': given})

async def job(input):
    seen = []
    for step in input['steps']:
        seen.append(await gather(*[one(call) for call in step]))
        print(len(seen))
    return seen
"""

names = st.sampled_from("ab")
simple = (
    st.tuples(st.just("echo"), st.integers(0, 9))
    | st.tuples(st.just("sleep"), st.sampled_from([0, 1, 8, 100]))
    | st.tuples(st.sampled_from(["event", "timed"]), names)
)


def steps(calls: Any, size: int) -> Any:
    return st.lists(st.lists(calls, min_size=1, max_size=3), min_size=1, max_size=size)


programs = steps(simple | st.tuples(st.just("child"), steps(simple, 2)), 4)
deeds = st.tuples(
    st.sampled_from(
        ["answer", "answer", "answer", "pause", "unpause", "cancel", "retry", "stop", "kill"]
    ),
    st.integers(0, 9),  # to which run, or worker
    st.integers(0, 25),  # how long after the one before
)


class Mortal:
    """The store as seen by a worker that may be killed: from then on, it does nothing any more."""

    def __init__(self, storage: MemoryAdapter) -> None:
        self._storage = storage
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._storage, name)
        if not inspect.iscoroutinefunction(real) or name == "close":
            return real

        async def call(*arguments: Any, **named: Any) -> Any:
            if self.is_dead:
                raise StorageError("killed")
            return await real(*arguments, **named)

        return call


class World:
    """A store with two workers, and somebody who does things to the runs in it."""

    def __init__(self) -> None:
        self.storage = MemoryAdapter()
        self.clock = FakeClock(patience=0.002)
        self.tool = FakeService("tool", {"echo": lambda x: x})
        self.numbers = itertools.count()
        self.given: Counter[tuple[str, int]] = Counter()  # run and data of each answer
        self.cancelled: set[str] = set()
        self.outside = self.engine(self.storage)
        self.workers: list[tuple[Mortal, Worker, asyncio.Task[None]]] = []
        self.ending: list[tuple[Engine, asyncio.Task[None]]] = []

    def engine(self, storage: Any) -> Engine:
        services = Services([ClockService(), EventsService(), self.tool])
        runner = RunnerSettings(snapshot_every=2)
        project = Settings(project=Path(), runner=runner)
        return Engine(storage, services, project, secret=b"k" * 32, clock=self.clock)

    def begin_to_work(self) -> None:
        mortal = Mortal(self.storage)
        worker = Worker(self.engine(mortal), concurrency=3)
        self.workers.append((mortal, worker, asyncio.create_task(worker.run())))

    def end_worker(self, index: int, *, killed: bool) -> None:
        mortal, worker, working = self.workers.pop(index % len(self.workers))
        mortal.is_dead = killed
        worker.stop()
        self.ending.append((worker._engine, working))
        self.begin_to_work()

    async def do(self, deed: str, number: int) -> None:
        if deed in ("stop", "kill"):
            self.end_worker(number, killed=deed == "kill")
            return
        runs = await self.storage.query_task_runs()
        run = runs[number % len(runs)]
        with contextlib.suppress(SequentialError):
            if deed == "answer":
                await self.answer(run.id, "ab"[number % 2])
            else:
                await getattr(self.outside, deed)(run.id)
                if deed == "cancel":
                    self.cancelled.add(run.id)

    async def answer(self, run_id: str, name: str) -> None:
        data = next(self.numbers)
        await self.outside.answer(run_id, name, data)
        self.given[run_id, data] += 1

    async def bring_to_an_end(self) -> None:
        """Unpause what is paused and answer what waits, until everything is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while unfinished := [r for r in await self.runs() if not r.status.is_final]:
            for run in unfinished:
                with contextlib.suppress(SequentialError):
                    if run.status is Status.PAUSED:
                        await self.outside.unpause(run.id)
                    else:
                        await self.answer_all(run)
            if loop.time() > end:
                shown = [(r.status, r.wake_at, r.lease_token, r.events) for r in unfinished]
                pytest.fail(f"stuck at {self.outside.now()}: {shown}")
            await asyncio.sleep(0.01)

    async def answer_all(self, run: TaskRun) -> None:
        for call in await self.outside.list_calls(run.id):
            if call.operation == "events.wait" and not call.status.is_settled:
                name = values.arguments_from_json(call.input)[1]["name"]
                if name not in {event.name for event in run.events}:
                    await self.answer(run.id, name)

    async def runs(self) -> list[TaskRun]:
        return await self.storage.query_task_runs()

    async def close(self) -> None:
        while self.workers:
            _, worker, working = self.workers.pop()
            worker.stop()
            self.ending.append((worker._engine, working))
        for engine, working in self.ending:
            await working
            await engine.close()
        await self.outside.close()


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(programs, min_size=1, max_size=3), st.lists(deeds, max_size=14))
def test_no_run_is_stuck_and_nothing_is_lost_or_doubled(
    wanted: list[Any], done: list[tuple[str, int, int]]
) -> None:
    asyncio.run(live(wanted, done))


async def live(wanted: list[Any], done: list[tuple[str, int, int]]) -> None:
    world = World()
    try:
        await world.outside.store_task("job", CODE, TaskConfig(name="job"))
        for program in wanted:
            await world.outside.create_run("job", {"steps": program})
        world.begin_to_work()
        world.begin_to_work()
        for deed, number, wait in done:
            for _ in range(wait):
                await asyncio.sleep(0.0002 if wait % 2 else 0)
            await world.do(deed, number)
        await world.bring_to_an_end()
        await check(world)
    finally:
        await world.close()


async def check(world: World) -> None:
    runs = {run.id: run for run in await world.runs()}
    made = []
    for run in runs.values():
        calls = await world.outside.list_calls(run.id)
        made += [child_of(call) for call in calls if call.operation == "tasks.run"]
        check_calls(run, calls)
        check_events(world, run, calls)
        if run.status is Status.COMPLETED:
            check_result(values.from_json(run.input)["steps"], run.value, runs, calls)
            await check_replay(world, run, calls)
        else:
            assert world.cancelled, run  # itself, its parent or a child of it
    assert {run.id for run in runs.values() if run.parent_run_id} <= set(made)
    check_performed(world)


def check_calls(run: TaskRun, calls: list[StackRun]) -> None:
    """Every outcome has been delivered once; those of a completed run all were."""
    assert [call.sequence for call in calls] == list(range(len(calls)))
    places = [(c.delivered_turn, c.delivered_order) for c in calls if c.delivered_turn is not None]
    assert len(set(places)) == len(places)
    assert all(call.status.is_settled for call in calls)
    if run.status is Status.COMPLETED:
        assert len(places) == len(calls)


def check_events(world: World, run: TaskRun, calls: list[StackRun]) -> None:
    """An answer has been taken by one call, or is there still."""
    taken = [
        call.result
        for call in calls
        if call.operation == "events.wait" and call.status is CallStatus.COMPLETED
    ]
    there = [event.data for event in run.events]
    given = {data: times for (run_id, data), times in world.given.items() if run_id == run.id}
    assert Counter([*taken, *there]) == given


def check_result(
    program: Any, result: Any, runs: dict[str, TaskRun], calls: list[StackRun]
) -> None:
    """What the program returned is what it says; the results of its children are among it."""
    children = [runs[child_of(call)] for call in calls if call.operation == "tasks.run"]
    results = [child.value for child in children]
    for step, outcomes in zip(program, result, strict=True):
        for (kind, argument), outcome in zip(step, outcomes, strict=True):
            match kind:
                case "echo":
                    assert outcome == argument
                case "sleep":
                    assert outcome is None
                case "event" | "timed":
                    assert isinstance(outcome, int) or (kind, outcome) == ("timed", "late")
                case "child":
                    results.remove(outcome)
    assert results == []


async def check_replay(world: World, run: TaskRun, calls: list[StackRun]) -> None:
    """The journal, from its beginning, is the life of this program."""
    engine = world.outside
    runtime = engine._runtimes.create("sandbox")
    program = Program(
        run_id=run.id,
        task="job",
        source=run.code,
        filename=run.filename,
        input_names=(),
        methods=engine.services.methods(run.config.allow),
        limits=run.config.limits,
    )
    try:
        waiting: tuple[int, ...] = ()
        turn = None
        for entry in journal.entries(calls, run.started_at or ""):
            now = times.from_text(entry.clock)
            if entry.turn == 1:
                turn = await runtime.start(program, run.input, now)
            else:
                journal.check_delivery(entry, waiting)
                turn = await runtime.resume(entry.outcomes, now)
            journal.check_turn(entry, turn)
            waiting = turn.state.calls if isinstance(turn.state, Waiting) else ()
        assert turn is not None
        assert isinstance(turn.state, Finished)
        assert turn.state.value == run.result
    finally:
        await runtime.close()


def check_performed(world: World) -> None:
    """An attempt has the key of its call: the same key, the same arguments."""
    pairs = zip(world.tool.keys(), world.tool.performed, strict=True)
    by_key: dict[str, set[int]] = {}
    for key, performed in pairs:
        by_key.setdefault(key, set()).add(performed.args[0])
    assert all(len(arguments) == 1 for arguments in by_key.values())
