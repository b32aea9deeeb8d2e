"""Runs driven on the Firestore store by the real engine."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sequential.config import Settings
from sequential.core.model import Status, TaskConfig
from sequential.runner.engine import Engine
from sequential.services.clock import ClockService
from sequential.services.registry import Services
from sequential.storage.firestore import FirestoreAdapter
from sequential.storage.firestore_place import Place
from sequential.testing.services import FakeService
from sequential.testing.storage_contract import new_run
from support.firestore_server import FirestoreServer

_numbers = itertools.count()
CODE = """
async def job(input):
    kept = []
    for i in range(input["steps"]):
        kept.append(await services.tool.step(i))
    return kept
"""
SLEEP = "import asyncio\nasync def job():\n    await asyncio.sleep(0.2)\n    return 'awake'\n"


@pytest.fixture(scope="module")
def server() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


@pytest.fixture
def place(server: FirestoreServer, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
    return Place("demo", "(default)", f"engine{next(_numbers)}")


@asynccontextmanager
async def engine(place: Place, step: Any = lambda i: i) -> AsyncIterator[Engine]:
    storage = FirestoreAdapter(place)
    await storage.init()
    services = Services([ClockService(), FakeService("tool", {"step": step})])
    made = Engine(storage, services, Settings(project=Path()), secret=b"k" * 32)
    try:
        yield made
    finally:
        await made.close()


async def test_many_runs_at_once_cost_a_write_for_each_step(
    server: FirestoreServer, place: Place
) -> None:
    async with engine(place) as made:
        await made.store_task("job", CODE, TaskConfig("job"))
        await made.run("job", {"steps": 1})
        server.reset_counts()
        runs = await asyncio.gather(*[made.run("job", {"steps": 5}) for _ in range(10)])
        assert all(run.value == [*range(5)] for run in runs)
        assert server.counts["writes"] <= 10 * (5 + 4)
        calls = await made.list_calls(runs[0].id)
        assert [call.delivered_turn for call in calls] == [2, 3, 4, 5, 6]
        assert len(await made.list_runs("job")) == 11
        assert await made.storage.wakeups("9999") == []


async def test_what_one_engine_left_another_goes_on_with(place: Place) -> None:
    done: Counter[int] = Counter()
    stopping: list[Engine] = []

    def step(i: int) -> int:
        done[i] += 1
        if i == 30 and stopping:
            stopping.pop().stop()
        return i

    async with engine(place, step) as first:
        await first.store_task("job", CODE, TaskConfig("job"))
        stopping.append(first)
        run = await first.run("job", {"steps": 60})
        assert run.status is Status.SUSPENDED
    async with engine(place, step) as second:
        assert await second.storage.wakeups("9999") == [run.id]
        run = await second.resume(run.id)
    assert run.value == [*range(60)]
    assert max(done[i] for i in range(60) if i != 30) == 1


async def test_a_run_sleeps_in_the_store(place: Place) -> None:
    async with engine(place) as made:
        await made.store_task("job", SLEEP, TaskConfig("job"))
        assert (await made.run("job")).value == "awake"


def test_a_store_may_be_used_from_one_event_loop_after_another(place: Place) -> None:
    adapter = FirestoreAdapter(place)
    asyncio.run(adapter.init())
    run = asyncio.run(adapter.create_task_run(new_run()))
    assert asyncio.run(adapter.get_task_run(run.id)) == run
    asyncio.run(adapter.close())
