"""How a run goes on when its process, its snapshot or its sandbox is gone."""

import asyncio
import os
import signal
from typing import Any

import pytest

from sequential.core.model import Snapshot, Status, TaskConfig, evolve
from sequential.errors import LeaseLostError, RuntimeDiedError
from sequential.runner.progress import Step
from sequential.runtimes.sandbox.runtime import SandboxRuntime

CODE = """
import asyncio, random
async def job():
    log = []
    for i in range(4):
        log.append(await services.tool.echo(i))
        print("step", i)
        await asyncio.sleep(60)
    a, b = await asyncio.gather(services.tool.echo("a"), services.tool.echo("b"))
    return [log, a, b, random.random()]
"""


async def first_part(lab: Any, parks: int, code: str = CODE) -> str:
    """Drive a run until it was parked so often; returns its id."""
    async with lab.engine() as engine:
        await engine.store_task("job", code, TaskConfig(name="job"))
        run = await engine.create_run("job")
        for _ in range(parks):
            run = await engine._executor.execute(run.id)
            assert run.status is Status.SUSPENDED
            lab.clock.advance(120)
    return str(run.id)


async def finish(lab: Any, run_id: str) -> Any:
    lab.progress.clear()
    async with lab.engine() as engine:
        run = await engine.resume(run_id)
        log = "".join(line.text for line in await engine.get_log(run_id))
        assert log == "".join(f"step {i}\n" for i in range(4))
        return run


def replayed(lab: Any) -> list[str]:
    return [p.text for p in lab.progress if p.step is Step.REPLAYED]


async def reference(lab: Any, run_id: str) -> Any:
    """What `run_id` returns without any interruption: only the random part depends on the id."""
    run = await finish(lab, run_id)
    assert run.status is Status.COMPLETED
    assert run.value[:3] == [[0, 1, 2, 3], "a", "b"]
    return run.value


async def test_another_process_goes_on_from_the_snapshot(lab: Any) -> None:
    run_id = await first_part(lab, parks=2)
    await reference(lab, run_id)
    assert replayed(lab) == []
    assert [p.args[0] for p in lab.tool.performed] == [0, 1, 2, 3, "a", "b"]


def damage(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(damage, id="one flipped bit"),
        pytest.param(lambda data: data[:-20], id="truncated"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-32] + bytes(32), id="unsigned"),
        pytest.param(lambda data: data.replace(b"1.4.0", b"1.3.9"), id="another version"),
    ],
)
async def test_a_snapshot_that_does_not_match_is_ignored(lab: Any, change: Any) -> None:
    run_id = await first_part(lab, parks=3)
    snapshot = await lab.storage.get_snapshot(run_id)
    await lab.storage.store_snapshot(evolve(snapshot, data=change(snapshot.data)))
    performed = len(lab.tool.performed)
    await reference(lab, run_id)
    assert replayed(lab) == ["6 turns replayed from the journal"]
    assert [p.args[0] for p in lab.tool.performed[performed:]] == [3, "a", "b"]


async def test_a_snapshot_of_another_run_is_ignored(lab: Any) -> None:
    run_id = await first_part(lab, parks=3)
    other = await first_part(lab, parks=3)
    snapshot = await lab.storage.get_snapshot(other)
    await lab.storage.store_snapshot(Snapshot(run_id, snapshot.turn, snapshot.data))
    await reference(lab, run_id)
    assert len(replayed(lab)) == 1


async def test_snapshot_and_replay_give_the_same_random_numbers(lab: Any) -> None:
    run_id = await first_part(lab, parks=3)
    runs, calls, log = dict(lab.storage._runs), dict(lab.storage._calls[run_id]), lab.storage._logs
    logs = {key: list(lines) for key, lines in log.items()}
    from_snapshot = await reference(lab, run_id)
    lab.storage._runs.update(runs)
    lab.storage._calls[run_id], lab.storage._logs = calls, logs
    lab.storage._snapshots.clear()
    assert await reference(lab, run_id) == from_snapshot
    assert len(replayed(lab)) == 1


async def test_snapshots_are_taken_while_driving(lab: Any) -> None:
    code = "async def job():\n    for i in range(40):\n        await services.tool.echo(i)\n"
    turns = []
    store = lab.storage.store_snapshot

    async def note(snapshot: Snapshot) -> None:
        turns.append(snapshot.turn)
        await store(snapshot)

    lab.storage.store_snapshot = note
    await lab.run(code, snapshot_every=10)
    assert turns
    assert all(after - before >= 10 for before, after in zip([0, *turns], turns, strict=False))


async def test_a_journal_that_does_not_fit_the_source_stops_the_run(lab: Any) -> None:
    run_id = await first_part(lab, parks=2)
    other = CODE.replace("services.tool.echo(i)", "services.tool.echo(i * 7)")
    await lab.storage.update_task_run(run_id, code=other)
    async with lab.engine() as engine:
        run = await engine.resume(run_id)
    assert run.status is Status.FAILED
    assert run.error.code == "non_determinism"
    report = run.error.message
    assert "call 2 differs" in report
    assert 'expected  tool.echo {"$call":[[1],{}]}  at tasks/job/code.py:6' in report
    assert 'actual    tool.echo {"$call":[[7],{}]}  at tasks/job/code.py:6' in report
    assert "services.tool.echo(i * 7)" in report
    assert [p.args[0] for p in lab.tool.performed] == [0, 1]


async def test_a_journal_longer_than_the_program_stops_the_run(lab: Any) -> None:
    run_id = await first_part(lab, parks=2)
    shorter = CODE.replace("range(4)", "range(1)")
    await lab.storage.update_task_run(run_id, code=shorter)
    async with lab.engine() as engine:
        run = await engine.resume(run_id)
    assert run.error.code == "non_determinism"


def kill_sandbox_processes() -> int:
    """SIGKILL to the sandbox processes of this process; returns how many there were."""
    killed = 0
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    name, _, rest = file.read().partition("(")[2].rpartition(")")
                if name == "monty" and int(rest.split()[1]) == os.getpid():
                    os.kill(int(entry), signal.SIGKILL)
                    killed += 1
            except (FileNotFoundError, ProcessLookupError):
                continue
    return killed


async def test_a_sandbox_process_that_dies_is_replaced(lab: Any) -> None:
    killed = []

    async def echo(x: Any) -> Any:
        if x in (1, 3):
            killed.append(kill_sandbox_processes())
        return x

    lab.methods(echo=echo)
    async with lab.engine(idle_after=1000) as engine:
        await engine.store_task("job", CODE, TaskConfig(name="job"))
        run = await engine.run("job")
    assert sum(killed) >= 2
    assert run.status is Status.COMPLETED
    assert run.value[0] == [0, 1, 2, 3]
    assert [p.step for p in lab.progress].count(Step.RUNTIME_DIED) == 2
    assert [p.args[0] for p in lab.tool.performed] == [0, 1, 2, 3, "a", "b"]


async def test_a_sandbox_process_that_dies_while_it_is_restored_is_replaced(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await first_part(lab, parks=2)
    restore = SandboxRuntime.restore
    died: list[bool] = []

    async def die_once(self: SandboxRuntime, *arguments: Any) -> Any:
        if not died:
            died.append(True)
            raise RuntimeDiedError("killed while it was restored")
        return await restore(self, *arguments)

    monkeypatch.setattr(SandboxRuntime, "restore", die_once)
    await reference(lab, run_id)
    assert [p.step for p in lab.progress].count(Step.RUNTIME_DIED) == 1


KILLS_ITS_PROCESS = """
class P:
    pass
async def job():
    await services.tool.echo(1)
    await services.tool.echo([P, P()])
"""


async def test_a_run_that_kills_its_process_three_times_fails(lab: Any) -> None:
    """The machine of this version dies when a class is sent before its instance."""
    async with lab.engine() as engine:
        await engine.store_task("job", KILLS_ITS_PROCESS, TaskConfig(name="job"))
        await engine.store_task("other", CODE, TaskConfig(name="other"))
        bad, good = await asyncio.gather(engine.run("job"), engine.run("other"))
    assert bad.status is Status.FAILED
    assert bad.error.code == "runtime_died"
    assert "3 times" in bad.error.message
    assert good.status is Status.COMPLETED
    assert [p.args[0] for p in lab.tool.performed].count(1) == 2  # once for each of the runs


async def test_a_worker_that_lost_its_lease_writes_nothing_more(lab: Any) -> None:
    """A worker that was frozen wakes up after another one has taken its run over."""
    frozen, thaw = asyncio.Event(), asyncio.Event()

    async def freeze(x: Any) -> Any:
        if not frozen.is_set():
            frozen.set()
            await thaw.wait()
        return x

    lab.methods(freeze=freeze)
    code = "async def job():\n    return await services.tool.freeze(5)\n"
    async with lab.engine() as slow, lab.engine() as quick:
        await slow.store_task("job", code, TaskConfig(name="job"))
        run = await slow.create_run("job")
        first = asyncio.create_task(slow._executor.execute(run.id))
        await frozen.wait()
        await lab.storage.update_task_run(run.id, lease_until="2000-01-01T00:00:00.000Z")
        second = await quick.resume(run.id)
        thaw.set()
        with pytest.raises(LeaseLostError):
            await first
    assert second.value == 5
    assert (await lab.storage.get_task_run(run.id)).value == 5
    assert len(set(lab.tool.keys())) == 1
