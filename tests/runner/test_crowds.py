"""What many children, many answers and many waiting runs cost: no more than their number."""

import asyncio
import collections
import statistics
import time
from typing import Any

import pytest

from sequential.core.model import Status, TaskConfig
from sequential.runner.clock import SystemClock
from sequential.runner.worker import Worker

PARENT = """
async def parent(input):
    return await gather(*[run_task('child', {'n': n}) for n in range(input['children'])])
"""
CHILD = "async def child(input):\n    return await services.tool.echo(input['n'])\n"


def count(lab: Any, *names: str) -> collections.Counter[str]:
    """From now on count the operations of the store."""
    counts: collections.Counter[str] = collections.Counter()

    def counted(name: str) -> Any:
        real = getattr(lab.storage, name)

        def call(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return real(*arguments, **named)

        return call

    for name in names:
        setattr(lab.storage, name, counted(name))
    return counts


@pytest.mark.parametrize("how", ["worker", "resume"])
async def test_many_children_cost_no_more_than_their_number(lab: Any, how: str) -> None:
    number = 200
    lab.clock = SystemClock()  # one that jumps makes everybody look again
    counts = count(lab, "amend", "get_task_run")
    async with lab.engine() as engine:
        for name, code in (("parent", PARENT), ("child", CHILD)):
            await engine.store_task(name, code, TaskConfig(name=name))
        run = await engine.create_run("parent", {"children": number})
        if how == "worker":
            worker = Worker(engine)
            working = asyncio.create_task(worker.run())
            run = await engine.wait(run.id)
            worker.stop()
            await working
        else:
            run = await engine.resume(run.id)
    assert run.status is Status.COMPLETED
    assert run.value == list(range(number))
    assert counts["amend"] <= number
    assert counts["get_task_run"] <= 25 * number  # 10,000 and more when all were looked at again


WAITS = """
async def job(input):
    return [await wait_for_event('x') for _ in range(input['n'])]
"""


async def test_many_answers_to_one_run_are_taken_in_one_go(lab: Any) -> None:
    number = 300
    counts = count(lab, "claim", "commit")
    async with lab.engine() as engine:
        await engine.store_task("job", WAITS, TaskConfig(name="job"))
        run = await engine.create_run("job", {"n": number})
        for one in range(number):
            await engine.answer(run.id, "x", one)
        assert (await engine.drive(run.id)).value == list(range(number))
    assert (counts["claim"], counts["commit"]) == (1, number + 1)


async def test_runs_that_wait_for_answers_cost_an_idle_worker_nothing(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", WAITS, TaskConfig(name="job"))
        for _ in range(100):
            await engine.create_run("job", {"n": 1})
        worker = Worker(engine)
        working = asyncio.create_task(worker.run())
        while {run.status for run in await engine.list_runs()} != {Status.SUSPENDED}:
            await asyncio.sleep(0.001)
        while worker.driving:
            await asyncio.sleep(0.001)
        counts = count(lab, "claim", "claim_due", "commit", "get_task_run")
        begun = lab.clock.now()
        while counts["claim_due"] < 20:
            await asyncio.sleep(0.001)
        passed = (lab.clock.now() - begun).total_seconds()
        worker.stop()
        await working
    assert counts["claim"] == counts["commit"] == counts["get_task_run"] == 0
    assert passed >= 15  # a look each second, and one for the news that the last was parked


async def test_a_task_at_its_limit_costs_one_refused_claim_per_look(lab: Any) -> None:
    never = asyncio.Event()
    lab.methods(hang=never.wait)
    code = "async def job():\n    await services.tool.hang()\n"
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job", concurrency=1))
        for _ in range(50):
            await engine.create_run("job")
        worker = Worker(engine)
        working = asyncio.create_task(worker.run())
        while not lab.tool.performed:
            await asyncio.sleep(0.001)
        counts = count(lab, "claim", "claim_due")
        while counts["claim_due"] < 10:
            await asyncio.sleep(0.001)
        worker.stop()
        await working
    assert 0 < counts["claim"] <= counts["claim_due"]


@pytest.mark.parametrize("how", ["worker", "resume"])
async def test_an_answer_brings_the_next_call_within_moments(lab: Any, how: str) -> None:
    number = 60
    lab.clock = SystemClock()
    took = []
    async with lab.engine() as engine:
        await engine.store_task("job", WAITS, TaskConfig(name="job"))
        run = await engine.create_run("job", {"n": number})
        worker = Worker(engine)
        working = asyncio.create_task(worker.run() if how == "worker" else engine.resume(run.id))
        for one in range(number):
            while (await engine.get_run(run.id)).status is not Status.SUSPENDED:
                await asyncio.sleep(0.001)
            begun = time.perf_counter()
            await engine.answer(run.id, "x", one)
            while (await engine.get_run(run.id)).turn < one + 2:
                await asyncio.sleep(0)
            took.append(time.perf_counter() - begun)
        worker.stop()
        await working
    assert statistics.median(took) < 0.1  # a few milliseconds, on a machine with nothing else to do
