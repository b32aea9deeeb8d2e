"""Moving from an engine in one's own process to a server is one line: the same program, four times.

`story` is written once, for `Engine`. It is told again to `SyncEngine`, to `Client` and to
`SyncClient` on a real server.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sequential import (
    Engine,
    InputField,
    LocalService,
    Status,
    SyncEngine,
    SyncRun,
    TaskConfig,
)
from sequential.client import Client, SyncClient
from sequential.client.keys import RemoteKeystore
from sequential.client.schedules import RemoteSchedules
from sequential.client.sync_client import SyncRemoteKeystore, SyncRemoteSchedules
from sequential.client.sync_client import SyncRun as SyncClientRun
from sequential.core.schedule import Schedule
from sequential.errors import (
    ConfigError,
    InvalidInputError,
    InvalidNameError,
    InvalidTransitionError,
    RunExistsError,
    RunNotCompletedError,
    RunNotFoundError,
    ScheduleNotFoundError,
    SecretNotFoundError,
    TaskNotFoundError,
    ValueNotSupportedError,
)
from sequential.runner.keystore import Keystore
from sequential.runner.schedules import Schedules
from sequential.runner.sync_engine import SyncKeystore, SyncSchedules
from support.server_thread import QUICK, ServerThread

ADD = "async def add(a, b):\n    print('adding')\n    return await services.tool.echo(x=a + b)\n"
ASK = "async def ask():\n    return [await wait_for_event('colour')]\n"
BAD = "async def bad():\n    raise ValueError('no')\n"
LARGE = "async def large():\n    return len(await services.tool.echo(x='x' * 5000))\n"
PARENT = "async def parent():\n    return await run_task('add', {'a': 1, 'b': 1})\n"
GRAPH = """{"id": "door", "initial": "closed", "states": {
    "closed": {"on": {"OPEN": "open"}}, "open": {"type": "final"}}}"""
SUM = {"a": 1, "b": 2}
NOBODY = "019cab0e-97eb-7000-8000-000000000001"


PARTS = (SyncKeystore, SyncRemoteKeystore, SyncSchedules, SyncRemoteSchedules)


class Awaited:
    """Something synchronous as if it were not: what it does is done in a thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if isinstance(found, PARTS):
            return Awaited(found)
        if not inspect.ismethod(found):
            return found

        async def work(*args: Any, **kwargs: Any) -> Any:
            done = await asyncio.to_thread(found, *args, **kwargs)
            return Awaited(done) if isinstance(done, SyncRun | SyncClientRun) else done

        return work


@contextlib.asynccontextmanager
async def engine(_: ServerThread) -> AsyncIterator[Any]:
    async with Engine("memory:", [tool()]) as made:
        yield made


@contextlib.asynccontextmanager
async def sync_engine(_: ServerThread) -> AsyncIterator[Any]:
    with SyncEngine("memory:", [tool()]) as made:
        yield Awaited(made)


@contextlib.asynccontextmanager
async def client(server: ServerThread) -> AsyncIterator[Any]:
    async with Client(server.url, retry=QUICK) as made:
        yield made
        await empty(made)


@contextlib.asynccontextmanager
async def sync_client(server: ServerThread) -> AsyncIterator[Any]:
    with SyncClient(server.url, retry=QUICK) as made:
        yield Awaited(made)
        await empty(Awaited(made))


async def empty(house: Any) -> None:
    for run in await house.list_runs(unfinished=True):
        await house.cancel(run.id)
    for task in await house.list_tasks():
        await house.delete_task(task.identifier)


def tool() -> LocalService:
    made = LocalService("tool")
    made.method("echo")(lambda x=None: x)
    return made


@pytest.fixture(params=[engine, sync_engine, client, sync_client], ids=lambda one: one.__name__)
async def house(
    request: pytest.FixtureRequest,
    server: ServerThread,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Any]:
    monkeypatch.chdir(tmp_path)
    async with request.param(server) as made:
        inputs = (InputField("a", "any"), InputField("b", "any"))
        await made.store_task("add", ADD, TaskConfig("add", inputs=inputs))
        await made.store_task("ask", ASK, TaskConfig("ask"))
        yield made


async def test_a_run_from_beginning_to_end(house: Any) -> None:
    run = await house.start("add", {"a": 1, "b": 2})
    assert (run.task, run.record.parent_run_id) == ("add", None)
    with pytest.raises(RunNotCompletedError):
        _ = (await house.start("ask")).result
    assert (await run.wait()).result == 3
    assert (run.status, run.error) == (Status.COMPLETED, None)

    again = await house.get(run.id)
    assert again.result == 3
    assert (await house.get_run(run.id)).input == {"a": 1, "b": 2}
    (call,) = await house.list_calls(run.id)
    assert (call.operation, call.input, call.result) == ("tool.echo", {"x": 3}, 3)
    assert [line.text for line in await house.get_log(run.id)] == ["adding\n"]


async def test_values_that_json_has_not(house: Any) -> None:
    sent = {"a": Decimal("1.10"), "b": Decimal("2.20")}
    done = await house.run("add", sent)
    assert done.value == Decimal("3.30")
    when = (datetime(2026, 1, 1, tzinfo=UTC), b"\x00", {"$set": [1]})
    run = await house.start("ask")
    await run.answer("colour", when)
    assert (await run.wait()).result == [when]
    with pytest.raises(ValueNotSupportedError, match="the data is a"):
        await (await house.start("ask")).answer("colour", object())
    with pytest.raises(ValueNotSupportedError, match=r"the input\.a is an"):
        await house.start("add", {"a": object(), "b": 1})


async def test_a_run_is_started_once(house: Any) -> None:
    first = await house.start("add", {"a": 1, "b": 2}, id="Bestellung Ü-42/1")
    second = await house.start("add", {"a": 1, "b": 2}, id="Bestellung Ü-42/1")
    assert first.id == second.id
    assert (await house.get("Bestellung Ü-42/1")).id == first.id
    with pytest.raises(RunExistsError, match="with another task or another input"):
        await house.start("add", {"a": 1, "b": 3}, id="Bestellung Ü-42/1")

    own = await house.create_run("ask", id=NOBODY, priority=3)
    assert (own.id, own.priority) == (NOBODY, 3)
    with pytest.raises(RunExistsError, match=NOBODY):
        await house.create_run("ask", id=NOBODY)


async def test_answers_that_count_once(house: Any) -> None:
    run = await house.start("ask")
    await run.answer("colour", "red", id="one")
    await house.answer(run.id, "colour", "green", id="one")
    assert (await house.wait(run.id)).value == ["red"]
    with pytest.raises(InvalidTransitionError):
        await run.answer("colour", "blue")


async def test_waiting_has_an_end(house: Any) -> None:
    run = await house.start("ask")
    assert not (await run.wait(timeout=0.05)).status.is_final
    assert not (await house.wait(run.id, timeout=0)).status.is_final


async def test_operators_wishes(house: Any) -> None:
    run = await house.start("ask")
    assert (await run.pause()).status is Status.PAUSED
    with pytest.raises(InvalidTransitionError, match="paused"):
        await house.delete_run(run.id)
    assert (await house.resume(run.id)).status is Status.PAUSED
    await run.unpause()
    await run.cancel()
    assert (await run.wait()).status is Status.CANCELLED
    await run.retry()
    await run.answer("colour", "red")
    assert (await run.wait()).result == ["red"]
    with pytest.raises(InvalidTransitionError):
        await run.cancel()
    await house.delete_run(run.id)
    with pytest.raises(RunNotFoundError, match=run.id):
        await run.refresh()


async def test_a_task_that_fails_is_no_exception(house: Any) -> None:
    await house.store_task("bad", BAD, TaskConfig("bad"))
    run = await (await house.start("bad")).wait()
    assert run.status is Status.FAILED
    assert (run.error.type, run.error.message) == ("ValueError", "no")
    assert run.error.traceback[-1].line == 2
    with pytest.raises(RunNotCompletedError, match="ValueError: no"):
        _ = run.result


async def later(starting: Awaitable[Any]) -> str:
    """The id of a run; the next one is started in another millisecond."""
    run_id: str = (await starting).id
    begun = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == begun:
        await asyncio.sleep(0.0005)
    return run_id


async def test_runs_are_listed_newest_first(house: Any) -> None:
    ids = [await later(house.start("add", {"a": i, "b": 1})) for i in range(5)]
    waiting = await later(house.start("ask"))
    for run_id in ids:
        await house.wait(run_id)
    assert [run.id for run in await house.list_runs()] == [waiting, *reversed(ids)]
    assert [run.id for run in await house.list_runs("add", limit=2)] == [ids[4], ids[3]]
    assert [run.id for run in await house.list_runs("add", before=ids[1])] == [ids[0]]
    assert [run.id for run in await house.list_runs(unfinished=True)] == [waiting]
    done = await house.list_runs(status=Status.COMPLETED, limit=3)
    assert [run.id for run in done] == ids[:1:-1]
    assert await house.list_runs(status=[Status.FAILED, Status.PAUSED]) == []
    with pytest.raises(TaskNotFoundError):
        await house.list_runs("unknown")


async def test_children_and_large_values(house: Any) -> None:
    await house.store_task("parent", PARENT, TaskConfig("parent"))
    await house.store_task("large", LARGE, TaskConfig("large"))
    parent = await house.run("parent")
    (child,) = await house.list_children(parent.id)
    assert (parent.value, child.parent_run_id, child.task_identifier) == (2, parent.id, "add")
    assert [run.id for run in await house.list_runs(parent=parent.id)] == [child.id]

    large = await house.run("large")
    assert large.value == 5000
    (call,) = await house.list_calls(large.id)
    assert call.result == "x" * 5000


async def test_graphs(house: Any) -> None:
    await house.store_task("door", "", TaskConfig("door", graph=GRAPH))
    run = await house.start("door")
    assert await house.accepted_events(run.id) == ["OPEN"]
    with pytest.raises(InvalidTransitionError, match="OPEN"):
        await run.send("CLOSE")
    await run.send("OPEN", {"by": "Ada"}, id="one")
    assert (await run.wait()).status is Status.COMPLETED
    assert "closed" in (await house.get_task("door")).config.graph


async def test_tasks(house: Any) -> None:
    assert [task.identifier for task in await house.list_tasks()] == ["add", "ask"]
    task = await house.get_task("add")
    assert (task.code, task.version) == (ADD, 1)
    assert [field.name for field in task.config.inputs] == ["a", "b"]
    assert (await house.store_task("add", ADD + "\n", TaskConfig("add"))).version == 2
    await (await house.start("ask")).cancel()
    assert await house.delete_task("ask") == 1
    with pytest.raises(TaskNotFoundError, match="did you mean add"):
        await house.get_task("ad")
    with pytest.raises(TaskNotFoundError):
        await house.delete_task("ask")


async def test_old_runs_are_removed(house: Any) -> None:
    run = await house.get(await later(house.run("add", {"a": 1, "b": 2})))
    assert await house.prune(3600) == []
    assert await house.prune(0, task="ask") == []
    assert await house.prune(0, statuses=[Status.FAILED]) == []
    assert await house.prune(0, dry_run=True) == [run.id]
    assert await house.prune(0) == [run.id]
    assert await house.list_runs() == []


async def test_secrets(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.keys.set("crm/token", "abc")
    await house.keys.set("other", "def")
    assert await house.keys.list() == ["crm/token", "other"]
    with pytest.raises(SecretNotFoundError, match="there is no secret another"):
        await house.keys.delete("other", "another")
    await house.keys.delete("crm/token", "other")
    assert await house.keys.list() == []
    with pytest.raises(InvalidNameError):
        await house.keys.set("not a name", "x")
    with pytest.raises(InvalidInputError, match="0 bytes"):
        await house.keys.set("empty", "")


async def test_schedules(house: Any) -> None:
    made = await house.schedules.set("add", Schedule("nightly", cron="0 3 * * *", input=SUM))
    assert (made.task, made.origin, made.schedule.input) == ("add", "api", SUM)
    assert made == await house.schedules.get("add", "nightly")
    assert [one.schedule.name for one in await house.schedules.list("add")] == ["nightly"]
    assert await house.schedules.list("ask") == []
    with pytest.raises(InvalidInputError, match="nightly"):
        await house.schedules.set("add", Schedule("nightly", cron="0 25 * * *", input=SUM))
    with pytest.raises(ScheduleNotFoundError, match="nightly"):
        await house.schedules.get("add", "nightl")
    with pytest.raises(TaskNotFoundError):
        await house.schedules.list("unknown")
    with pytest.raises(InvalidNameError):
        await house.schedules.delete("add", "../nightly")
    await house.schedules.delete("add", "nightly")
    with pytest.raises(ScheduleNotFoundError):
        await house.schedules.delete("add", "nightly")


MISTAKES: list[tuple[Callable[[Any], Awaitable[Any]], type[Exception]]] = [
    (lambda house: house.start("ad", {"a": 1}), TaskNotFoundError),
    (lambda house: house.start("add", {"a": 1}), InvalidInputError),
    (lambda house: house.start("add", {"a": 1, "b": 2, "c": 3}), InvalidInputError),
    (lambda house: house.start("../add"), InvalidNameError),
    (lambda house: house.get("unknown"), RunNotFoundError),
    (lambda house: house.get_run(NOBODY), RunNotFoundError),
    (lambda house: house.get_run("unknown"), InvalidNameError),
    (lambda house: house.answer("../../tasks", "colour", 1), InvalidNameError),
    (lambda house: house.wait(NOBODY), RunNotFoundError),
    (lambda house: house.send(NOBODY, "OPEN"), RunNotFoundError),
    (lambda house: house.delete_run(NOBODY), RunNotFoundError),
    (lambda house: house.store_task("x", ASK, TaskConfig("x", timeout=-1)), ConfigError),
    (lambda house: house.store_task("../x", ASK, TaskConfig("x")), InvalidNameError),
]


async def test_mistakes_are_the_same_exceptions(house: Any) -> None:
    for wrong, error in MISTAKES:
        with pytest.raises(error) as raised:
            await wrong(house)
        assert type(raised.value) is error
    assert await house.list_runs() == []


# What only the process that drives runs, or that has the store, can do.
NOT_FROM_AFAR = """
    adapters adopt backend check claim_due create_once drive drive_claimed end ended_runs find_run
    is_driven is_open is_stopped list_damaged listen next_due now observe pause_for release stop
    wake
""".split()


SCHEDULES_NOT_FROM_AFAR = {"adopt", "fire_due", "forget", "next_due", "note_stored", "upcoming"}
# What operators of the machine allow a run is not for clients to say.
ARGUMENTS_NOT_FROM_AFAR = {"create_run": {"within"}}


def methods(kind: type) -> set[str]:
    return {
        name
        for name, value in inspect.getmembers(kind)
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }


def test_what_a_client_has_not_is_this() -> None:
    here, there = methods(Engine), methods(Client)
    assert sorted(here - there - set(NOT_FROM_AFAR)) == [], "give it to Client, or list it above"
    assert there - here == {"follow"}
    assert methods(Keystore) - methods(RemoteKeystore) == {"get"}
    assert methods(RemoteKeystore) - methods(Keystore) == set()
    # `upcoming` is counted, the others are for workers.
    assert methods(Schedules) - methods(RemoteSchedules) <= SCHEDULES_NOT_FROM_AFAR
    assert methods(RemoteSchedules) - methods(Schedules) == set()


@pytest.mark.parametrize("name", sorted(methods(Engine) & methods(Client)))
def test_methods_take_and_give_the_same(name: str) -> None:
    here, there = (inspect.signature(getattr(kind, name)) for kind in (Engine, Client))
    left_out = ARGUMENTS_NOT_FROM_AFAR.get(name, set())
    kept = [one for one in here.parameters.values() if one.name not in left_out]
    assert here.return_annotation == there.return_annotation
    assert [str(one) for one in kept] == [str(one) for one in there.parameters.values()]
