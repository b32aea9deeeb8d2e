"""The storages of `SequentialFlow`, on real servers: what is kept comes back, one swap wins."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import evolve
from sequential.errors import (
    ConfigError,
    InvalidInputError,
    InvalidTransitionError,
    RunBusyError,
    StorageError,
)
from sequential.flow import (
    CustomStorage,
    FetchRequest,
    FirestoreStorage,
    FlowStatus,
    FlowTask,
    InMemoryStorage,
    RedisStorage,
    SequentialFlow,
    SQLStorage,
)
from sequential.flow.storages import GivenStorage
from support.firestore_server import FirestoreServer
from support.flow_places import RECORDS, TextFiles, firestore_client, opened
from support.flow_servers import flow_firestore, flow_postgres, place_of
from support.valkey_server import ValkeyServer, shared_valkey

__all__ = ["flow_firestore", "flow_postgres", "place_of", "shared_valkey"]

NOW, LATER = "2026-11-21T10:00:00.000Z", "2099-01-01T00:00:00.000Z"


@pytest.fixture(params=RECORDS)
async def storage(request: pytest.FixtureRequest, place_of: Any) -> AsyncIterator[Any]:
    """A storage of each kind, with the methods of `CustomStorage`."""
    async with opened(place_of(request.param)) as opened_storage:
        is_one = isinstance(opened_storage, CustomStorage)
        yield opened_storage if is_one else GivenStorage(opened_storage)


def task(id: str = "one", **changes: Any) -> FlowTask:
    request = FetchRequest(f"{id}:0", "https://x.test/ü", {"method": "POST", "data": b"\x00\xff"})
    full = FlowTask(
        id=id,
        name="näme",
        code="result = await fetch('u')",
        status=FlowStatus.PAUSED,
        fetch_requests=(request,),
        created_at=NOW,
        updated_at=NOW,
        expires_at=LATER,
        revision=1,
        vm_state="c3RhdGU=",
    )
    return evolve(full, **changes)


async def test_what_is_saved_is_loaded_again(storage: CustomStorage) -> None:
    await storage.save(task())
    assert await storage.load("one") == task()

    await storage.save(task(revision=2, vm_state="x" * 300_000))
    loaded = await storage.load("one")
    assert loaded is not None
    assert (loaded.revision, len(loaded.vm_state or "")) == (2, 300_000)


async def test_what_is_not_there_is_none(storage: CustomStorage) -> None:
    assert await storage.load("nobody") is None
    assert await storage.delete("nobody") is False


async def test_what_is_deleted_is_gone(storage: CustomStorage) -> None:
    await storage.save(task())
    await storage.save(task("two"))

    assert await storage.delete("one") is True
    assert await storage.load("one") is None
    assert await storage.load("two") == task("two")


@pytest.mark.parametrize(
    "id", ["../../etc/passwd", "a:b", "*", "A", "a' OR '1'='1", "é🎉", "__x__", ".", "%s ? $1", '"']
)
async def test_ids_are_names_and_nothing_else(storage: CustomStorage, id: str) -> None:
    await storage.save(task("a"))
    await storage.save(task(id))
    assert await storage.load(id) == task(id)
    assert await storage.swap(id, 1, task(id, revision=2)) is True
    assert await storage.delete(id) is True
    assert await storage.load("a") == task("a")


async def test_a_swap_counts_only_for_the_revision_that_is_stored(storage: CustomStorage) -> None:
    assert await storage.swap("one", 1, task()) is False
    assert await storage.load("one") is None
    assert await storage.swap("one", None, task()) is True
    assert await storage.swap("one", None, task(revision=7)) is False
    assert await storage.swap("one", 2, task(revision=7)) is False
    assert await storage.load("one") == task()
    assert await storage.swap("one", 1, task(revision=2)) is True
    assert await storage.swap("one", 1, None) is False
    assert await storage.swap("one", 2, None) is True
    assert await storage.load("one") is None
    assert await storage.swap("one", None, None) is True


async def test_of_many_swaps_at_once_one_wins(storage: CustomStorage) -> None:
    created = await asyncio.gather(
        *(storage.swap("one", None, task(name=f"n{number}")) for number in range(8))
    )
    assert sorted(created) == [False] * 7 + [True]

    changed = await asyncio.gather(
        *(storage.swap("one", 1, task(revision=2, name=f"m{number}")) for number in range(8))
    )
    assert sorted(changed) == [False] * 7 + [True]
    stored = await storage.load("one")
    assert stored is not None
    assert stored.name == f"m{changed.index(True)}"

    removed = await asyncio.gather(*(storage.swap("one", 2, None) for _ in range(8)))
    assert sorted(removed) == [False] * 7 + [True]


async def test_a_flow_goes_through_every_storage(storage: Any) -> None:
    code = "a = await fetch('u1')\nb = await fetch('u2')\nresult = [a.json(), b.json()]"
    first = await SequentialFlow.execute({"id": "f/1", "code": code}, storage=storage)
    assert (first.status, first.vm_state) == ("paused", None)
    assert await SequentialFlow.get_task("f/1", storage=storage) == evolve(first, log="")
    second = await SequentialFlow.resume("f/1", 0, storage=storage)
    assert second.fetch_request is not None
    assert (second.fetch_request.url, second.created_at) == ("u2", first.created_at)
    last = await SequentialFlow.resume("f/1", {"x": []}, storage=storage)
    assert (last.status, last.result) == ("completed", [0, {"x": []}])
    assert await SequentialFlow.get_task("f/1", storage=storage) is None


async def test_of_many_resumes_at_once_one_counts(storage: Any) -> None:
    given = getattr(storage, "_given", storage)  # as its owner passes it
    code = "r = await fetch('u')\nawait fetch('v')\nr.json()"
    first = await SequentialFlow.execute({"id": "f", "code": code}, storage=given)
    assert first.fetch_request is not None
    outcomes = await asyncio.gather(
        *(
            SequentialFlow.resume("f", number, request_id=first.fetch_request.id, storage=given)
            for number in range(6)
        ),
        return_exceptions=True,
    )
    went_on = [number for number, one in enumerate(outcomes) if isinstance(one, FlowTask)]
    assert len(went_on) == 1
    refused = [one for one in outcomes if not isinstance(one, FlowTask)]
    assert all(isinstance(one, RunBusyError | InvalidTransitionError) for one in refused), refused
    assert (await SequentialFlow.resume("f", 0, storage=given)).result == went_on[0]


async def test_a_ttl_may_be_longer_than_the_calendar(storage: Any) -> None:
    spec = {"id": "f", "code": "(await fetch('u')).json()"}
    task = await SequentialFlow.execute(spec, storage=storage, ttl=1e300)
    assert task.expires_at == "9999-12-31T23:59:59.999Z"
    assert (await SequentialFlow.resume("f", 3, storage=storage)).result == 3


# --- what is special about some ------------------------------------------------------------------


async def test_redis_removes_a_task_when_it_expires(shared_valkey: ValkeyServer) -> None:
    from redis.asyncio import Redis

    url = f"unix://{shared_valkey.socket}?db=15"
    async with Redis.from_url(url) as client:
        storage = RedisStorage(client, prefix="mine:")
        await storage.save(task(expires_at=LATER))
        assert await client.pexpiretime("mine:one") == 4070908800000
        await storage.swap("one", 1, task(revision=2, expires_at=NOW))
        assert await storage.load("one") is None
        assert await client.exists("mine:one") == 0


async def test_redis_keeps_under_the_prefix_of_the_original(shared_valkey: ValkeyServer) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(f"unix://{shared_valkey.socket}?db=14") as client:
        await RedisStorage(client).save(task("task-1-ab"))
        assert await client.keys("*") == [b"seq-flow:task-1-ab"]
        await client.flushdb()


async def test_sql_removes_what_has_expired_when_it_is_asked_to() -> None:
    connection = sqlite3.connect(":memory:")
    storage = SQLStorage(connection)
    for number, moment in enumerate(
        ["2026-01-01T00:00:00.000Z", "2026-06-01T00:00:00.000Z", LATER]
    ):
        await storage.save(task(str(number), expires_at=moment))

    assert await storage.delete_expired(NOW) == 2
    assert await storage.delete_expired() == 0
    assert await storage.load("2") is not None
    assert connection.execute("SELECT id FROM sequential_flow_tasks").fetchall() == [("2",)]
    connection.close()


async def test_sql_has_the_columns_of_the_original() -> None:
    connection = sqlite3.connect(":memory:")
    await SQLStorage(connection).save(task())
    rows = connection.execute("SELECT id, created_at, expires_at FROM sequential_flow_tasks")
    assert rows.fetchall() == [("one", NOW, LATER)]
    connection.close()


async def test_sql_takes_numbered_parameters_and_rows_that_are_mappings() -> None:
    connection = sqlite3.connect(":memory:")

    def query(sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        named = {str(number): value for number, value in enumerate(parameters, 1)}
        cursor = connection.execute(sql, named)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    storage = SQLStorage(query, style=":1")
    assert await storage.swap("one", None, task()) is True
    assert await storage.load("one") == task()
    connection.close()


async def test_sql_tables_are_made_by_many_at_once(place_of: Any) -> None:
    for _ in range(5):
        place = place_of("postgres")
        async with contextlib.AsyncExitStack() as stack:
            storages = [await stack.enter_async_context(opened(place)) for _ in range(6)]
            made = await asyncio.gather(*(one.swap("one", None, task()) for one in storages))
            assert sorted(made) == [False] * 5 + [True]


async def test_sql_goes_on_after_a_statement_that_failed(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db", timeout=0)
    storage = SQLStorage(connection)
    await storage.save(task())
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match=r"cannot save task new: OperationalError: .* locked"):
        await SequentialFlow.execute({"id": "new", "code": "await fetch('u')"}, storage=storage)
    other.execute("ROLLBACK")
    assert await storage.swap("one", 1, None) is True
    other.close()
    connection.close()


@pytest.mark.parametrize("wrong", [3, None, "sqlite:x.db"])
def test_sql_says_what_it_takes(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"query\(sql, parameters\)"):
        SQLStorage(wrong)


def test_redis_says_what_is_no_address() -> None:
    with pytest.raises(ConfigError, match="no URL of Redis"):
        RedisStorage("localhost:6379")


async def test_firestore_refuses_what_does_not_fit_into_a_document(
    flow_firestore: FirestoreServer,
) -> None:
    client = firestore_client("demo", flow_firestore.address)
    storage = FirestoreStorage(client)
    with pytest.raises(StorageError, match="a document of Firestore holds 1000000"):
        await storage.save(task(vm_state="x" * 1_000_001))
    assert await storage.load("one") is None
    client.close()


async def test_memory_forgets_what_has_expired() -> None:
    storage = InMemoryStorage()
    await storage.save(task("old", expires_at=NOW))
    await storage.save(task("new"))
    assert await storage.delete_expired(NOW) == 1
    assert await storage.delete_expired() == 0
    assert await storage.load("new") == task("new")


def test_an_object_that_lacks_a_method_is_no_storage() -> None:
    class Half:
        def save(self, task: Any) -> None: ...

    with pytest.raises(ConfigError, match="Half cannot store tasks: it lacks load, delete"):
        SequentialFlow.set_default_storage(Half())


async def test_a_storage_that_fails_is_an_error_of_storage() -> None:
    class Broken(TextFiles):
        def load(self, task_id: str) -> str | None:
            raise OSError("no route to host")

    with pytest.raises(StorageError, match="cannot load task x: OSError: no route to host"):
        await SequentialFlow.resume("x", 1, storage=Broken())


async def test_a_record_that_is_damaged_is_named() -> None:
    files = TextFiles()
    paused = await SequentialFlow.execute({"id": "x", "code": "await fetch('u')"}, storage=files)
    stored = FlowTask.from_json(files.texts["x"])
    files.texts["x"] = evolve(stored, vm_state="AAAA").to_json()
    with pytest.raises(StorageError, match="the stored state of task x is damaged"):
        await SequentialFlow.resume(paused.id, 1, storage=files)
    files.texts["x"] = "{"
    with pytest.raises(InvalidInputError, match="not the JSON of a task"):
        await SequentialFlow.resume(paused.id, 1, storage=files)
