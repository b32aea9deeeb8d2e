"""A native program that is made again from its journal is the program that it was."""

import asyncio
import builtins
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sequential.config import load_settings
from sequential.core import times
from sequential.core.model import CallStatus, StackRun, Status, TaskConfig, TaskRun, evolve
from sequential.runner import aside
from sequential.runner.engine import Engine
from sequential.runner.progress import Step
from support.native_lab import NATIVE, NativeLab
from support.native_programs import GIVEN, native_programs

PROGRAMS = native_programs()


async def in_parts(lab: NativeLab, code: str, input: Any = None) -> TaskRun:
    """A run of which every turn is taken by an engine of its own."""
    async with lab.engine() as engine:
        await lab.store(engine, code)
        run = await engine.create_run("job", input)
    for _ in range(200):
        async with lab.engine() as engine:
            run = await engine.drive(run.id, budget=0)
            if run.status.is_final:
                return run
        if run.wake_at is not None:
            lab.clock.advance(max(0, times.seconds_between(engine.now(), run.wake_at)))
    pytest.fail(f"it does not end: {run.status} at {run.where}")


@pytest.mark.parametrize("name", sorted(PROGRAMS))
async def test_a_program_is_the_same_when_each_turn_begins_with_a_replay(
    lab: NativeLab, name: str
) -> None:
    source, expected = PROGRAMS[name]
    run = await in_parts(lab, source, GIVEN)
    assert run.status is Status.COMPLETED, run.error
    assert run.value == expected
    calls = await lab.calls(run)
    assert len(lab.replayed()) >= len({c.delivered_turn for c in calls if c.delivered_order == 0})
    assert all(call.delivered_turn is not None for call in calls)
    if name not in ("chance", "module-level"):  # whose arguments are those of their run
        live = await NativeLab().run(source, GIVEN)
        assert sorted(map(what, calls)) == sorted(map(what, await lives_calls(source)))
        assert live.value == expected


def what(call: StackRun) -> tuple[str, str, int]:
    return call.operation, call.fingerprint, call.where.line if call.where else 0


async def lives_calls(source: str) -> list[StackRun]:
    lab = NativeLab()
    return await lab.calls(await lab.run(source, GIVEN))


# --- other processes -----------------------------------------------------------------------------

WORKER = """
import asyncio, json, sys
from pathlib import Path
from sequential.config import load_settings
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService

async def main(folder, run_id):
    settings = load_settings(Path(folder), environment={})
    service = FakeService("tool", {"echo": lambda x=None: x})
    for _ in range(4):
        async with Engine(settings=settings, services=[service]) as engine:
            run = await engine.drive(run_id, budget=0)
        if run.status.is_final:
            break
    print(json.dumps([run.status, run.result, str(run.error)]))

asyncio.run(main(*sys.argv[1:]))
"""

HASHING = """
import asyncio, random, uuid
from sequential.task import step

async def job(input):
    tasks = {asyncio.create_task(one(x)) for x in "hash"}
    done = set()
    while tasks:
        finished, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done |= finished
    group = []
    async with asyncio.TaskGroup() as starting:
        for task in done:
            group.append(starting.create_task(one(task.result() + random.choice("xyz"))))
    for each in asyncio.as_completed([one(x) for x in "seed"]):
        group.append(await each)
    return [len(group), await step(str, uuid.uuid4()) != ""]

async def one(x):
    return await services.tool.echo(await services.tool.echo(x))
"""


async def test_a_program_is_the_same_in_processes_that_hash_otherwise(tmp_path: Path) -> None:
    async with Engine(settings=load_settings(tmp_path, environment={})) as engine:
        await engine.store_task("job", HASHING, NATIVE)
        run_id = (await engine.create_run("job")).id
    for number in range(40):
        command = [sys.executable, "-c", WORKER, str(tmp_path), run_id]
        environment = os.environ | {"PYTHONHASHSEED": str(number * 77 + 1)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        status, result, error = json.loads(done.stdout)
        if status in ("completed", "failed"):
            assert (status, result) == ("completed", [8, True]), error
            return
    pytest.fail("it does not end")


# --- while a process lives -----------------------------------------------------------------------

SLEEPY = """
async def job(input):
    for day in range(5):
        print(await services.tool.echo(day))
        await sleep(86400)
    return "five days"
"""


async def test_nothing_is_replayed_while_a_process_lives(lab: NativeLab) -> None:
    run = await lab.run(SLEEPY)
    assert run.value == "five days"
    assert [one.step for one in lab.progress].count(Step.PARKED) == 5
    assert lab.replayed() == []
    assert len(lab.tool.performed) == 5


async def test_programs_that_wait_longest_leave_first(
    lab: NativeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "MOST", 2)
    async with lab.engine() as engine:
        await lab.store(engine, "    return await wait_for_event('go')\n")
        runs = [await engine.create_run("job") for _ in range(3)]
        for run in runs:
            await engine.drive(run.id)
        for run in reversed(runs):
            await engine.answer(run.id, "go", 1)
            assert (await engine.resume(run.id)).value == 1
    replayed = [one.run.id for one in lab.progress if one.step is Step.REPLAYED]
    assert replayed == [runs[0].id]


async def test_a_program_that_was_driven_elsewhere_is_not_used_again(lab: NativeLab) -> None:
    code = """
async def job():
    seen = [await wait_for_event("a")]
    seen.append(await wait_for_event("a"))
    return seen + [await wait_for_event("a")]
"""
    async with lab.engine() as here, lab.engine() as elsewhere:
        await lab.store(here, code)
        run = await here.create_run("job")
        await here.drive(run.id)
        await here.answer(run.id, "a", 1)
        await elsewhere.drive(run.id)
        assert lab.replayed() == ["1 turn replayed from the journal"]
        await here.answer(run.id, "a", 2)
        await here.drive(run.id)
        assert lab.replayed()[1:] == ["2 turns replayed from the journal"]
        await here.answer(run.id, "a", 3)
        assert (await elsewhere.resume(run.id)).value == [1, 2, 3]
        assert len(lab.replayed()) == 3


async def test_another_run_with_the_same_id_does_not_get_the_program(lab: NativeLab) -> None:
    given = "019cab0e-97eb-7000-8000-000000000001"
    async with lab.engine() as engine:
        await lab.store(engine, "    return [input['x'], await wait_for_event('go')]\n")
        await engine.create_run("job", {"x": 1}, id=given)
        await engine.drive(given)
        await lab.storage.delete_task_run(given)
        lab.clock.advance(1)
        await engine.create_run("job", {"x": 2}, id=given)
        async with lab.engine() as other:
            await other.drive(given)
        await engine.answer(given, "go", 3)
        assert (await engine.resume(given)).value == [2, 3]


# --- code that is not the journal's --------------------------------------------------------------

BEFORE = """
async def job(input):
    first = await services.tool.echo({"a": 1, "b": [1, 2]})
    await wait_for_event("go")
    return await services.tool.echo(first)
"""

CHANGES = {
    "other arguments": (
        BEFORE.replace("[1, 2]", "[1, 3]"),
        ["first difference: $call[0][0].b[1] is 2, actual 3"],
    ),
    "another call": (
        BEFORE.replace('services.tool.echo({"a": 1, "b": [1, 2]})', "sleep(5)"),
        ['expected  tool.echo {"$call"', "actual    clock.sleep", "at tasks/job/code.py:3"],
    ),
    "a call more": (
        BEFORE.replace("first =", "await sleep(1)\n    first ="),
        ["expected  tool.echo", "actual    clock.sleep"],
    ),
    "a call less": (
        BEFORE.replace('    await wait_for_event("go")\n', ""),
        ["expected  events.wait", "actual    tool.echo"],
    ),
    "an end": (
        BEFORE.replace('await wait_for_event("go")', "return first"),
        ["expected  events.wait", "(no call)"],
    ),
    "both at once": (
        BEFORE.replace("first =", "gather(sleep(5), sleep(6))\n    first ="),
        ["(no call)", "clock.sleep"],
    ),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
async def test_code_that_differs_stops_the_run_with_both_calls(lab: NativeLab, change: str) -> None:
    code, told = CHANGES[change]
    async with lab.engine() as engine:
        await lab.store(engine, BEFORE)
        run = await engine.create_run("job")
        await engine.drive(run.id)
    stored = await lab.storage.get_task_run(run.id)
    assert stored is not None
    lab.storage._runs[run.id] = run_with(stored, code)  # type: ignore[attr-defined]
    async with lab.engine() as engine:
        await engine.answer(run.id, "go")
        run = await engine.resume(run.id)
    assert run.error is not None
    assert run.error.code == "non_determinism"
    for part in told:
        assert part in run.error.message
    assert run.error.message.count("code.py:") >= 1


def run_with(run: TaskRun, code: str) -> TaskRun:
    return evolve(run, code=code)


async def test_what_changes_by_itself_is_found_out(lab: NativeLab) -> None:
    code = """
import itertools
from builtins import object as made
async def job(input):
    await services.tool.echo(id(made()) + input["nothing"] if "nothing" in input else time_of())
    return await wait_for_event("go")
def time_of():
    import builtins
    builtins.times = getattr(builtins, "times", 0) + 1
    return builtins.times
"""
    async with lab.engine() as engine:
        await lab.store(engine, code)
        run = await engine.create_run("job")
        await engine.drive(run.id)
    async with lab.engine() as engine:
        await engine.answer(run.id, "go")
        run = await engine.resume(run.id)
    assert "is 1, actual 2" in str(run.error)


# --- calls that were given up --------------------------------------------------------------------

TIMED = """
import asyncio

async def job(input):
    try:
        async with asyncio.timeout(10):
            return await wait_for_event("go")
    except TimeoutError:
        await sleep(input["pause"])
        return ["late", await wait_for_event("go")]
"""


async def test_a_call_that_was_given_up_is_cancelled_in_the_journal(lab: NativeLab) -> None:
    async with lab.engine() as engine:
        await lab.store(engine, TIMED)
        run = await engine.create_run("job", {"pause": 0})
        while not any(c.status is CallStatus.CANCELLED for c in await lab.calls(run)):
            await engine.drive(run.id)
            lab.clock.advance(10)
        await engine.answer(run.id, "go", "data")
        assert (await engine.resume(run.id)).value == ["late", "data"]
    calls = await lab.calls(run)
    assert [(c.operation, c.status) for c in calls][:2] == [
        ("clock.sleep", CallStatus.COMPLETED),
        ("events.wait", CallStatus.CANCELLED),
    ]
    assert calls[0].delivered_turn == calls[1].delivered_turn
    assert calls[1].delivered_order is None


@pytest.mark.parametrize("driving", ["live", "in parts"])
@pytest.mark.parametrize("blocked", [5, 50])
async def test_an_event_that_comes_with_its_timeout_is_not_lost(
    lab: NativeLab, driving: str, blocked: int
) -> None:
    """The timeout may pass while the whole program sleeps: the event is there before it is not."""
    code = f"""
import asyncio, time
async def job(input):
    async def waits():
        try:
            async with asyncio.timeout(10):
                return await wait_for_event("go")
        except TimeoutError:
            return ["late", await wait_for_event("go")]
    waiting = asyncio.create_task(waits())
    await asyncio.sleep(0)
    time.sleep({blocked})
    return await waiting
"""
    async with lab.engine() as engine:
        await lab.store(engine, code)
        run = await engine.create_run("job")
        await engine.drive(run.id, budget=0)
        lab.clock.advance(blocked + 1)
        await engine.answer(run.id, "go", "data")
        if driving == "live":
            run = await engine.resume(run.id)
    for _ in range(5):
        if not run.status.is_final:
            async with lab.engine() as engine:
                run = await engine.drive(run.id, budget=0)
    assert run.value in ("data", ["late", "data"])
    await check_taken(lab, run)


async def check_taken(lab: NativeLab, run: TaskRun) -> None:
    stored = await lab.storage.get_task_run(run.id)
    assert stored is not None
    assert stored.events == ()


async def test_an_event_for_a_call_given_up_meanwhile_is_there_for_the_next(
    lab: NativeLab,
) -> None:
    """The event settles the first wait while the program does the very turn that gives it up."""
    entered = asyncio.Event()
    code = """
import asyncio
async def job(input):
    first = asyncio.create_task(wait_for_event("go"))
    await services.tool.echo(1)
    first.cancel()
    block()
    return await wait_for_event("go")

def block():
    import builtins
    builtins.block_here()
"""
    loop, gate = asyncio.get_running_loop(), threading.Event()

    def block() -> None:
        loop.call_soon_threadsafe(entered.set)
        assert gate.wait(10)

    builtins.block_here = block  # type: ignore[attr-defined]
    try:
        async with lab.engine() as engine:
            await lab.store(engine, code)
            run = await engine.create_run("job")
            driving = asyncio.create_task(engine.drive(run.id))
            await entered.wait()
            await engine.answer(run.id, "go", "data")
            for _ in range(20):
                await asyncio.sleep(0)
            gate.set()
            await driving
            assert (await engine.get_run(run.id)).status in (Status.SUSPENDED, Status.COMPLETED)
        async with lab.engine() as engine:
            run = await engine.resume(run.id)
    finally:
        del builtins.block_here  # type: ignore[attr-defined]
    assert run.value == "data"
    await check_taken(lab, run)
    statuses = [c.status for c in await lab.calls(run) if c.operation == "events.wait"]
    assert statuses == [CallStatus.CANCELLED, CallStatus.COMPLETED]


# --- what operators do ---------------------------------------------------------------------------

RISKY = """
async def job(input):
    first = await services.tool.echo("first")
    print("first is there")
    await services.tool.flaky()
    return [first, await wait_for_event("go")]
"""


async def test_a_run_is_paused_unpaused_retried_and_cancelled(lab: NativeLab) -> None:
    answers = iter([OSError("down"), "up"])

    def flaky() -> object:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    lab.methods(echo=lambda x: x, flaky=flaky)
    async with lab.engine() as engine:
        await lab.store(engine, RISKY)
        run = await engine.run("job")
        assert str(run.error) == "RuntimeError: OSError: down"
        await engine.retry(run.id)
        run = await engine.drive(run.id)
        assert run.status is Status.SUSPENDED
        await engine.pause(run.id)
        assert (await engine.resume(run.id)).status is Status.PAUSED
        await engine.unpause(run.id)
        await engine.answer(run.id, "go", 5)
        run = await engine.resume(run.id)
        assert run.value == ["first", 5]
        assert await lab.log(run) == "first is there\n"
        assert [one.method for one in lab.tool.performed] == ["echo", "flaky", "flaky"]
        other = await engine.create_run("job")
        lab.methods(echo=lambda x: x, flaky=lambda: 1)
        await engine.cancel(other.id)
        assert (await engine.resume(other.id)).status is Status.CANCELLED


async def test_a_run_is_cancelled_and_paused_while_it_is_driven(lab: NativeLab) -> None:
    async with lab.engine() as engine:
        await lab.store(engine, "    return await wait_for_event('go')\n")
        for do, status in ((engine.cancel, Status.CANCELLED), (engine.pause, Status.PAUSED)):
            run = await engine.create_run("job")
            driving = asyncio.create_task(engine.resume(run.id))
            while (await engine.get_run(run.id)).turn == 0:
                await asyncio.sleep(0.001)
            await do(run.id)
            assert (await driving).status is status


async def test_a_run_ends_with_its_timeout_wherever_it_waits(lab: NativeLab) -> None:
    config = TaskConfig(name="job", timeout=3600)
    run = await lab.run("    await sleep(7200)\n", config=config)
    assert "longer than its timeout of 3600 s, while waiting at line 2" in str(run.error)
