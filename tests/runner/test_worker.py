"""Workers drive what is due, together or alone, and let go of it properly."""

import asyncio
from typing import Any

import pytest

from sequential.core.model import Status, TaskConfig
from sequential.core.schedule import Schedule
from sequential.errors import StorageError
from sequential.runner.worker import Worker

SLEEPER = """
import asyncio
async def job(input):
    await asyncio.sleep(3600)
    return await services.tool.echo(input["n"])
"""


async def test_a_worker_drives_what_was_submitted(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", SLEEPER, TaskConfig(name="job"))
        runs = [await engine.create_run("job", {"n": n}) for n in range(20)]
        worker = Worker(engine, concurrency=5, sweep=10_000)  # it knows what it parked itself
        working = asyncio.create_task(worker.run())
        while len(await engine.list_runs(unfinished=True)):
            await asyncio.sleep(0.001)
        worker.stop()
        await working
        done = [await engine.get_run(run.id) for run in runs]
    assert [run.value for run in done] == list(range(20))
    assert len(lab.tool.performed) == 20


async def test_until_idle_leaves_what_waits(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", SLEEPER, TaskConfig(name="job"))
        run = await engine.create_run("job", {"n": 1})
        await Worker(engine).run(until_idle=True)
        assert (await engine.get_run(run.id)).status is Status.SUSPENDED


async def test_two_workers_share_the_runs(lab: Any) -> None:
    code = "async def job(input):\n    return await services.tool.echo(input['n'])\n"
    async with lab.engine() as one, lab.engine() as two:
        await one.store_task("job", code, TaskConfig(name="job"))
        for n in range(40):
            await one.create_run("job", {"n": n})
        await asyncio.gather(
            Worker(one, concurrency=3).run(until_idle=True),
            Worker(two, concurrency=3).run(until_idle=True),
        )
        runs = await one.list_runs("job")
    assert sorted(run.value for run in runs) == list(range(40))
    assert len(lab.tool.performed) == 40


async def test_a_worker_takes_only_the_tasks_it_was_given(lab: Any) -> None:
    code = "def main():\n    return 1\n"
    async with lab.engine() as engine:
        for name in ("mine", "other"):
            await engine.store_task(name, code, TaskConfig(name=name))
            await engine.create_run(name)
        await Worker(engine, tasks=["mine"]).run(until_idle=True)
        statuses = {r.task_identifier: r.status for r in await engine.list_runs()}
    assert statuses == {"mine": Status.COMPLETED, "other": Status.PENDING}


async def test_a_stopped_worker_parks_its_runs(lab: Any) -> None:
    started = asyncio.Event()

    async def hang(n: int) -> int:
        started.set()
        await asyncio.sleep(60)
        return n

    lab.methods(hang=hang)
    code = "async def job():\n    return await services.tool.hang(1)\n"
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        run = await engine.create_run("job")
        worker = Worker(engine)
        working = asyncio.create_task(worker.run())
        await started.wait()
        worker.stop()
        await asyncio.wait_for(working, 5)
        assert worker.driving == 0
        parked = await engine.get_run(run.id)
    assert parked.status is Status.SUSPENDED
    assert parked.wake_at is not None


async def test_trouble_with_the_store_rests_one_run_and_not_the_others(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "async def job(input):\n    return await services.tool.echo(input['n'])\n"
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        bad, good = [await engine.create_run("job", {"n": n}) for n in range(2)]
        load = lab.storage.load_calls

        async def fail_for_one(run_id: str, after: int = 0) -> Any:
            if run_id == bad.id:
                raise StorageError("the disk is broken here")
            return await load(run_id, after)

        monkeypatch.setattr(lab.storage, "load_calls", fail_for_one)
        told: list[tuple[str, str]] = []
        worker = Worker(engine, on_trouble=lambda run_id, error: told.append((run_id, str(error))))
        await worker.run(until_idle=True)
        assert told == [(bad.id, "the disk is broken here")]
        assert str(worker.troubles[bad.id]) == "the disk is broken here"
        assert (await engine.get_run(good.id)).status is Status.COMPLETED
        assert await engine.is_driven(await engine.get_run(bad.id))  # it rests: no claim in vain
        monkeypatch.setattr(lab.storage, "load_calls", load)
    async with lab.engine() as again:
        await Worker(again).run(until_idle=True)
        assert (await again.get_run(bad.id)).status is Status.COMPLETED


async def test_trouble_with_looking_for_runs_is_told_when_it_begins_and_ends(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, claim_due = 0, lab.storage.claim_due
    told: list[str] = []

    async def fail_twice(*given: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks in (1, 2):
            raise StorageError("nobody is there")
        if looks == 4:
            worker.stop()
        return await claim_due(*given)

    monkeypatch.setattr(lab.storage, "claim_due", fail_twice)
    async with lab.engine() as engine:
        worker = Worker(engine, on_trouble=lambda run_id, error: told.append(f"{run_id}{error}"))
        await worker.run()
    assert told == ["nobody is there", "None"]
    assert worker.troubles == {}


async def test_trouble_with_schedules_alone_is_told_and_keeps_no_run(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []

    async def fail(*given: Any) -> Any:
        raise StorageError("documents are missing here")

    monkeypatch.setattr(lab.storage, "get_document", fail)
    async with lab.engine() as engine:
        await engine.store_task("job", "def job():\n    return 1\n", TaskConfig(name="job"))
        run = await engine.create_run("job")
        worker = Worker(engine, on_trouble=lambda subject, e: told.append((subject, str(e))))
        await worker.run(until_idle=True)
        assert (await engine.get_run(run.id)).status is Status.COMPLETED
    assert told == [("schedules", "documents are missing here")]


async def test_a_worker_may_leave_schedules_alone(lab: Any) -> None:
    async with lab.engine() as engine:
        await engine.store_task("job", "def job():\n    return 1\n", TaskConfig(name="job"))
        await engine.schedules.set("job", Schedule("poll", every=60))
        lab.clock.advance(60)
        await Worker(engine, schedules=False).run(until_idle=True)
        assert await engine.list_runs("job") == []
        assert await engine.schedules.fire_due() == 1
