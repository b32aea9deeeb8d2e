"""What operators do to runs: pause, cancel, retry, prune; priorities, delays and limits."""

import asyncio
from typing import Any

import pytest

from sequential.core.model import CallStatus, Status, TaskConfig
from sequential.errors import (
    InvalidTransitionError,
    RunBusyError,
    RunNotFoundError,
    TaskLimitError,
    TaskNotFoundError,
)
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker

ECHO = "async def job(input):\n    return await services.tool.echo(input.get('x'))\n"
SLEEPS = "async def job():\n    await sleep(3600)\n    return 'slept'\n"


async def a_run(engine: Engine, code: str, input: Any = None, **config: Any) -> str:
    await engine.store_task("job", code, TaskConfig(name="job", **config))
    return (await engine.create_run("job", input)).id


# --- pause ---------------------------------------------------------------------------------------


async def test_a_paused_run_rests_until_it_is_unpaused(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, SLEEPS)
        await engine.drive(run_id)
        assert (await engine.pause(run_id)).status is Status.PAUSED
        lab.clock.advance(7200)
        await Worker(engine).run(until_idle=True)
        assert (await engine.resume(run_id)).status is Status.PAUSED
    async with lab.engine() as engine:
        unpaused = await engine.unpause(run_id)
        assert unpaused.status is Status.SUSPENDED
        await Worker(engine).run(until_idle=True)
        assert (await engine.get_run(run_id)).value == "slept"


async def test_a_run_is_paused_under_the_hands_of_who_drives_it(lab: Any) -> None:
    never = asyncio.Event()
    lab.methods(echo=lambda x: never.wait())
    async with lab.engine() as engine, lab.engine() as other:
        run_id = await a_run(engine, ECHO, {})
        running = asyncio.create_task(engine.resume(run_id))
        while not lab.tool.performed:
            await asyncio.sleep(0.001)
        assert (await other.pause(run_id)).status is Status.PAUSED
        assert (await running).status is Status.PAUSED
        never.set()
        await other.unpause(run_id)
        assert (await other.resume(run_id)).value is True
    assert len(set(lab.tool.keys())) == 1


# --- cancel --------------------------------------------------------------------------------------


async def test_a_cancelled_run_gives_up_its_calls(lab: Any) -> None:
    never = asyncio.Event()
    lab.methods(echo=lambda x: never.wait())
    async with lab.engine() as engine, lab.engine() as other:
        run_id = await a_run(engine, ECHO, {})
        running = asyncio.create_task(engine.resume(run_id))
        while not lab.tool.performed:
            await asyncio.sleep(0.001)
        cancelled = await other.cancel(run_id)
        assert (cancelled.status, cancelled.ended_at is None) == (Status.CANCELLED, False)
        assert (await running).status is Status.CANCELLED
        (call,) = await engine.list_calls(run_id)
        assert call.status is CallStatus.CANCELLED
        with pytest.raises(InvalidTransitionError, match="is cancelled"):
            await engine.cancel(run_id)


@pytest.mark.parametrize("operation", ["pause", "unpause", "cancel", "retry"])
async def test_what_cannot_be_done_changes_nothing(lab: Any, operation: str) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, ECHO, {"x": 1})
        done = await engine.resume(run_id)
        with pytest.raises(InvalidTransitionError, match="is completed"):
            await getattr(engine, operation)(run_id)
        assert await engine.get_run(run_id) == done
        with pytest.raises(RunNotFoundError):
            await getattr(engine, operation)(run_id[:-1] + ("0" if run_id[-1] != "0" else "1"))


# --- retry ---------------------------------------------------------------------------------------


async def test_a_retry_makes_only_the_call_that_failed_again(lab: Any) -> None:
    broken = True

    def third() -> str:
        if broken:
            raise OSError("down")
        return "up"

    lab.methods(one=lambda: 1, two=lambda: 2, third=third)
    code = """
async def job():
    first = await services.tool.one()
    print('after the first')
    return [first, *await gather(services.tool.two(), services.tool.third())]
"""
    async with lab.engine() as engine:
        run_id = await a_run(engine, code)
        failed = await engine.resume(run_id)
        assert failed.status is Status.FAILED
        broken = False
        retried = await engine.retry(run_id)
        assert (retried.status, retried.error) == (Status.SUSPENDED, None)
        run = await engine.resume(run_id)
        assert run.value == [1, 2, "up"]
        log = await engine.get_log(run_id)
    assert [call.method for call in lab.tool.performed] == ["one", "two", "third", "third"]
    assert lab.tool.keys()[2] == lab.tool.keys()[3]
    assert [line.text for line in log] == ["after the first\n"]


async def test_a_program_that_fails_at_the_same_place_fails_again(lab: Any) -> None:
    code = "async def job():\n    await services.tool.echo(1)\n    raise ValueError('no')\n"
    async with lab.engine() as engine:
        run_id = await a_run(engine, code)
        await engine.resume(run_id)
        await engine.retry(run_id)
        again = await engine.resume(run_id)
    assert str(again.error) == "ValueError: no"
    assert len(lab.tool.performed) == 1


async def test_a_run_that_ran_out_of_time_gets_its_time_again(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, SLEEPS, timeout=2000.0)
        assert (await engine.resume(run_id)).error.code == "timeout"
        await engine.retry(run_id)
        assert (await engine.resume(run_id)).value == "slept"  # an hour after it began to sleep


async def test_a_cancelled_run_can_be_taken_up_again(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, SLEEPS)
        await engine.drive(run_id)
        await engine.cancel(run_id)
        await engine.retry(run_id)
        assert (await engine.resume(run_id)).value == "slept"


# --- prune ---------------------------------------------------------------------------------------


async def test_old_runs_are_pruned(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", ECHO, TaskConfig(name="job"))
        old = [await engine.run("job", {"x": n}) for n in range(3)]
        waiting = await engine.create_run("job", {})
        lab.clock.advance(86400)
        new = await engine.run("job", {})
        day = 3600.0 * 24
        assert set(await engine.prune(day - 60, dry_run=True)) == {run.id for run in old}
        assert await engine.prune(day * 2) == []
        assert await engine.prune(day - 60, statuses=[Status.FAILED]) == []
        with pytest.raises(TaskNotFoundError):
            await engine.prune(day, task="other")
        assert set(await engine.prune(day - 60, task="job")) == {run.id for run in old}
        assert {run.id for run in await engine.list_runs()} == {waiting.id, new.id}
        await engine.delete_run(new.id)
        with pytest.raises(InvalidTransitionError, match="cancel it first"):
            await engine.delete_run(waiting.id)


# --- order, delay, limits ------------------------------------------------------------------------


async def test_what_has_priority_is_driven_first(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", ECHO, TaskConfig(name="job"))
        for priority in (0, 5, -1, 9, 5):
            await engine.create_run("job", {"x": priority}, priority=priority)
        await Worker(engine, concurrency=1).run(until_idle=True)
    assert [call.args[0] for call in lab.tool.performed] == [9, 5, 5, 0, -1]


async def test_a_delayed_run_begins_when_it_should(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", ECHO, TaskConfig(name="job", timeout=60.0))
        run = await engine.create_run("job", {}, delay=3600)
        assert run.wake_at == "2026-01-01T01:00:00.000Z"
        assert run.deadline == "2026-01-01T01:01:00.000Z"
        await Worker(engine).run(until_idle=True)
        assert lab.tool.performed == []
    lab.clock.advance(3600)
    async with lab.engine() as engine:
        await Worker(engine).run(until_idle=True)
    assert len(lab.tool.performed) == 1


async def test_no_more_runs_of_a_task_are_driven_than_it_allows(lab: Any) -> None:
    driving = most = 0

    async def echo(x: Any) -> Any:
        nonlocal driving, most
        driving += 1
        most = max(most, driving)
        for _ in range(20):
            await asyncio.sleep(0)
        driving -= 1
        return x

    lab.methods(echo=echo)
    async with lab.engine() as engine, lab.engine() as other:
        await engine.store_task("job", ECHO, TaskConfig(name="job", concurrency=2))
        await engine.store_task("free", ECHO.replace("job", "free"), TaskConfig(name="free"))
        runs = [await engine.create_run("job", {"x": n}) for n in range(8)]
        free = [await engine.create_run("free", {"x": n}) for n in range(2)]
        workers = [Worker(one, sweep=0.01) for one in (engine, other)]
        working = [asyncio.create_task(worker.run()) for worker in workers]
        for run in (*runs, *free):
            assert (await engine.wait(run.id)).status is Status.COMPLETED
        for worker in workers:
            worker.stop()
        await asyncio.gather(*working)
    assert most <= 4  # two of the one task, two of the other


async def test_who_claims_beyond_the_limit_is_refused(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", SLEEPS, TaskConfig(name="job", concurrency=1))
        first, second = [await engine.create_run("job") for _ in range(2)]
        now, until = engine.now(), "2026-01-01T01:00:00.000Z"
        await lab.storage.claim(first.id, "token", now, until)
        with pytest.raises(TaskLimitError):
            await lab.storage.claim(second.id, "token", now, until)
        with pytest.raises(RunBusyError):
            await engine.drive(second.id)
        await lab.storage.release(first.id, "token")
        assert (await engine.drive(second.id)).status is Status.SUSPENDED
