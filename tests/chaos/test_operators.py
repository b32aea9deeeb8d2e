"""Somebody answers, pauses, cancels and retries runs at random while worker processes drive them.

Takes `OPERATORS_SECONDS` per store (4 if not set), and some seconds to let all runs end.
"""

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.troupe import Troupe
from sequential.config import load_settings
from sequential.core import values
from sequential.core.model import Status, TaskConfig, TaskRun
from sequential.errors import SequentialError
from sequential.runner.engine import Engine
from support.lives import check_lives
from support.postgres_server import postgres_server

SECONDS = float(os.environ.get("OPERATORS_SECONDS", "4"))
PATIENCE = 60.0  # seconds in which everything has to end
RUNS = 20
DEEDS = [*["answer"] * 4, "pause", "unpause", "unpause", "cancel", "retry", "retry"]
CODE = """
async def one(call):
    kind, given = call
    if kind == 'sleep':
        return await sleep(given)
    if kind == 'event':
        return await wait_for_event(given)
    if kind == 'timed':
        try:
            return await wait_for_event(given, timeout=1)
        except TimeoutError:
            return 'late'
    return await run_task('job', {'steps': given})

async def job(input):
    return [await gather(*[one(call) for call in step]) for step in input['steps']]
"""

pytestmark = pytest.mark.timeout(SECONDS + PATIENCE + 60)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'lives.db'}"
    else:
        with postgres_server() as server:
            yield server.url


class Operator:
    """Does things to runs, and remembers what has been done."""

    def __init__(self, engine: Engine, dice: random.Random) -> None:
        self.engine = engine
        self.dice = dice
        self.answers: Counter[tuple[str, int]] = Counter()
        self.cancelled: set[str] = set()

    def program(self, size: int, *, deep: bool) -> list[Any]:
        """Steps of calls that are made at the same time."""
        return [
            [self.call(deep=deep) for _ in range(self.dice.randint(1, 3))]
            for _ in range(self.dice.randint(1, size))
        ]

    def call(self, *, deep: bool) -> list[Any]:
        if deep and self.dice.random() < 0.3:
            return ["child", self.program(2, deep=False)]
        kind = self.dice.choice(["sleep", "event", "event", "timed"])
        return [kind, self.dice.choice([0, 0.1, 0.5] if kind == "sleep" else "ab")]

    async def answer(self, run_id: str, name: str) -> None:
        data = len(self.answers)
        await self.engine.answer(run_id, name, data)
        self.answers[run_id, data] += 1

    async def meddle(self) -> None:
        """Do something to some run, if it can be done."""
        run = self.dice.choice(await self.engine.list_runs())
        deed = self.dice.choice(DEEDS)
        with contextlib.suppress(SequentialError):
            if deed == "answer":
                await self.answer(run.id, self.dice.choice("ab"))
            else:
                await getattr(self.engine, deed)(run.id)
                if deed == "cancel":
                    self.cancelled.add(run.id)

    async def bring_to_an_end(self) -> None:
        end = time.monotonic() + PATIENCE
        while unfinished := await self.engine.list_runs(unfinished=True):
            for run in unfinished:
                with contextlib.suppress(SequentialError):
                    await self.help(run)
            shown = [(run.id, run.status, run.wake_at, run.lease_until) for run in unfinished]
            assert time.monotonic() < end, f"stuck at {self.engine.now()}: {shown}"
            await asyncio.sleep(0.1)

    async def help(self, run: TaskRun) -> None:
        """Give a run what it waits for."""
        if run.status is Status.PAUSED:
            await self.engine.unpause(run.id)
            return
        there = {event.name for event in (await self.engine.get_run(run.id)).events}
        for call in await self.engine.list_calls(run.id):
            if call.operation == "events.wait" and not call.status.is_settled:
                name = values.arguments_from_json(call.input)[1]["name"]
                if name not in there:
                    await self.answer(run.id, name)


async def test_whatever_operators_do_no_run_is_stuck_or_harmed(url: str, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    (tmp_path / ".sequentialrc.json").write_text(
        json.dumps({"adaptor": url, "runner": {"lease": 2.0}})
    )
    async with Engine(settings=load_settings(tmp_path, environment={})) as engine:
        await engine.store_task("job", CODE, TaskConfig(name="job"))
        operator = Operator(engine, dice)
        for _ in range(RUNS):
            await engine.create_run("job", {"steps": operator.program(3, deep=True)})
        troupe = Troupe(tmp_path, 2, dice)
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                await operator.meddle()
                await asyncio.sleep(dice.uniform(0, 0.01))
            await operator.bring_to_an_end()
            codes = troupe.stop()
        finally:
            troupe.end()
        assert {*codes} <= {143, -15}, troupe.log()[-3000:]
        await check_lives(engine, operator.answers, operator.cancelled)
        assert operator.answers
