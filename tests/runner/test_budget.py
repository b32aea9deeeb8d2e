"""A run that is driven for a limited time: it is parked without a call being cut short."""

import asyncio
from typing import Any

from sequential.core.model import Status, TaskConfig

PAIR = """
async def job():
    return await gather(services.tool.slow(), services.tool.quick(1), services.tool.quick(2))
"""
SLEEPER = """
async def job():
    await services.tool.quick(1)
    await sleep(3600)
"""


async def test_calls_in_progress_are_finished_not_made_again(lab: Any) -> None:
    settled = asyncio.Event()

    async def slow() -> str:
        await settled.wait()
        return "slow"

    def quick(x: int) -> int:
        asyncio.get_running_loop().call_later(0.02, settled.set)
        return x

    lab.methods(slow=slow, quick=quick)
    async with lab.engine() as engine:
        await engine.store_task("job", PAIR, TaskConfig(name="job"))
        run = await engine.create_run("job")
        for _ in range(10):
            run = await engine.drive(run.id, budget=0)
            if run.status.is_final:
                break
            assert run.status is Status.SUSPENDED
        assert run.value == ["slow", 1, 2]
        assert [call.attempts for call in await engine.list_calls(run.id)] == [1, 1, 1]
    assert sorted(call.method for call in lab.tool.performed) == ["quick", "quick", "slow"]


async def test_a_run_that_only_waits_is_not_due(lab: Any) -> None:
    lab.methods(quick=lambda x: x)
    async with lab.engine() as engine:
        await engine.store_task("job", SLEEPER, TaskConfig(name="job"))
        run = await engine.create_run("job")
        await engine.drive(run.id, budget=0)
        run = await engine.drive(run.id, budget=0)
        assert run.turn == 2
        assert run.wake_at is not None
        assert run.wake_at > engine.now()


async def test_an_engine_that_stops_does_not_wait_for_calls(lab: Any) -> None:
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.Event().wait()

    lab.methods(slow=slow, quick=lambda x: x)
    async with lab.engine() as engine:
        await engine.store_task("job", PAIR, TaskConfig(name="job"))
        run = await engine.create_run("job")
        await engine.drive(run.id, budget=0)
        driving = asyncio.create_task(engine.drive(run.id, budget=0))
        await begun.wait()
        engine.stop()
        assert (await driving).status is Status.SUSPENDED
