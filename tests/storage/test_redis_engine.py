"""Runs driven on a Valkey server by the real engine: many at once, raced for, the server killed."""

import asyncio
import os
import subprocess
import sys
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
from sequential.storage.redis import create
from sequential.testing.services import FakeService
from support.valkey_server import valkey

CODE = """
async def job(input):
    kept = []
    for i in range(input["steps"]):
        kept.append(await services.tool.step(i))
    return kept
"""
SLEEP = "import asyncio\nasync def job():\n    await asyncio.sleep(0.2)\n    return 'awake'\n"


@asynccontextmanager
async def engine(location: str, step: Any = lambda i: i, **runner: Any) -> AsyncIterator[Engine]:
    storage = create(location)
    await storage.init()
    made = Engine(
        storage,
        Services([ClockService(), FakeService("tool", {"step": step})]),
        Settings(project=Path(), runner=RunnerSettings(**runner)),
        secret=b"k" * 32,
    )
    try:
        yield made
    finally:
        await made.close()


async def test_many_runs_at_once_while_the_server_is_killed_and_restarted() -> None:
    performed = Counter[int]()
    with valkey() as server:
        location = server.url.partition(":")[2]

        def step(i: int) -> int:
            performed[i] += 1
            return i

        async with engine(location, step) as made:
            await made.store_task("job", CODE, TaskConfig("job"))
            running = [asyncio.ensure_future(made.run("job", {"steps": 20})) for _ in range(10)]
            for call in (2, 10):
                while performed[call] < 5:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            runs = await asyncio.gather(*running)
            assert all(run.value == [*range(20)] for run in runs)
            assert performed == dict.fromkeys(range(20), 10)
            calls = await made.list_calls(runs[0].id)
            assert [call.delivered_turn for call in calls] == [*range(2, 22)]
            assert await made.storage.wakeups("9999") == []


async def test_a_run_sleeps_in_the_store_and_is_gone_on_with_elsewhere() -> None:
    with valkey(appendonly="no") as server:
        location = server.url.partition(":")[2]
        async with engine(location, park_after=0.05) as made:
            await made.store_task("job", SLEEP, TaskConfig("job"))
            assert (await made.run("job")).value == "awake"
            await made.store_task("job", SLEEP.replace("0.2", "60"), TaskConfig("job"))
            sleeping = asyncio.ensure_future(made.run("job"))
            while not await made.storage.next_wakeup("2000"):
                await asyncio.sleep(0.01)
            made.stop()
            assert (await sleeping).status is Status.SUSPENDED
        async with engine(location) as other:
            (run,) = await other.list_runs(unfinished=True)
            cancelled = await other.cancel(run.id)
            assert cancelled.status is Status.CANCELLED


RACE = """
import asyncio, os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from test_redis_engine import race
asyncio.run(race(sys.argv[2]))
"""


async def race(location: str) -> None:
    """Drive whatever is due until nothing is left; write down every call that is performed."""

    def step(i: int) -> int:
        print("step", i, flush=True)
        return i

    async with engine(location, step) as made:
        while await made.list_runs(unfinished=True):
            for run in await made.list_runs(unfinished=True):
                try:
                    await made.resume(run.id)
                except (RunBusyError, InvalidTransitionError):
                    await asyncio.sleep(0.01)


async def test_two_processes_that_race_perform_every_call_once() -> None:
    with valkey(appendonly="no") as server:
        location = server.url.partition(":")[2]
        async with engine(location) as made:
            await made.store_task("job", CODE, TaskConfig("job"))
            ids = [(await made.create_run("job", {"steps": 5})).id for _ in range(8)]
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, __file__, location],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )
            for _ in range(2)
        ]
        outputs = [one.communicate(timeout=60)[0].splitlines() for one in racers]
        assert [one.returncode for one in racers] == [0, 0]
        performed = Counter(line for output in outputs for line in output)
        assert performed == {f"step {i}": 8 for i in range(5)}
        async with engine(location) as made:
            for run_id in ids:
                assert (await made.get_run(run_id)).value == [*range(5)]
