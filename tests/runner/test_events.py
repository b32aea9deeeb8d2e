"""Answers from outside: `wait_for_event`, `Engine.answer`, and what a ttl does."""

import asyncio
from typing import Any

import pytest

from sequential.core.model import Status, TaskConfig
from sequential.core.values import arguments_from_json
from sequential.errors import (
    InvalidInputError,
    InvalidNameError,
    InvalidTransitionError,
    RunNotFoundError,
)
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker

WAITS = "async def job():\n    return await wait_for_event('approval')\n"
NOBODY = "0195a000-0000-7000-8000-000000000000"


async def a_run(engine: Engine, code: str, **config: Any) -> str:
    await engine.store_task("job", code, TaskConfig(name="job", **config))
    return (await engine.create_run("job")).id


async def until(engine: Engine, run_id: str, status: Status) -> Any:
    while (run := await engine.get_run(run_id)).status is not status:
        await asyncio.sleep(0.001)
    return run


async def test_a_run_waits_in_storage_until_it_is_answered(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS)
        parked = await engine.drive(run_id)
        assert (parked.status, parked.wake_at) == (Status.SUSPENDED, None)

        answered = await engine.answer(run_id, "approval", {"by": "Ann"})
        assert answered.wake_at is not None
        run = await engine.drive(run_id)

    assert run.value == {"by": "Ann"}
    assert (await lab.storage.get_task_run(run_id)).events == ()
    (call,) = await lab.storage.query_stack_runs(task_run_id=run_id)
    assert arguments_from_json(call.input) == ([], {"name": "approval"})
    assert call.attempts == 1


async def test_an_answer_may_come_before_it_is_asked_for(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS)
        await engine.answer(run_id, "other", 1)
        early = await engine.answer(run_id, "approval", "early")
        assert (early.status, early.wake_at) == (Status.PENDING, None)
        run = await engine.resume(run_id)
    assert run.value == "early"
    assert [event.name for event in (await lab.storage.get_task_run(run_id)).events] == ["other"]


async def test_answers_of_one_name_are_taken_in_the_order_they_came(lab: Any) -> None:
    code = """
async def job():
    return [await wait_for_event('x') for _ in range(2)] + await gather(
        wait_for_event('x'), wait_for_event('y'), wait_for_event('x'))
"""
    async with lab.engine() as engine:
        run_id = await a_run(engine, code)
        for number in range(4):
            await engine.answer(run_id, "x", number)
        running = asyncio.create_task(engine.resume(run_id))
        await until(engine, run_id, Status.SUSPENDED)
        await engine.answer(run_id, "y", "y")
        assert (await running).value == [0, 1, 2, "y", 3]


async def test_who_waits_in_this_process_goes_on_at_once(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS)
        running = asyncio.create_task(engine.resume(run_id))
        await until(engine, run_id, Status.SUSPENDED)
        await engine.answer(run_id, "approval")
        assert (await running).status is Status.COMPLETED


async def test_an_answer_reaches_a_run_that_is_driven(lab: Any) -> None:
    release = asyncio.Event()
    lab.methods(slow=release.wait)
    code = """
async def job():
    slow = services.tool.slow()
    return await gather(wait_for_event('a'), slow, wait_for_event('b'))
"""
    async with lab.engine() as engine:
        run_id = await a_run(engine, code)
        running = asyncio.create_task(engine.resume(run_id))
        while not lab.tool.performed:
            await asyncio.sleep(0.001)
        await engine.answer(run_id, "b", 2)
        await engine.answer(run_id, "a", 1)
        while (await engine.get_run(run_id)).events:
            await asyncio.sleep(0.001)
        release.set()
        assert (await running).value == [1, True, 2]


async def test_the_time_to_wait_may_be_limited(lab: Any) -> None:
    code = """
async def job():
    try:
        await wait_for_event('x', timeout=3600)
    except TimeoutError as error:
        return str(error)
"""
    async with lab.engine() as engine:
        run = await engine.resume(await a_run(engine, code))
    assert run.value == "no event 'x' came within 3600 s"


async def test_an_answer_within_the_time_is_taken(lab: Any) -> None:
    code = "async def job():\n    return await wait_for_event('x', timeout=86400)\n"
    async with lab.engine() as engine:
        run_id = await a_run(engine, code)
        parked = await engine.drive(run_id)
        assert parked.wake_at == "2026-01-02T00:00:00.000Z"
        await engine.answer(run_id, "x", "in time")
        assert (await engine.drive(run_id)).value == "in time"


async def test_a_ttl_ends_a_run_that_nobody_answers(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS, ttl=7200.0)
        parked = await engine.drive(run_id)
        assert parked.expires_at == parked.wake_at == "2026-01-01T02:00:00.000Z"
        run = await engine.resume(run_id)
    assert (run.status, run.error.code) == (Status.FAILED, "expired")
    assert "no answer came within the task's ttl of 7200 s, while waiting at line 2" in str(
        run.error
    )


async def test_an_answer_that_came_in_time_counts_however_late_it_is_looked_at(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS, ttl=86400.0)
        await engine.drive(run_id)
        await engine.answer(run_id, "approval", "yes")
        lab.clock.advance(10 * 86400)
        assert (await engine.drive(run_id)).value == "yes"


async def test_a_ttl_forgets_what_the_program_waits_for_no_more(lab: Any) -> None:
    code = """
import asyncio
from sequential.task import sleep, wait_for_event

async def job():
    waiting = asyncio.create_task(wait_for_event("a"))
    await sleep(3600)
    waiting.cancel()
    return await wait_for_event("b")
"""
    async with lab.engine() as engine:
        run = await engine.resume(await a_run(engine, code, ttl=36000.0, runtime="native"))
    assert run.error.code == "expired"
    assert run.ended_at[11:13] == "11"


async def test_an_expired_run_can_be_retried(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS, ttl=60.0)
        assert (await engine.resume(run_id)).status is Status.FAILED
        await engine.retry(run_id)
        parked = await engine.drive(run_id)
        assert parked.status is Status.SUSPENDED
        await engine.answer(run_id, "approval", 1)
        assert (await engine.drive(run_id)).value == 1


async def test_a_worker_takes_what_was_answered(lab: Any) -> None:
    async with lab.engine() as engine, lab.engine() as other:
        run_id = await a_run(engine, WAITS)
        worker = Worker(engine)
        working = asyncio.create_task(worker.run())
        await until(other, run_id, Status.SUSPENDED)
        await other.answer(run_id, "approval", 5)
        assert (await other.wait(run_id)).value == 5
        worker.stop()
        await working


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, "\x00"])
async def test_a_name_is_one_line_of_text(lab: Any, name: str) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS)
        with pytest.raises(InvalidNameError):
            await engine.answer(run_id, name)
        assert (await engine.get_run(run_id)).answers == 0


async def test_what_is_too_large_or_cannot_be_sent_is_refused(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS)
        with pytest.raises(InvalidInputError, match="an event takes 1024 KiB"):
            await engine.answer(run_id, "approval", "x" * (1 << 20))
        assert (await engine.get_run(run_id)).events == ()


async def test_what_is_over_takes_no_answer(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, "async def job():\n    return 1\n")
        await engine.resume(run_id)
        with pytest.raises(InvalidTransitionError, match="is completed"):
            await engine.answer(run_id, "approval")
        with pytest.raises(RunNotFoundError):
            await engine.answer(NOBODY, "approval")


async def test_answers_are_never_lost_in_a_race_with_parking(lab: Any) -> None:
    code = """
async def job(input):
    return [await wait_for_event('x') for _ in range(input['n'])]
"""
    async with lab.engine() as engine, lab.engine() as other:
        await engine.store_task("job", code, TaskConfig(name="job"))
        runs = [(await engine.create_run("job", {"n": 20})).id for _ in range(5)]
        worker = Worker(engine)
        working = asyncio.create_task(worker.run())

        async def answer(run_id: str) -> None:
            for number in range(20):
                await other.answer(run_id, "x", number)
                for _ in range(number % 7):
                    await asyncio.sleep(0)

        await asyncio.gather(*map(answer, runs))
        for run_id in runs:
            assert (await other.wait(run_id)).value == list(range(20))
        worker.stop()
        await working


async def test_a_retry_waits_again_for_an_event_that_did_not_come_in_time(lab: Any) -> None:
    code = "async def job():\n    return await wait_for_event('x', timeout=60)\n"
    async with lab.engine() as engine:
        run_id = await a_run(engine, code)
        assert "no event 'x' came" in str((await engine.resume(run_id)).error)
        lab.clock.advance(3600)
        await engine.retry(run_id)
        assert (await engine.drive(run_id)).status is Status.SUSPENDED
        await engine.answer(run_id, "x", "late")
        assert (await engine.resume(run_id)).value == "late"


async def test_a_run_that_is_cancelled_just_before_it_is_claimed_comes_back(lab: Any) -> None:
    async with lab.engine() as engine:
        run_id = await a_run(engine, WAITS)
        claim = lab.storage.claim

        async def claim_after_cancel(*arguments: Any) -> Any:
            lab.storage.claim = claim
            await engine.cancel(run_id)
            return await claim(*arguments)

        lab.storage.claim = claim_after_cancel
        assert (await engine.resume(run_id)).status is Status.CANCELLED


async def test_a_run_that_is_paused_and_unpaused_goes_on_where_it_is_driven(lab: Any) -> None:
    release = asyncio.Event()
    lab.methods(slow=release.wait)
    async with lab.engine() as engine:
        run_id = await a_run(engine, "async def job():\n    return await services.tool.slow()\n")
        running = asyncio.create_task(engine.resume(run_id))
        while not lab.tool.performed:
            await asyncio.sleep(0.001)
        await asyncio.gather(engine.pause(run_id), engine.unpause(run_id))
        release.set()
        assert (await running).value is True
