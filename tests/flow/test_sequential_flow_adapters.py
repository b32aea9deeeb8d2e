"""Flows that are runs in a `StorageAdapter`: the same for their callers, and seen by everybody."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sequential.config import Settings
from sequential.core import times
from sequential.core.model import Snapshot, Status, TaskConfig
from sequential.errors import InvalidTransitionError, RunBusyError, RunExistsError, RunNotFoundError
from sequential.flow import FlowTask, SequentialFlow
from sequential.flow.flow_run import run_id_of
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker
from sequential.services.http_settings import HttpSettings
from sequential.services.registry import Services, standard_services
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService
from support.command_line import SCRIPT
from support.flow_places import ADAPTERS, opened
from support.flow_servers import flow_firestore, flow_postgres, place_of
from support.http_api import serve
from support.valkey_server import shared_valkey

__all__ = ["flow_firestore", "flow_postgres", "place_of", "shared_valkey"]

TWO = "a = await fetch('u1')\nb = await fetch('u2')\nresult = [a.json(), b.json()]"


@pytest.fixture(params=ADAPTERS)
async def adapter(request: pytest.FixtureRequest, place_of: Any) -> AsyncIterator[Any]:
    async with opened(place_of(request.param)) as storage:
        yield storage


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    real, SequentialFlow.clock = SequentialFlow.clock, FakeClock(datetime.now(UTC))
    yield SequentialFlow.clock
    SequentialFlow.clock = real


@pytest.fixture
async def memory() -> StorageAdapter:
    return await create_adapter("memory:")


async def execute(storage: Any, code: str = TWO, **more: Any) -> FlowTask:
    ttl = more.pop("ttl", 7200)
    return await SequentialFlow.execute({"code": code, **more}, storage=storage, ttl=ttl)


async def test_a_flow_is_a_suspended_run_until_it_completes(adapter: StorageAdapter) -> None:
    task = await execute(adapter, name="Two steps")
    run = await adapter.get_task_run(run_id_of(task.id))
    assert run is not None
    assert (run.status, run.task_identifier, run.lease_token) == ("suspended", "Two-steps", None)
    assert run.config.timeout == 7200
    assert run.deadline == run.wake_at == task.expires_at
    (call,) = await adapter.query_stack_runs(task_run_id=run.id)
    assert (call.operation, call.status, call.input["url"]) == ("http.fetch", "pending", "u1")
    assert await adapter.wakeups(times.to_text(datetime.now(UTC))) == []

    task = await SequentialFlow.resume(task.id, 0, storage=adapter)
    assert (task.name, task.code, task.status) == ("Two steps", TWO, "paused")
    done = await SequentialFlow.resume(task.id, None, storage=adapter)
    assert (done.status, done.result) == ("completed", [0, None])
    run = await adapter.get_task_run(run.id)
    assert run is not None
    assert (run.status, run.value, run.lease_token) == ("completed", [0, None], None)
    calls = await adapter.query_stack_runs(task_run_id=run.id)
    assert [call.status for call in calls] == ["completed", "completed"]
    found = await SequentialFlow.get_task(task.id, storage=adapter)
    assert found is not None
    assert (found.status, found.result, found.code) == ("completed", [0, None], TWO)
    with pytest.raises(InvalidTransitionError, match="is over: it is completed"):
        await SequentialFlow.resume(task.id, 1, storage=adapter)


async def test_errors_are_kept_with_the_run(adapter: StorageAdapter) -> None:
    task = await execute(adapter, "print('a')\nawait fetch('u')\n1/0")
    failed = await SequentialFlow.resume(task.id, {"error": "down"}, storage=adapter)
    assert (failed.status, failed.error) == ("error", "OSError: down (line 2)")
    assert await SequentialFlow.get_task(task.id, storage=adapter) is not None
    log = await adapter.get_log(run_id_of(task.id))
    assert [line.text for line in log] == ["a\n"]
    wrong = await execute(adapter, "x = =")
    assert (wrong.status, wrong.error) == ("error", "SyntaxError: Expected an expression (line 1)")


async def test_ids_of_ones_own_find_their_run(adapter: StorageAdapter) -> None:
    own = ["order 7/ü", "0198c0de-0000-7000-8000-000000000001"]
    for flow_id in own:
        await execute(adapter, id=flow_id)
        with pytest.raises(RunExistsError, match="already: resume or delete it"):
            await execute(adapter, id=flow_id)
    for flow_id in own:
        await SequentialFlow.resume(flow_id, 1, storage=adapter)
        assert (await SequentialFlow.resume(flow_id, 2, storage=adapter)).result == [1, 2]
    assert await adapter.get_task_run(own[1]) is not None


async def test_a_request_is_answered_once(adapter: StorageAdapter) -> None:
    code = "import asyncio\na, b = await asyncio.gather(fetch('a'), fetch('b'))\na.json()"
    task = await execute(adapter, code)
    first = task.fetch_requests[0].id
    outcomes = await asyncio.gather(
        *(
            SequentialFlow.resume(task.id, number, request_id=first, storage=adapter)
            for number in range(6)
        ),
        return_exceptions=True,
    )
    went_on = [number for number, one in enumerate(outcomes) if isinstance(one, FlowTask)]
    assert len(went_on) == 1
    refused = [one for one in outcomes if not isinstance(one, FlowTask)]
    assert all(isinstance(one, RunBusyError | InvalidTransitionError) for one in refused), refused
    done = await SequentialFlow.resume(task.id, None, storage=adapter)
    assert done.result == went_on[0]


async def test_a_task_expires_and_its_run_says_so(
    adapter: StorageAdapter, clock: FakeClock
) -> None:
    task = await execute(adapter, ttl=50)
    clock.advance(50)
    assert await SequentialFlow.get_task(task.id, storage=adapter) is None
    with pytest.raises(InvalidTransitionError, match="has expired"):
        await SequentialFlow.resume(task.id, 1, storage=adapter)
    run = await adapter.get_task_run(run_id_of(task.id))
    assert run is not None
    assert (run.status, run.error and run.error.code) == ("failed", "expired")


async def test_a_task_can_be_deleted_at_any_time(adapter: StorageAdapter) -> None:
    task = await execute(adapter)
    assert await SequentialFlow.delete_task(task.id, storage=adapter) is True
    assert await SequentialFlow.delete_task(task.id, storage=adapter) is False
    assert await adapter.get_task_run(run_id_of(task.id)) is None
    with pytest.raises(RunNotFoundError):
        await SequentialFlow.resume(task.id, 1, storage=adapter)
    done = await execute(adapter, "1")
    assert await SequentialFlow.delete_task(done.id, storage=adapter) is True


async def test_snapshots_may_be_lost(adapter: StorageAdapter) -> None:
    """The journal is the truth: nothing is lost but time."""
    code = "seen = []\nfor i in range(4):\n    seen.append((await fetch(str(i))).json())\nseen"
    task = await execute(adapter, code)
    for number in range(4):
        run_id = run_id_of(task.id)
        await adapter.store_snapshot(Snapshot(run_id, number + 1, b"not a snapshot"))
        task = await SequentialFlow.resume(task.id, number, storage=adapter)
    assert task.result == [0, 1, 2, 3]


async def test_the_snapshot_of_another_task_is_not_used(adapter: StorageAdapter) -> None:
    mine = await execute(adapter, "secret = 'mine'\nr = await fetch('u')\nsecret")
    other = await execute(adapter, "secret = 'other'\nr = await fetch('u')\nsecret")
    theirs = await adapter.get_snapshot(run_id_of(other.id))
    assert theirs is not None
    await adapter.store_snapshot(Snapshot(run_id_of(mine.id), 1, theirs.data))
    assert (await SequentialFlow.resume(mine.id, 1, storage=adapter)).result == "mine"


async def test_a_ttl_may_be_longer_than_the_calendar(adapter: StorageAdapter) -> None:
    spec = {"id": "f", "code": "(await fetch('u')).json()"}
    task = await SequentialFlow.execute(spec, storage=adapter, ttl=1e300)
    assert task.expires_at == "9999-12-31T23:59:59.999Z"
    assert (await SequentialFlow.resume("f", 3, storage=adapter)).result == 3


# --- what others make of such runs ---------------------------------------------------------------


def engine(storage: StorageAdapter, clock: FakeClock, http: FakeService) -> Engine:
    settings = Settings(project=Path())
    return Engine(storage, Services([http]), settings, secret=b"k" * 32, clock=clock)


async def drive_all(worker: Engine) -> list[Status]:
    """What a worker does with all that is due: the statuses it leaves."""
    return [(await worker.drive_claimed(run)).status for run in await worker.claim_due(10, None)]


async def test_a_worker_leaves_a_flow_alone_until_it_has_expired(
    memory: StorageAdapter, clock: FakeClock
) -> None:
    http = FakeService("http", {"fetch": lambda **_: {"status": 200}})
    worker = engine(memory, clock, http)
    task = await execute(memory, ttl=60)
    assert await drive_all(worker) == []

    clock.advance(60)
    assert await drive_all(worker) == [Status.FAILED]
    run = await memory.get_task_run(run_id_of(task.id))
    assert run is not None
    assert run.error is not None
    assert (
        run.error.message == "the run took longer than its timeout of 60 s, while waiting at line 1"
    )
    assert http.performed == []
    await worker.close()


@pytest.mark.parametrize("turn", [0, 1])
async def test_a_worker_puts_back_a_flow_whose_step_has_died(
    memory: StorageAdapter, clock: FakeClock, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker claims what runs without a lease; it makes no request and hands out no time."""
    http = FakeService("http", {"fetch": lambda **_: {"status": 200}})
    worker = engine(memory, clock, http)
    code = "import asyncio\na = await asyncio.gather(fetch('u'), asyncio.sleep(9))\na[0].json()"

    async def dying(*_: Any) -> None:
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(memory, "release", dying)
        if turn == 0:
            patch.setattr(memory, "commit", dying)
            with pytest.raises(SystemError):
                await execute(memory, code, id="x")
        else:
            await execute(memory, code, id="x")
            patch.setattr(memory, "commit", dying)
            with pytest.raises(SystemError):
                await SequentialFlow.resume("x", 1, storage=memory)
    run = await memory.get_task_run(run_id_of("x"))
    assert run is not None
    assert (run.status, run.turn) == ("running", turn)
    with pytest.raises(RunBusyError):
        await memory.claim(run.id, "t", times.to_text(clock.now()), run.lease_until or "")

    clock.advance(30)
    if turn == 0:
        # The caller never heard of it, so it asks again, and goes on with what there is.
        assert (await execute(memory, code, id="x")).status == "paused"
    assert await drive_all(worker) == ([] if turn == 0 else [Status.SUSPENDED])
    assert http.performed == []
    task = await SequentialFlow.resume("x", 2, storage=memory)
    assert task.status == "completed"
    assert task.result == 2
    await worker.close()


async def test_a_worker_that_gets_a_flow_before_its_first_step_can_reach_nothing(
    memory: StorageAdapter, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between the claim and the first commit, and nobody asked again."""

    async def dying(*_: Any) -> None:
        raise SystemError("killed")

    with serve() as api:
        with monkeypatch.context() as patch:
            patch.setattr(memory, "release", dying)
            patch.setattr(memory, "commit", dying)
            with pytest.raises(SystemError):
                await execute(memory, f"await fetch('{api.url}/json/1')", id="x")
        clock.advance(30)
        services = standard_services(HttpSettings(allow_loopback=True))
        worker = Engine(memory, services, Settings(project=Path()), secret=b"k" * 32, clock=clock)
        assert await drive_all(worker) == [Status.FAILED]
        assert api.requests == []
        await worker.close()
    task = await SequentialFlow.get_task("x", storage=memory)
    assert task is not None
    assert (task.error or "").startswith("PermissionError")


async def test_a_run_of_an_engine_is_no_flow(memory: StorageAdapter, clock: FakeClock) -> None:
    http = FakeService("http", {"fetch": lambda **_: {"status": 200}})
    driven = engine(memory, clock, http)
    await driven.store_task("job", "async def job(): await fetch('u')", TaskConfig(name="job"))
    run = await driven.create_run("job")
    with pytest.raises(RunNotFoundError):
        await SequentialFlow.resume(run.id, 1, storage=memory)
    assert await SequentialFlow.get_task(run.id, storage=memory) is None
    assert await SequentialFlow.delete_task(run.id, storage=memory) is False
    with pytest.raises(RunExistsError):
        await execute(memory, run.code, id=run.id)
    await driven.close()


async def test_a_flow_does_not_replace_a_task_of_its_name(
    memory: StorageAdapter, clock: FakeClock
) -> None:
    driven = engine(memory, clock, FakeService("http", {}))
    await driven.store_task("job", "async def job(): return 1", TaskConfig(name="job"))
    await execute(memory, name="job")
    assert (await driven.run("job")).value == 1
    await driven.close()


async def test_an_operator_can_pause_and_cancel_a_flow(
    memory: StorageAdapter, clock: FakeClock
) -> None:
    driven = engine(memory, clock, FakeService("http", {}))
    task = await execute(memory)
    run_id = run_id_of(task.id)
    await driven.pause(run_id)
    with pytest.raises(InvalidTransitionError, match="paused"):
        await SequentialFlow.resume(task.id, 1, storage=memory)
    await driven.unpause(run_id)
    assert (await SequentialFlow.resume(task.id, 1, storage=memory)).status == "paused"
    await driven.cancel(run_id)
    found = await SequentialFlow.get_task(task.id, storage=memory)
    assert found is not None
    assert (found.status, found.error) == ("error", "the task was cancelled")
    await driven.close()


async def test_a_worker_that_runs_all_the_time_takes_no_step(
    memory: StorageAdapter, clock: FakeClock
) -> None:
    http = FakeService("http", {"fetch": lambda **_: {"status": 200}})
    driven = engine(memory, clock, http)
    working = asyncio.create_task(Worker(driven).run())
    code = "for i in range(30):\n    await fetch(str(i))\n'done'"
    task = await execute(memory, code)
    while task.status == "paused":
        task = await SequentialFlow.resume(task.id, 0, storage=memory)
    assert task.result == "done"
    assert http.performed == []
    driven.stop()
    await working
    await driven.close()


def test_the_command_line_shows_flows(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'x.db'}"

    async def flows() -> list[FlowTask]:
        adapter = await create_adapter(url)
        tasks = [await execute(adapter, name="my-flow") for _ in range(2)]
        for number in range(2):
            tasks[0] = await SequentialFlow.resume(tasks[0].id, number, storage=adapter)
        await adapter.close()
        return tasks

    done, paused = asyncio.run(flows())
    history = command(tmp_path, url, "history", "my-flow")
    assert "completed" in history
    assert "suspended" in history
    shown = command(tmp_path, url, "show", "my-flow", run_id_of(paused.id))
    assert "u1" in shown
    assert "9999" not in shown
    command(tmp_path, url, "prune", "--older-than", "0s", "--yes")
    assert run_id_of(done.id)[:13] not in command(tmp_path, url, "history", "my-flow")


def command(folder: Path, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [SCRIPT, "--storage", url, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
