"""Runs driven on the PostgreSQL store by the real engine: many at once, and by several engines."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sequential.config import Settings
from sequential.core.model import Status, TaskConfig
from sequential.errors import InvalidTransitionError, RunBusyError
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.services.clock import ClockService
from sequential.services.registry import Services
from sequential.storage.registry import create_adapter
from sequential.testing.services import FakeService

CODE = """
async def job(input):
    kept = []
    for i in range(input["steps"]):
        kept.append(await services.tool.step(i))
    return kept
"""
SLEEP = "import asyncio\nasync def job():\n    await asyncio.sleep(0.2)\n    return 'awake'\n"


@asynccontextmanager
async def engine(url: str, step: Any = lambda i: i, **runner: Any) -> AsyncIterator[Engine]:
    made = Engine(
        await create_adapter(url),
        Services([ClockService(), FakeService("tool", {"step": step})]),
        Settings(project=Path(), runner=RunnerSettings(**runner)),
        secret=b"k" * 32,
    )
    try:
        yield made
    finally:
        await made.close()


async def test_two_engines_that_race_perform_every_call_once(postgres_url: str) -> None:
    performed: Counter[int] = Counter()

    def step(i: int) -> int:
        performed[i] += 1
        return i

    async def race(made: Engine, run_id: str) -> None:
        try:
            await made.resume(run_id)
        except (RunBusyError, InvalidTransitionError):
            await made.wait(run_id)

    async with engine(postgres_url, step) as one, engine(postgres_url, step) as two:
        await one.store_task("job", CODE, TaskConfig("job"))
        ids = [(await one.create_run("job", {"steps": 6})).id for _ in range(8)]
        await asyncio.gather(*(race(made, run_id) for run_id in ids for made in (one, two)))
        for run_id in ids:
            assert (await two.get_run(run_id)).value == [*range(6)]
    assert performed == dict.fromkeys(range(6), 8)


async def test_what_one_engine_left_another_goes_on_with(postgres_url: str) -> None:
    stopping: list[Engine] = []

    def step(i: int) -> int:
        if i == 10 and stopping:
            stopping.pop().stop()
        return i

    async with engine(postgres_url, step) as first:
        await first.store_task("job", CODE, TaskConfig("job"))
        stopping.append(first)
        run = await first.run("job", {"steps": 20})
        assert run.status is Status.SUSPENDED
    async with engine(postgres_url, step) as second:
        assert (await second.resume(run.id)).value == [*range(20)]


async def test_a_run_sleeps_in_the_store(postgres_url: str) -> None:
    async with engine(postgres_url, park_after=0.05) as made:
        await made.store_task("job", SLEEP, TaskConfig("job"))
        assert (await made.run("job")).value == "awake"
