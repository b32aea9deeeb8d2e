"""Connections that break at the worst moment, and servers that stop and come back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    RunEvent,
    Snapshot,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.errors import DocumentChangedError, LeaseLostError, RunExistsError, StorageError
from sequential.storage.base import StorageAdapter
from sequential.storage.postgres import PostgresAdapter, create
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run
from support.fault_proxy import FaultProxy
from support.postgres_server import PostgresServer, postgres_server


class Behind:
    """A store behind a proxy, and the same store without."""

    def __init__(
        self, proxy: FaultProxy, adapter: PostgresAdapter, direct: PostgresAdapter
    ) -> None:
        self.proxy = proxy
        self.adapter = adapter
        self.direct = direct
        self.loses = "lose_answers"

    def breaks(self) -> None:
        """The next request, or its answer, is lost with the connection."""
        setattr(self.proxy, self.loses, 1)


@pytest.fixture
async def behind(postgres: PostgresServer, postgres_url: str) -> AsyncIterator[Behind]:
    schema = postgres_url.rpartition("=")[2]
    async with FaultProxy(postgres.socket) as proxy:
        url = (
            f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable&schema={schema}"
        )
        adapter, direct = create(url, pool=1, listen=False), create(postgres_url)
        await direct.init()
        await adapter.init()
        yield Behind(proxy, adapter, direct)
        await adapter.close()
        await direct.close()


async def claimed(adapter: StorageAdapter, number: int = 0) -> TaskRun:
    run = await adapter.create_task_run(new_run(number))
    return await adapter.claim(run.id, "token", NOW, LATER)


async def create_run(b: Behind) -> Any:
    run = new_run(input="x" * 100_000)
    b.breaks()
    await b.adapter.create_task_run(run)
    assert await b.direct.get_task_run(run.id) == run
    with pytest.raises(RunExistsError):
        await b.adapter.create_task_run(run)


async def claim(b: Behind) -> Any:
    run = await b.direct.create_task_run(new_run())
    b.breaks()
    taken = await b.adapter.claim(run.id, "token", NOW, SOON)
    assert taken == await b.direct.get_task_run(run.id)
    assert taken.lease_token == "token"


async def claim_due(b: Behind) -> Any:
    for number in range(4):
        await b.direct.create_task_run(new_run(number))
    b.breaks()
    taken = await b.adapter.claim_due("token", LATER, "2027", 3)
    assert len(taken) == 3
    assert len(await b.direct.query_task_runs(status="running")) == 3


async def commit(b: Behind) -> Any:
    run = evolve(await claimed(b.adapter), turn=1)
    step = Commit(run, "token", (new_call(run, 0),), log="once\n")
    b.breaks()
    await b.adapter.commit(step)
    run = evolve(run, turn=2)
    await b.adapter.commit(Commit(run, "token", updated=(delivered(new_call(run, 0), 2),)))
    assert await b.direct.get_task_run(run.id) == run
    assert [line.text for line in await b.direct.get_log(run.id)] == ["once\n"]
    assert [call.delivered_turn for call in await b.direct.load_calls(run.id)] == [2]


async def commit_that_parks(b: Behind) -> Any:
    run = await claimed(b.adapter)
    parked = evolve(run, turn=1, status=Status.SUSPENDED, lease_token=None, lease_until=None)
    b.breaks()
    await b.adapter.commit(Commit(parked, "token", log="once\n"))
    assert await b.direct.get_task_run(run.id) == parked
    assert len(await b.direct.get_log(run.id)) == 1
    with pytest.raises(LeaseLostError):
        await b.adapter.commit(Commit(parked, "token", log="twice\n"))


async def amend(b: Behind) -> Any:
    run = await b.direct.create_task_run(new_run())
    new = evolve(run, events=(RunEvent("e", "approved", NOW),), answers=1)
    b.breaks()
    assert await b.adapter.amend(run, Amendment(new)) == new
    assert await b.direct.get_task_run(run.id) == new


async def update(b: Behind) -> Any:
    run = await b.direct.create_task_run(new_run())
    b.breaks()
    assert (await b.adapter.update_task_run(run.id, priority=3)).priority == 3


async def log(b: Behind) -> Any:
    run = await b.direct.create_task_run(new_run())
    b.breaks()
    await b.adapter.append_log(run.id, LogLine(NOW, "once"))
    assert await b.direct.get_log(run.id) == [LogLine(NOW, "once")]


async def snapshot(b: Behind) -> Any:
    run = await b.direct.create_task_run(new_run())
    b.breaks()
    await b.adapter.store_snapshot(Snapshot(run.id, 1, b"state"))
    assert await b.direct.get_snapshot(run.id) == Snapshot(run.id, 1, b"state")


async def store_task(b: Behind) -> Any:
    function = TaskFunction("my-task", "1", TaskConfig("my-task"), 1, NOW, NOW)
    await b.adapter.store_task_function(function)
    b.breaks()
    assert (await b.adapter.store_task_function(evolve(function, code="2"))).version == 2


async def delete_task(b: Behind) -> Any:
    await b.direct.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    await b.direct.create_task_run(new_run())
    b.breaks()
    assert await b.adapter.delete_task("my-task") == 1


async def delete_run(b: Behind) -> Any:
    run = await b.direct.create_task_run(new_run())
    b.breaks()
    await b.adapter.delete_task_run(run.id)
    assert await b.direct.get_task_run(run.id) is None


async def delete_key(b: Behind) -> Any:
    await b.direct.set_keystore("key", "value")
    b.breaks()
    assert await b.adapter.delete_keystore("key") is True
    assert await b.adapter.delete_keystore("key") is False


async def put_document(b: Behind) -> Any:
    b.breaks()
    assert (await b.adapter.put_document("tokens", "a", 1, if_version=0)).version == 1
    b.breaks()
    assert (await b.adapter.put_document("tokens", "a", 2)).version == 2
    b.breaks()
    assert (await b.adapter.put_document("tokens", "a", 3, if_version=2)).version == 3
    b.breaks()
    with pytest.raises(DocumentChangedError, match="tokens/a has version 3 now"):
        await b.adapter.put_document("tokens", "a", 4, if_version=2)


async def remove_documents(b: Behind) -> Any:
    for key in ("a", "b", "c"):
        await b.direct.put_document("tokens", key, 1)
    b.breaks()
    assert await b.adapter.delete_document("tokens", "c") is True
    assert await b.adapter.delete_document("tokens", "c") is False
    b.breaks()
    assert await b.adapter.prune_documents("tokens", "z") == 2
    assert await b.direct.list_documents("tokens") == []


async def renew_and_release(b: Behind) -> Any:
    run = await claimed(b.adapter)
    b.breaks()
    assert await b.adapter.renew(run.id, "token", "2027") == 0
    b.breaks()
    await b.adapter.release(run.id, "token")
    assert (await b.direct.claim(run.id, "another", NOW, LATER)).lease_token == "another"


async def read(b: Behind) -> Any:
    run = await b.direct.create_task_run(new_run())
    await b.adapter.get_task_run("")
    b.breaks()
    assert await b.adapter.get_task_run(run.id) == run


OPERATIONS: list[Callable[[Behind], Awaitable[Any]]] = [
    *(create_run, claim, claim_due, commit, commit_that_parks, amend, update, log, snapshot),
    *(store_task, delete_task, delete_run, delete_key, renew_and_release, read),
    *(put_document, remove_documents),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
@pytest.mark.parametrize("lost", ["lose_answers", "lose_requests"])
async def test_what_a_lost_connection_carried_is_done_once(
    behind: Behind, operation: Callable[[Behind], Awaitable[Any]], lost: str
) -> None:
    behind.loses = lost
    await operation(behind)
    assert getattr(behind.proxy, lost) == 0


async def test_a_large_commit_that_is_cut_anywhere_is_written_once(behind: Behind) -> None:
    run = await claimed(behind.adapter)
    for turn in range(1, 9):
        run = evolve(run, turn=turn)
        call = new_call(run, turn, input={"text": "x" * 300_000})
        step = asyncio.ensure_future(
            behind.adapter.commit(Commit(run, "token", (call,), log=f"{turn}\n"))
        )
        await asyncio.sleep(0.0005 * turn)
        behind.proxy.cut()
        await step
    assert await behind.direct.get_task_run(run.id) == run
    assert [line.text for line in await behind.direct.get_log(run.id)] == [
        f"{turn}\n" for turn in range(1, 9)
    ]
    assert [call.sequence for call in await behind.direct.load_calls(run.id)] == [*range(1, 9)]


async def test_a_server_that_stays_away_is_told_in_one_line(behind: Behind) -> None:
    behind.adapter.patience = 0.2
    behind.proxy.is_refusing = True
    behind.proxy.cut()
    with pytest.raises(StorageError, match=r"^(cannot connect|the connection) to postgresql://.*$"):
        await behind.adapter.get_task_run("x")
    behind.proxy.is_refusing = False
    assert await behind.adapter.get_task_run("x") is None


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    postgres: PostgresServer, postgres_url: str
) -> None:
    schema = postgres_url.rpartition("=")[2]
    async with FaultProxy(postgres.socket) as proxy:
        url = (
            f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable&schema={schema}"
        )
        adapter = create(url, timeout=0.3, listen=False)
        adapter.address.options
        await adapter.init()
        proxy.is_silent = True
        with pytest.raises(StorageError, match=r"did not answer within 0.3 seconds"):
            await adapter.get_task_run("x")
        proxy.is_silent = False
        proxy.cut()
        assert await adapter.get_task_run("x") is None
        await adapter.close()


@pytest.fixture(scope="module")
def durable() -> Iterator[PostgresServer]:
    with postgres_server(durable=True) as server:
        yield server


async def test_commits_go_on_when_the_server_was_killed_and_comes_back(
    durable: PostgresServer,
) -> None:
    adapter = create(durable.url)
    await adapter.init()
    runs = [await claimed(adapter, number) for number in range(4)]
    acknowledged = dict.fromkeys((run.id for run in runs), 0)
    stop = asyncio.Event()

    async def drive(run: TaskRun) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            run = evolve(run, turn=turn)
            await adapter.commit(Commit(run, "token", (new_call(run, turn),), log=f"{turn} "))
            acknowledged[run.id] = turn

    driving = asyncio.gather(*(drive(run) for run in runs))
    for _ in range(2):
        before = sum(acknowledged.values())
        while sum(acknowledged.values()) < before + 40:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(durable.kill)
        durable.start()
    before = sum(acknowledged.values())
    while sum(acknowledged.values()) < before + 40:
        await asyncio.sleep(0.01)
    stop.set()
    await driving
    for run_id, turns in acknowledged.items():
        stored = await adapter.get_task_run(run_id)
        assert stored
        assert stored.turn == turns
        text = "".join(line.text for line in await adapter.get_log(run_id))
        assert text.split() == [str(turn) for turn in range(1, turns + 1)]
        assert len(await adapter.load_calls(run_id)) == turns
    await adapter.close()
