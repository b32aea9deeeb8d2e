"""Every kind of storage of `SequentialFlow`, opened by a text that processes can share."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sequential.flow import (
    CustomStorage,
    FirestoreStorage,
    FlowTask,
    InMemoryStorage,
    RedisStorage,
    SQLStorage,
)
from sequential.storage.registry import create_adapter

RECORDS = [
    *("memory", "files", "slow", "bucket", "redis", "redis-client", "sqlite", "sqlite-factory"),
    *("postgres", "query", "firestore"),
]
ADAPTERS = [
    f"adapter {name}"
    for name in (*("memory", "folder", "sqlite", "postgres", "redis", "firestore"),)
]


class TextFiles:
    """What somebody may write who has never seen this package: ordinary functions, JSON text."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def save(self, task: FlowTask) -> None:
        self.texts[task.id] = task.to_json()

    def load(self, task_id: str) -> str | None:
        return self.texts.get(task_id)

    def delete(self, task_id: str) -> bool:
        return self.texts.pop(task_id, None) is not None


class SlowFiles(TextFiles):
    """The same with coroutines that let others go first."""

    async def save(self, task: FlowTask) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().save(task)

    async def load(self, task_id: str) -> str | None:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().load(task_id)

    async def delete(self, task_id: str) -> bool:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().delete(task_id)


class Bucket(CustomStorage):
    """A storage of one's own, as the documentation shows it: a bucket of objects."""

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}

    async def save(self, task: FlowTask) -> None:
        self.objects[task.id] = task.to_json()

    async def load(self, task_id: str) -> FlowTask | None:
        text = self.objects.get(task_id)
        return None if text is None else FlowTask.from_json(text)

    async def delete(self, task_id: str) -> bool:
        return self.objects.pop(task_id, None) is not None


@contextlib.asynccontextmanager
async def opened(place: str) -> AsyncIterator[Any]:
    """The storage of a place such as `redis unix:///tmp/s` or `adapter sqlite:/tmp/x.db`."""
    kind, _, address = place.partition(" ")
    async with contextlib.AsyncExitStack() as stack:
        match kind:
            case "memory":
                yield InMemoryStorage()
            case "files":
                yield TextFiles()
            case "slow":
                yield SlowFiles()
            case "bucket":
                yield Bucket()
            case "adapter":
                url, _, host = address.partition(" ")
                with emulator(host):
                    adapter = await create_adapter(url)
                stack.push_async_callback(adapter.close)
                yield adapter
            case "redis":
                url, _, prefix = address.partition(" ")
                storage = RedisStorage(url, prefix)
                stack.push_async_callback(storage.close)
                yield storage
            case "redis-client":
                from redis.asyncio import Redis

                url, _, prefix = address.partition(" ")
                client = Redis.from_url(url, decode_responses=True)
                stack.push_async_callback(client.aclose)
                yield RedisStorage(client, prefix)
            case "sqlite":
                connection = sqlite3.connect(address)
                stack.callback(connection.close)
                yield SQLStorage(connection)
            case "sqlite-factory":
                factory = SQLStorage(lambda: sqlite3.connect(address))
                stack.push_async_callback(factory.close)
                yield factory
            case _:
                yield await stack.enter_async_context(_of_server(kind, address))


@contextlib.asynccontextmanager
async def _of_server(kind: str, address: str) -> AsyncIterator[Any]:
    if kind == "firestore":
        client = firestore_client(*address.split(" "))
        yield FirestoreStorage(client)
        client.close()
        return
    import psycopg

    connection = await psycopg.AsyncConnection.connect(address, autocommit=kind == "query")
    async with connection:
        if kind == "postgres":
            yield SQLStorage(connection)
        else:

            async def query(sql: str, parameters: tuple[Any, ...]) -> Any:
                async with psycopg.AsyncRawCursor(connection) as cursor:
                    await cursor.execute(sql.encode(), parameters)
                    return await cursor.fetchall() if cursor.description else None

            yield SQLStorage(query)


def firestore_client(project: str, host: str) -> Any:
    """A client of Google's library, which looks for the emulator in the environment."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import firestore

    with emulator(host):
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        return firestore.Client(project=project, credentials=anonymous)


@contextlib.contextmanager
def emulator(host: str) -> Iterator[None]:
    """The variable by which Google's library finds its emulator, if there is one."""
    before = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if host:
        os.environ["FIRESTORE_EMULATOR_HOST"] = host
    try:
        yield
    finally:
        os.environ.pop("FIRESTORE_EMULATOR_HOST", None)
        if before is not None:
            os.environ["FIRESTORE_EMULATOR_HOST"] = before
