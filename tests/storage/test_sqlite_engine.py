"""Runs driven on the SQLite store by the real engine: resumed elsewhere, raced for, killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sequential.config import Settings
from sequential.core.model import Status, TaskConfig
from sequential.errors import InvalidTransitionError, RunBusyError
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.services.clock import ClockService
from sequential.services.registry import Services
from sequential.storage.sqlite import SqliteAdapter
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
async def engine(path: Path, step: Any = lambda i: i, **runner: Any) -> AsyncIterator[Engine]:
    storage = SqliteAdapter(path)
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workflow.db"


async def test_many_runs_at_once(path: Path) -> None:
    async with engine(path) as made:
        await made.store_task("job", CODE, TaskConfig("job"))
        runs = await asyncio.gather(*[made.run("job", {"steps": 5}) for _ in range(20)])
        assert all(run.value == [*range(5)] for run in runs)
        calls = await made.list_calls(runs[0].id)
        assert [call.delivered_turn for call in calls] == [2, 3, 4, 5, 6]
        assert len(await made.list_runs("job")) == 20
        assert await made.storage.wakeups("9999") == []


async def test_what_one_engine_left_another_goes_on_with(path: Path) -> None:
    done: Counter[int] = Counter()
    stopping: list[Engine] = []

    def step(i: int) -> int:
        done[i] += 1
        if i == 30 and stopping:
            stopping.pop().stop()
        return i

    async with engine(path, step) as first:
        await first.store_task("job", CODE, TaskConfig("job"))
        stopping.append(first)
        run = await first.run("job", {"steps": 60})
        assert run.status is Status.SUSPENDED
    async with engine(path, step) as second:
        assert await second.storage.wakeups("9999") == [run.id]
        run = await second.resume(run.id)
    assert run.value == [*range(60)]
    assert max(done[i] for i in range(60) if i != 30) == 1


async def test_a_run_sleeps_in_the_store(path: Path) -> None:
    async with engine(path, park_after=0.05) as made:
        await made.store_task("job", SLEEP, TaskConfig("job"))
        assert (await made.run("job")).value == "awake"


RACE = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from test_sqlite_engine import race
asyncio.run(race(Path(sys.argv[2]), float(sys.argv[3])))
"""


async def race(path: Path, lease: float) -> None:
    """Drive whatever is due until nothing is left; write down every call that is performed."""

    def step(i: int) -> int:
        print("step", i, flush=True)
        return i

    async with engine(path, step, lease=lease) as made:
        while await made.list_runs(unfinished=True):
            for run in await made.list_runs(unfinished=True):
                try:
                    await made.resume(run.id)
                except (RunBusyError, InvalidTransitionError):
                    await asyncio.sleep(0.01)


def racer(path: Path, lease: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RACE, __file__, str(path), str(lease)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_two_processes_that_race_perform_every_call_once(path: Path) -> None:
    async with engine(path) as made:
        await made.store_task("job", CODE, TaskConfig("job"))
        ids = [(await made.create_run("job", {"steps": 10})).id for _ in range(12)]
    racers = [racer(path, 60.0) for _ in range(2)]
    outputs = [one.communicate(timeout=60)[0].splitlines() for one in racers]
    assert [one.returncode for one in racers] == [0, 0]
    performed = Counter(line for output in outputs for line in output)
    assert performed == {f"step {i}": 12 for i in range(10)}
    async with engine(path) as made:
        for run_id in ids:
            assert (await made.get_run(run_id)).value == [*range(10)]


async def test_a_run_of_a_killed_process_goes_on_when_its_lease_ends(path: Path) -> None:
    async with engine(path) as made:
        await made.store_task("job", CODE, TaskConfig("job"))
        run = await made.create_run("job", {"steps": 2000})
    killed = racer(path, 1.0)
    assert killed.stdout
    while killed.stdout.readline() != "step 50\n":
        pass
    os.kill(killed.pid, signal.SIGKILL)
    before = Counter(["step 50", *killed.communicate()[0].splitlines()])
    after = Counter[str]()

    def step(i: int) -> int:
        after[f"step {i}"] += 1
        return i

    async with engine(path, step, lease=1.0) as made:
        while True:
            try:
                run = await made.resume(run.id)
                break
            except RunBusyError:
                await asyncio.sleep(0.05)
    assert run.value == [*range(2000)]
    assert sum((before & after).values()) <= 1  # only the call that was in progress
