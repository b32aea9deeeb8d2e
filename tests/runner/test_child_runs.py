"""Child runs: `run_task` starts them, waits for nothing but their end, and takes them along."""

import asyncio
from typing import Any

import pytest

from sequential.core import times
from sequential.core.model import InputField, Status, TaskConfig
from sequential.errors import InvalidTransitionError
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker

PARENT = """
async def parent(input):
    return await gather(*[run_task('child', {'n': n}) for n in range(input['children'])])
"""
CHILD = """
async def child(n):
    return await services.tool.echo(n)
"""


async def store(engine: Engine, child: str = CHILD, parent: str = PARENT) -> None:
    await engine.store_task("parent", parent, TaskConfig(name="parent"))
    config = TaskConfig(name="child", inputs=(InputField("n", "number"),))
    await engine.store_task("child", child, config)


async def children(engine: Engine, run_id: str) -> list[Any]:
    return await engine.storage.query_task_runs(parent_run_id=run_id)


async def test_the_result_of_a_child_is_the_value_of_the_call(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine)
        run = await engine.run("parent", {"children": 3})
        assert run.value == [0, 1, 2]
        made = await children(engine, run.id)
    assert sorted(child.value for child in made) == [0, 1, 2]
    assert {child.status for child in made} == {Status.COMPLETED}


async def test_workers_drive_children_like_other_runs(lab: Any) -> None:
    async with lab.engine() as engine, lab.engine() as other:
        await store(engine)
        runs = [await engine.create_run("parent", {"children": 4}) for _ in range(3)]
        workers = [Worker(engine, concurrency=2), Worker(other, concurrency=2)]
        working = [asyncio.create_task(worker.run()) for worker in workers]
        for run in runs:
            assert (await engine.wait(run.id)).value == [0, 1, 2, 3]
        for worker in workers:
            worker.stop()
        await asyncio.gather(*working)
    assert len(lab.tool.performed) == 12


async def test_the_error_of_a_child_can_be_caught(lab: Any) -> None:
    parent = """
async def parent():
    try:
        await run_task('child', {'n': 1})
    except RuntimeError as error:
        return str(error)
"""
    async with lab.engine() as engine:
        await store(engine, "async def child(n):\n    raise KeyError('which')\n", parent)
        assert (await engine.run("parent")).value == "task child failed: KeyError: which"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("run_task('chidl', {'n': 1})", "did you mean child?"),
        ("run_task('child', {'n': 'x'})", "task child: "),
        ("run_task('child')", "task child: "),
        ("run_task('../x')", "cannot be used: use letters"),
    ],
)
async def test_a_child_that_cannot_be_started_is_an_error(
    lab: Any, call: str, message: str
) -> None:
    parent = f"""
async def parent():
    try:
        await {call}
    except (RuntimeError, ValueError) as error:
        return str(error)
"""
    async with lab.engine() as engine:
        await store(engine, parent=parent)
        run = await engine.run("parent")
        assert message in run.value
        assert await children(engine, run.id) == []


async def test_a_child_is_started_once_whatever_happens_to_its_parent(lab: Any) -> None:
    release = asyncio.Event()
    lab.methods(echo=lambda x: release.wait())
    async with lab.engine() as engine:
        await store(engine)
        run = await engine.create_run("parent", {"children": 1})
        await engine.drive(run.id)
        for _ in range(3):
            await engine.storage.answer(run.id, None, engine.now())
            await engine.drive(run.id)
        (child,) = await children(engine, run.id)
    release.set()
    async with lab.engine() as engine:
        assert (await engine.resume(run.id)).value == [True]
        assert [one.id for one in await children(engine, run.id)] == [child.id]


async def test_cancelling_goes_down_and_reaches_who_drives(lab: Any) -> None:
    never = asyncio.Event()
    lab.methods(echo=lambda x: never.wait())
    grand = "async def grand():\n    return await run_task('parent', {'children': 2})\n"
    async with lab.engine() as engine:
        await store(engine)
        await engine.store_task("grand", grand, TaskConfig(name="grand"))
        run = await engine.create_run("grand")
        running = asyncio.create_task(engine.resume(run.id))
        while len(lab.tool.performed) < 2:
            await asyncio.sleep(0.001)
        await engine.cancel(run.id)
        assert (await running).status is Status.CANCELLED
        every = await engine.list_runs()
        assert [one.status for one in every] == [Status.CANCELLED] * 4


async def test_children_end_with_a_parent_that_fails(lab: Any) -> None:
    never = asyncio.Event()
    lab.methods(echo=lambda x: never.wait(), fail=lambda: 1 / 0)
    parent = """
async def parent():
    await gather(run_task('child', {'n': 1}), services.tool.fail())
"""
    async with lab.engine() as engine:
        await store(engine, parent=parent)
        run = await engine.run("parent")
        assert run.status is Status.FAILED
        for child in await children(engine, run.id):
            assert child.status is Status.CANCELLED


async def test_a_child_whose_parent_has_ended_is_cancelled_by_who_claims_it(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine)
        parent = await engine.create_run("parent", {"children": 1})
        await engine.cancel(parent.id)
        orphan = await engine._create(
            "child", {"n": 1}, id=parent.id[:-4] + "0000", parent_run_id=parent.id
        )
        assert (await engine.resume(orphan.id)).status is Status.CANCELLED
    assert lab.tool.performed == []


async def test_a_retry_goes_down_to_the_child_that_failed(lab: Any) -> None:
    broken = True

    def echo(x: Any) -> Any:
        if broken and x == 1:
            raise OSError("down")
        return x

    lab.methods(echo=echo)
    async with lab.engine() as engine:
        await store(engine)
        run = await engine.run("parent", {"children": 3})
        assert run.status is Status.FAILED
        broken = False
        lab.clock.advance(1)
        await engine.retry(run.id)
        run = await engine.resume(run.id)
        assert run.value == [0, 1, 2]
        assert len(await children(engine, run.id)) == 3


async def test_a_child_that_somebody_cancels_is_an_error_of_the_call(lab: Any) -> None:
    never = asyncio.Event()
    lab.methods(echo=lambda x: never.wait())
    async with lab.engine() as engine:
        await store(engine)
        run = await engine.create_run("parent", {"children": 1})
        running = asyncio.create_task(engine.resume(run.id))
        while not lab.tool.performed:
            await asyncio.sleep(0.001)
        (child,) = await children(engine, run.id)
        await engine.cancel(child.id)
        ended = await running
    assert str(ended.error) == "RuntimeError: task child was cancelled"


async def test_a_task_that_runs_itself_for_ever_ends(lab: Any) -> None:
    code = """
async def deep(input):
    try:
        return await run_task('deep', {'n': input['n'] + 1})
    except RecursionError as error:
        return [input['n'], str(error)]
"""
    async with lab.engine() as engine:
        await engine.store_task("deep", code, TaskConfig(name="deep"))
        run = await engine.run("deep", {"n": 0})
        depth, message = run.value
        assert depth == 50
        assert message.startswith("task deep would be run 51 deep, run_task goes 50 deep at most")
        assert len(await engine.list_runs()) == 51


async def test_a_clock_set_back_does_not_run_a_failed_child_again_and_again(lab: Any) -> None:
    lab.methods(fail=lambda: 1 / 0)
    parent = """
async def parent():
    await sleep(1)
    await run_task('child', {'n': 1})
"""
    async with lab.engine() as engine:
        await store(engine, "async def child(n):\n    await services.tool.fail()\n", parent)
        run = await engine.create_run("parent")
        await engine.drive(run.id)
        lab.clock.advance(-86400)
        await lab.storage.answer(run.id, None, engine.now())
        lab.clock.advance(-86400)
        run = await asyncio.wait_for(engine.resume(run.id), 10)
    assert str(run.error).startswith("RuntimeError: task child failed: ")
    assert len(lab.tool.performed) == 1


async def test_a_retry_goes_down_even_when_the_clock_was_set_back(lab: Any) -> None:
    outcomes = [1, ZeroDivisionError()]

    def echo(x: Any) -> Any:
        if isinstance(outcome := outcomes.pop(), Exception):
            raise outcome
        return outcome

    lab.methods(echo=echo)
    async with lab.engine() as engine:
        await store(engine)
        run = await engine.run("parent", {"children": 1})
        assert run.status is Status.FAILED
        lab.clock.advance(-86400)
        retried = await engine.retry(run.id)
        assert retried.wake_at <= engine.now()
        assert (await engine.resume(run.id)).value == [1]


async def test_a_child_that_waits_in_storage_ends_after_its_parent(lab: Any) -> None:
    """Whoever ended the parent was killed before it came to the child."""
    waits = "async def child(n):\n    return await wait_for_event('never')\n"
    async with lab.engine() as engine:
        await store(engine, waits)
        run = await engine.create_run("parent", {"children": 1})
        await engine.drive(run.id)
        (child,) = await children(engine, run.id)
        parked = await engine.drive(child.id)
        assert (parked.status, parked.expires_at) == (Status.SUSPENDED, None)
        assert times.seconds_between(child.created_at, parked.wake_at) == pytest.approx(
            3600, abs=300
        )
        await lab.storage.update_task_run(run.id, status=Status.CANCELLED, wake_at=None)
        lab.clock.advance(4000)
        await Worker(engine).run(until_idle=True)
        assert (await engine.get_run(child.id)).status is Status.CANCELLED


async def test_a_child_whose_result_is_still_needed_is_not_deleted(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine)
        run = await engine.create_run("parent", {"children": 1})
        await engine.drive(run.id)
        (child,) = await children(engine, run.id)
        await engine.drive(child.id)
        with pytest.raises(InvalidTransitionError, match="let that one end first"):
            await engine.delete_run(child.id)
        assert (await engine.resume(run.id)).value == [0]
        await engine.delete_run(child.id)


async def test_an_engine_forgets_the_runs_it_has_driven(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine)
        await engine.run("parent", {"children": 3})
        await asyncio.sleep(0)
        assert engine._following._followed == {}


async def test_a_child_that_a_native_parent_gives_up_is_cancelled(lab: Any) -> None:
    child = "async def child():\n    await wait_for_event('never')\n"
    parent = """
import asyncio
async def parent():
    try:
        async with asyncio.timeout(60):
            await run_task("child")
    except TimeoutError:
        return await wait_for_event("go")
"""
    async with lab.engine() as engine:
        await engine.store_task("child", child, TaskConfig(name="child"))
        await engine.store_task("parent", parent, TaskConfig(name="parent", runtime="native"))
        run = await engine.create_run("parent")
        while (await engine.get_run(run.id)).turn < 2:
            await engine.drive(run.id)
        (given_up,) = await engine.list_children(run.id)
        assert given_up.status is Status.CANCELLED
        await engine.answer(run.id, "go", "gave up")
        assert (await engine.resume(run.id)).value == "gave up"
