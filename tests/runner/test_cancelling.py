"""Tasks end when they are told, even if they do not listen the first time."""

import asyncio
from typing import Any

from sequential.core.model import Status, TaskConfig
from sequential.runner.cancelling import cancel


async def deaf(times: int) -> None:
    """Lose so many cancellations, as `asyncio.wait_for` may."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


async def broken() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise OSError("while ending")


async def test_all_end_whatever_comes_of_them() -> None:
    tasks = [asyncio.create_task(work) for work in (deaf(0), deaf(2), broken())]
    await asyncio.sleep(0)
    await cancel(tasks)
    assert [task.done() for task in tasks] == [True] * 3
    await cancel([])


async def test_a_service_that_does_not_listen_keeps_no_engine_from_stopping(lab: Any) -> None:
    lab.methods(echo=lambda x: deaf(1))
    code = "async def job():\n    await services.tool.echo(1)\n"
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        run = await engine.create_run("job")
        running = asyncio.create_task(engine.resume(run.id))
        while not lab.tool.performed:
            await asyncio.sleep(0.001)
        engine.stop()
        assert (await running).status is Status.SUSPENDED


async def test_a_store_that_does_not_listen_keeps_no_run_from_ending(
    lab: Any, monkeypatch: Any
) -> None:
    async def renew(run_id: str, token: str, until: str) -> int:
        renewing.set()
        await deaf(1)
        return 0

    renewing = asyncio.Event()
    monkeypatch.setattr(lab.storage, "renew", renew)
    lab.methods(echo=lambda x: renewing.wait())
    code = "async def job():\n    return await services.tool.echo(1)\n"
    run, _ = await lab.run(code, lease=0.03)
    assert run.value is True
