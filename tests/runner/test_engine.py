"""What a run does from its creation to its end, on a store in memory with a clock that jumps."""

import asyncio
from typing import Any

import pytest

from sequential.core.model import (
    Allow,
    CallStatus,
    InputField,
    Limits,
    Outcome,
    RetryPolicy,
    Status,
    TaskConfig,
)
from sequential.errors import InvalidInputError, RunNotFoundError, TaskNotFoundError
from sequential.runner.progress import Step
from sequential.services.base import CallError, TryAgain


async def test_a_task_returns_its_result_and_leaves_its_calls(lab: Any) -> None:
    run, calls = await lab.run(
        """
async def job(input):
    first = await services.tool.echo(input["n"])
    print("first", first)
    return {"sum": first + await services.tool.echo(x=2)}
""",
        {"n": 40},
    )
    assert run.status is Status.COMPLETED
    assert run.value == {"sum": 42}
    assert [(c.sequence, c.operation, c.status, c.attempts, c.result) for c in calls] == [
        (0, "tool.echo", CallStatus.COMPLETED, 1, 40),
        (1, "tool.echo", CallStatus.COMPLETED, 1, 2),
    ]
    assert [c.where.line for c in calls] == [3, 5]
    assert [line.text for line in await lab.storage.get_log(run.id)] == ["first 40\n"]


async def test_each_call_is_committed_before_it_is_performed(lab: Any) -> None:
    seen: list[Any] = []

    async def look(x: int) -> int:
        calls = await lab.storage.query_stack_runs()
        seen.append([(c.sequence, c.status.value) for c in calls])
        return x

    lab.methods(look=look)
    await lab.run("async def job():\n    for i in range(3):\n        await services.tool.look(i)\n")
    assert seen == [
        [(0, "in_progress")],
        [(0, "completed"), (1, "in_progress")],
        [(0, "completed"), (1, "completed"), (2, "in_progress")],
    ]


async def test_gathered_calls_are_performed_at_the_same_time(lab: Any) -> None:
    together = asyncio.Barrier(3)

    async def meet(x: int) -> int:
        await asyncio.wait_for(together.wait(), 5)
        return x * 10

    lab.methods(meet=meet)
    run, calls = await lab.run(
        """
import asyncio
async def job():
    return await asyncio.gather(*[services.tool.meet(i) for i in range(3)])
"""
    )
    assert run.value == [0, 10, 20]
    assert {c.requested_turn for c in calls} == {1}


async def test_outcomes_are_delivered_in_the_order_of_arrival(lab: Any) -> None:
    gates = {i: asyncio.Event() for i in range(3)}
    order = [2, 0, 1]

    async def wait(x: int) -> int:
        await gates[x].wait()
        return x

    lab.methods(wait=wait)

    async def open_gates() -> None:
        for x in order:
            gates[x].set()
            while True:
                calls = await lab.storage.query_stack_runs(sequence=x)
                if calls and calls[0].delivered_turn:
                    break
                await asyncio.sleep(0.001)

    opener = asyncio.create_task(open_gates())
    run, calls = await lab.run(
        """
import asyncio
seen = []
async def one(i):
    seen.append(await services.tool.wait(i))
async def job():
    await asyncio.gather(one(0), one(1), one(2))
    return seen
"""
    )
    await opener
    assert run.value == order
    assert sorted(calls, key=lambda c: c.delivered_turn) == [calls[i] for i in order]


@pytest.mark.parametrize("sleep", ["await asyncio.sleep(3600)", "time.sleep(3600)"])
async def test_a_long_sleep_parks_the_run(lab: Any, sleep: str) -> None:
    run, _ = await lab.run(
        f"""
import asyncio, time
from datetime import datetime
async def job():
    before = datetime.now()
    {sleep}
    return (datetime.now() - before).total_seconds()
"""
    )
    assert 3600 <= run.value < 3700
    steps = [p.step for p in lab.progress]
    assert steps.count(Step.PARKED) == 1
    parked = next(p.run for p in lab.progress if p.step is Step.PARKED)
    assert parked.status is Status.SUSPENDED
    assert parked.where is not None
    assert parked.wake_at is not None


async def test_a_month_of_sleep_takes_no_time(lab: Any) -> None:
    run, _ = await lab.run(
        "import asyncio\nasync def job():\n    await asyncio.sleep(30 * 86400)\n"
    )
    assert run.status is Status.COMPLETED


async def test_settle_gives_values_and_errors(lab: Any) -> None:
    def fail(x: int) -> int:
        raise CallError("PermissionError", "not you")

    lab.methods(fail=fail, echo=lambda x: x)
    run, _ = await lab.run(
        """
async def job():
    return await settle(services.tool.echo(1), services.tool.fail(2))
"""
    )
    assert run.value == [
        {"ok": True, "value": 1},
        {"ok": False, "error": "PermissionError", "message": "not you"},
    ]


async def test_a_failed_call_can_be_caught_in_a_retry_loop(lab: Any) -> None:
    attempts: list[int] = []

    def flaky() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise CallError("OSError", "connection reset")
        return "fine"

    lab.methods(flaky=flaky)
    run, calls = await lab.run(
        """
import asyncio
async def job():
    retries = 0
    while retries < 3:
        try:
            return await services.tool.flaky()
        except OSError as error:
            retries += 1
            if retries >= 3:
                raise
            await asyncio.sleep(retries)
"""
    )
    assert run.value == "fine"
    assert [c.operation for c in calls] == [
        "tool.flaky", "clock.sleep", "tool.flaky", "clock.sleep", "tool.flaky",
    ]  # fmt: skip


async def test_an_attempt_that_may_do_better_is_repeated_with_the_same_key(lab: Any) -> None:
    def busy() -> str:
        if len(lab.tool.performed) < 3:
            raise TryAgain(Outcome(value="busy"), retry_after=10)
        return "done"

    lab.methods(busy=busy)
    run, calls = await lab.run("async def job():\n    return await services.tool.busy()\n")
    assert run.value == "done"
    assert calls[0].attempts == 3
    assert len(set(lab.tool.keys())) == 1
    assert [c.context.attempt for c in lab.tool.performed] == [1, 2, 3]
    waits = [p.call.due_at for p in lab.progress if p.step is Step.CALL_RETRYING]
    assert len(waits) == 2


async def test_when_no_attempt_is_left_the_last_outcome_counts(lab: Any) -> None:
    def busy() -> str:
        raise TryAgain(Outcome(value="busy"))

    lab.methods(busy=busy)
    config = TaskConfig(name="job", retry=RetryPolicy(retries=2))
    run, calls = await lab.run(
        "async def job():\n    return await services.tool.busy()\n", config=config
    )
    assert run.value == "busy"
    assert calls[0].attempts == 3
    assert calls[0].status is CallStatus.COMPLETED


async def test_an_uncaught_error_fails_the_run_with_its_source_line(lab: Any) -> None:
    lab.methods(fail=lambda: 1 / 0)
    run, calls = await lab.run(
        """
async def step():
    return await services.tool.fail()
async def job():
    return await step()
"""
    )
    assert run.status is Status.FAILED
    assert run.error.type == "RuntimeError"
    assert run.error.message == "ZeroDivisionError: division by zero"
    assert [(f.line, f.function, f.source) for f in run.error.traceback] == [
        (5, "job", "return await step()"),
        (3, "step", "return await services.tool.fail()"),
    ]
    assert calls[0].status is CallStatus.FAILED


async def test_calls_nobody_waits_for_any_more_are_cancelled(lab: Any) -> None:
    cancelled = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def fail() -> None:
        raise CallError("OSError", "no")

    lab.methods(slow=slow, fail=fail)
    run, calls = await lab.run(
        """
import asyncio
async def job():
    await asyncio.gather(services.tool.slow(), services.tool.fail())
"""
    )
    assert run.status is Status.FAILED
    assert [c.status for c in calls] == [CallStatus.CANCELLED, CallStatus.FAILED]
    assert cancelled.is_set()


async def test_the_input_is_checked_before_anything_is_written(lab: Any) -> None:
    config = TaskConfig(
        name="job", inputs=(InputField(name="userId"), InputField(name="limit", type="integer"))
    )
    with pytest.raises(InvalidInputError) as caught:
        await lab.run("async def job(userId, limit): pass", {"limit": "ten", "x": 1}, config)
    assert '"userId" (string) is missing' in str(caught.value)
    assert '"limit" must be integer, this is string' in str(caught.value)
    assert '"x" is not a field of this task' in str(caught.value)
    assert await lab.storage.query_task_runs() == []


async def test_fields_are_passed_by_name(lab: Any) -> None:
    config = TaskConfig(
        name="job", inputs=(InputField(name="a"), InputField(name="b", required=False))
    )
    run, _ = await lab.run("def job(a, b):\n    return [a, b]\n", {"a": "1"}, config)
    assert run.value == ["1", None]


async def test_a_task_may_use_only_the_services_it_is_allowed(lab: Any) -> None:
    config = TaskConfig(name="job", allow=Allow(services=("other",)))
    run, calls = await lab.run(
        """
async def job():
    try:
        await call_host_tool("tool", "echo", {"x": 1})
    except PermissionError as error:
        return str(error)
""",
        config=config,
    )
    assert "allow.services" in run.value
    assert lab.tool.performed == []
    assert calls[0].status is CallStatus.FAILED


async def test_a_run_that_outlives_its_timeout_fails(lab: Any) -> None:
    config = TaskConfig(name="job", timeout=60)
    run, calls = await lab.run(
        "import asyncio\nasync def job():\n    await asyncio.sleep(3600)\n", config=config
    )
    assert run.status is Status.FAILED
    assert run.error.code == "timeout"
    assert "60 s" in run.error.message
    assert calls[0].status is CallStatus.CANCELLED


async def test_the_host_tool_reaches_any_service(lab: Any) -> None:
    run, _ = await lab.run(
        """
async def job():
    tool = __callHostTool__
    return [await call_host_tool("tool", "echo", {"x": 1}), await tool("tool", "echo", [2])]
"""
    )
    assert run.value == [1, 2]


async def test_an_answer_too_large_for_the_task_is_an_error_it_can_catch(lab: Any) -> None:
    lab.methods(huge=lambda: "x" * (20 << 20))
    config = TaskConfig(name="job", limits=Limits(memory_mb=64))
    run, _ = await lab.run(
        """
async def job():
    try:
        return len(await services.tool.huge())
    except TypeError as error:
        return str(error)
""",
        config=config,
    )
    assert "can take 16 MiB" in run.value


async def test_runs_in_flight_keep_the_source_they_started_with(lab: Any) -> None:
    code = "import asyncio\nasync def job():\n    await asyncio.sleep(60)\n    return 'old'\n"
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        run = await engine.create_run("job")
        await engine.store_task("job", code.replace("old", "new"), TaskConfig(name="job"))
        old, new = await engine.resume(run.id), await engine.run("job")
    assert (old.value, new.value) == ("old", "new")


async def test_unknown_tasks_and_runs(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("my-emails", "def main(): pass", TaskConfig(name="x"))
        with pytest.raises(TaskNotFoundError, match="did you mean my-emails"):
            await engine.run("my-email")
        with pytest.raises(RunNotFoundError):
            await engine.resume("00000000-0000-7000-8000-000000000000")


async def test_a_budget_of_nothing_takes_one_turn_at_a_time(lab: Any) -> None:
    code = "async def job():\n    return [await services.tool.echo(x=i) for i in range(3)]\n"
    turns = []
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        run = await engine.create_run("job")
        while not run.status.is_final:
            run = await engine.drive(run.id, budget=0)
            turns.append(run.turn)
    assert turns == [1, 2, 3, 4]
    assert run.value == [0, 1, 2]


async def test_stop_parks_what_is_driven(lab: Any) -> None:
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.sleep(60)

    lab.methods(hang=hang)
    code = "async def job():\n    await services.tool.hang()\n    return 1\n"
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        running = asyncio.create_task(engine.run("job"))
        await started.wait()
        engine.stop()
        run = await running
    assert run.status is Status.SUSPENDED
    lab.methods(hang=lambda: None)
    async with lab.engine() as engine:
        assert (await engine.resume(run.id)).value == 1
        assert lab.tool.performed[0].context.attempt == 1


async def test_many_runs_share_few_programs_in_memory(lab: Any) -> None:
    async def slow(x: int) -> int:
        await asyncio.sleep(0.01)
        return x

    lab.methods(slow=slow)
    code = """
async def job(input):
    total = 0
    for i in range(4):
        total += await services.tool.slow(input["n"])
    return total
"""
    async with lab.engine(live_programs=2) as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        runs = await asyncio.gather(*[engine.run("job", {"n": n}) for n in range(30)])
    assert [run.value for run in runs] == [4 * n for n in range(30)]


async def test_outcomes_that_arrive_during_a_commit_are_kept(lab: Any) -> None:
    commit, advance = lab.storage.commit, asyncio.sleep

    async def slow_commit(change: Any) -> None:
        await advance(0.003)
        await commit(change)
        await advance(0.003)

    lab.storage.commit = slow_commit

    async def soon(x: int) -> int:
        await advance(0.001 * (x % 7))
        return x

    lab.methods(soon=soon)
    run, calls = await lab.run(
        """
import asyncio
async def one(i):
    return await services.tool.soon(i) + await services.tool.soon(i + 100)
async def job():
    return await asyncio.gather(*[one(i) for i in range(12)])
"""
    )
    assert run.value == [2 * i + 100 for i in range(12)]
    assert len(lab.tool.performed) == len(calls) == 24
    assert Step.PARKED not in [p.step for p in lab.progress]
