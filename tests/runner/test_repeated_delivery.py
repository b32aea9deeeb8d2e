"""What is delivered more than once counts once: answers with an id, and runs with one."""

import asyncio
from typing import Any

import pytest

from sequential.core.model import Status, TaskConfig
from sequential.errors import InvalidNameError, RunExistsError

TWICE = """
async def job():
    first = await wait_for_event("word")
    second = await wait_for_event("word")
    return [first, second]
"""
RUN_ID = "019cab0e-97eb-7000-8000-000000000001"


async def test_an_answer_with_an_id_counts_once_even_after_it_was_taken(lab: Any) -> None:
    async with lab.engine(park_after=0) as engine:
        await engine.store_task("job", TWICE, TaskConfig(name="job"))
        run = await engine.create_run("job")
        await engine.drive(run.id)
        for _ in range(2):
            await engine.answer(run.id, "word", "a", id="one")
        await engine.drive(run.id)
        again = await engine.answer(run.id, "word", "a", id="one")
        assert (again.status, again.events) == (Status.SUSPENDED, ())
        await engine.answer(run.id, "word", "b", id="two")
        run = await engine.drive(run.id)
        assert run.value == ["a", "b"]
        assert (await engine.answer(run.id, "word", "b", id="two")).value == ["a", "b"]


async def test_of_many_deliveries_at_once_one_counts(lab: Any) -> None:
    async with lab.engine(park_after=0) as engine:
        await engine.store_task("job", TWICE, TaskConfig(name="job"))
        run = await engine.create_run("job")
        await engine.drive(run.id)
        deliveries = [engine.answer(run.id, "word", "a", id="one") for _ in range(20)]
        await asyncio.gather(*deliveries, engine.drive(run.id))
        await engine.drive(run.id)
        run = await engine.get_run(run.id)
        assert (run.answers, run.events, run.status) == (1, (), Status.SUSPENDED)


async def test_a_run_with_an_id_is_created_once(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", TWICE, TaskConfig(name="job"))
        run = await engine.create_run("job", id=RUN_ID)
        assert run.id == RUN_ID
        with pytest.raises(RunExistsError):
            await engine.create_run("job", id=RUN_ID)
        with pytest.raises(InvalidNameError, match="looks like a UUID"):
            await engine.create_run("job", id="../x")
        assert len(await engine.list_runs("job")) == 1
