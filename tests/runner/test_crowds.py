"""What many children, many answers and many waiting runs cost: no more than their number."""

import asyncio
import collections
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
