"""Chance in native programs: a replay draws the same, wherever a library has it from."""

import random

import pytest

from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock


class Lasting(MemoryAdapter):
    """A store that two engines use one after the other."""

    async def close(self) -> None:
        pass


DRAWS = {
    "the functions of random": "random.random(), random.randint(1, 10**9), random.choice('abcdef')",
    "a generator without a seed": "random.Random().random(), random.Random(None).getrandbits(64)",
    "a generator with a seed": "random.Random(7).random()",
    "the system's generator": "random.SystemRandom().random(), secrets.token_hex(8)",
    "os.urandom": "os.urandom(8).hex()",
    "uuid": "str(uuid.uuid4())",
    "seeding": "random.seed(5), random.random()",
}


@pytest.mark.parametrize("drawn", DRAWS.values(), ids=DRAWS)
async def test_a_replay_draws_the_same(drawn: str) -> None:
    code = f"""
import os, random, secrets, uuid
from sequential.task import step
async def job():
    await step(repr, [{drawn}])  # a replay that asks with other numbers fails
    await wait_for_event("go")
    await step(repr, [{drawn}])
    return "the same"
"""
    storage = Lasting()
    async with Engine(storage, clock=FakeClock()) as engine:
        await engine.store_task("job", code, TaskConfig(name="job", runtime="native"))
        run = await engine.create_run("job")
        while not (await engine.drive(run.id)).where:
            pass
    async with Engine(storage, clock=FakeClock()) as engine:
        await engine.answer(run.id, "go")
        again = await engine.resume(run.id)
        assert (again.value, again.turn) == ("the same", 4)
    assert random.Random().random() != random.Random().random()  # outside nothing has changed
