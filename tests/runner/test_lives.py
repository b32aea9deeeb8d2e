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
from sequential.core import values
from sequential.core.model import Status, TaskConfig, TaskRun
from sequential.errors import SequentialError, StorageError
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.runner.worker import Worker
from sequential.services.clock import ClockService
from sequential.services.events import EventsService
from sequential.services.registry import Services
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService
from support.lives import check_lives

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

CODES = {
    "sandbox": CODE,
    "native": "import asyncio\n"
    + CODE.replace(
        "return await wait_for_event(given, timeout=30)",
        "async with asyncio.timeout(30):\n                return await wait_for_event(given)",
    ).replace("sleep(given)", "sleep(given or 1)"),  # no time at all is no call
}

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


@pytest.mark.parametrize("runtime", CODES)
@settings(
    max_examples=18,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(programs, min_size=1, max_size=3), st.lists(deeds, max_size=14))
def test_no_run_is_stuck_and_nothing_is_lost_or_doubled(
    runtime: str, wanted: list[Any], done: list[tuple[str, int, int]]
) -> None:
    asyncio.run(live(runtime, wanted, done))


async def live(runtime: str, wanted: list[Any], done: list[tuple[str, int, int]]) -> None:
    world = World()
    try:
        await world.outside.store_task(
            "job", CODES[runtime], TaskConfig(name="job", runtime=runtime)
        )
        for program in wanted:
            await world.outside.create_run("job", {"steps": program})
        world.begin_to_work()
        world.begin_to_work()
        for deed, number, wait in done:
            for _ in range(wait):
                await asyncio.sleep(0.0002 if wait % 2 else 0)
            await world.do(deed, number)
        await world.bring_to_an_end()
        await check_lives(world.outside, world.given, world.cancelled)
        check_performed(world)
    finally:
        await world.close()


def check_performed(world: World) -> None:
    """An attempt has the key of its call: the same key, the same arguments."""
    pairs = zip(world.tool.keys(), world.tool.performed, strict=True)
    by_key: dict[str, set[int]] = {}
    for key, performed in pairs:
        by_key.setdefault(key, set()).add(performed.args[0])
    assert all(len(arguments) == 1 for arguments in by_key.values())
