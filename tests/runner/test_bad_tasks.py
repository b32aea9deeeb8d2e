"""Tasks and services that misbehave: the run ends with a clear error, and the engine goes on."""

import asyncio
from typing import Any

import pytest

from sequential.core.model import CallStatus, Status, TaskConfig
from sequential.services.base import CallError


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("", "there is no public function"),
        ("x = 1\n", "name the one to start with job() or main()"),
        ("def a(): pass\ndef b(): pass\n", "there are 2 public functions"),
    ],
)
async def test_a_task_without_an_entry_fails(lab: Any, code: str, says: str) -> None:
    run, _ = await lab.run(code)
    assert (run.status, run.error.code) == (Status.FAILED, "invalid_task")
    assert says in run.error.message


async def test_a_task_of_an_unknown_runtime_fails(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", "def job(): pass\n", TaskConfig(name="job"))
        run = await engine.create_run("job")
        config = TaskConfig(name="job", runtime="cobol")
        await lab.storage.update_task_run(run.id, config=config)
        ended = await engine.resume(run.id)
    assert (ended.status, ended.error.code) == (Status.FAILED, "invalid_task")
    assert "cobol" in ended.error.message


@pytest.mark.parametrize(
    ("code", "line"),
    [("def job(:\n", 1), ("def job():\n    return 1 +\n", 2), ("def job():\n  yield 1\n", 2)],
)
async def test_a_task_that_cannot_be_compiled_fails_at_its_line(
    lab: Any, code: str, line: int
) -> None:
    run, _ = await lab.run(code)
    assert run.status is Status.FAILED
    assert [frame.line for frame in run.error.traceback] == [line]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def fail(error: Exception) -> Any:
    def method() -> None:
        raise error

    return method


ECHO = "async def job():\n    return await services.tool.call()\n"


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (fail(OSError("file \udcff")), "OSError: file ?"),
        (fail(CallError("OSError", "file \udcff")), "file ?"),
        (fail(Unspeakable()), "Unspeakable, which has no text"),
        (lambda: 10**5000, "more than 4300 digits"),
        (lambda: "half \ud83d", "half of a surrogate pair"),
        (lambda: object(), "the answer of tool.call is an object"),
    ],
)
async def test_whatever_a_service_does_is_an_error_of_the_call(
    lab: Any, method: Any, says: str
) -> None:
    lab.methods(call=method)
    run, (call,) = await lab.run(ECHO)
    assert run.status is Status.FAILED
    assert says in run.error.message
    assert [frame.line for frame in run.error.traceback] == [2]
    assert call.status is CallStatus.FAILED


async def test_a_cancelled_drive_gives_its_place_in_memory_to_others(lab: Any) -> None:
    """A web server may cancel whoever waits for a run, at any moment."""
    busy = (
        "async def job():\n    for i in range(5_000_000): pass\n    await services.tool.echo(1)\n"
    )
    async with lab.engine(live_programs=1) as engine:
        await engine.store_task("job", busy, TaskConfig(name="job"))
        for delay in (0, 0.001, 0.005, 0.02, 0.1):
            driving = asyncio.create_task(engine.run("job"))
            await asyncio.sleep(delay)
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
        async with asyncio.timeout(10):
            runs = await engine.list_runs("job", unfinished=True)
            ended = await asyncio.gather(*[engine.resume(run.id) for run in runs])
            assert (await engine.run("job")).status is Status.COMPLETED
    assert {run.status for run in ended} <= {Status.COMPLETED}
