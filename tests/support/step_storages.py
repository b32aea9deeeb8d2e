"""Every storage of flows, on real servers, each opened as often as a test likes.

opened = open_storages(folder, servers)
storage = await opened("sqlite")          # two of one name share what is stored
"""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sequential.flow.executor_databases import (
    FirestoreStepStorage,
    RedisStepStorage,
    SQLStepStorage,
)
from sequential.flow.executor_storage import State, StepStorage
from sequential.flow.executor_storages import (
    AdapterStepStorage,
    FolderStepStorage,
    MemoryStepStorage,
)
from sequential.storage.registry import create_adapter

NAMES = [
    *("memory", "folder", "sqlite", "sqlite-query", "postgres", "postgres-async", "redis"),
    *("firestore", "custom", "adapter-memory", "adapter-folder", "adapter-sqlite"),
    *("adapter-postgres", "adapter-redis", "adapter-firestore"),
]
SHARED = [name for name in NAMES if "memory" not in name and name != "custom"]  # by processes


class CustomStorage(StepStorage):
    """The least that one has to write: the five methods."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.results: dict[tuple[str, int], Any] = {}

    async def get(self, id: str) -> State | None:
        return self.states.get(id)

    async def set(self, id: str, state: State) -> None:
        self.states[id] = state

    async def delete(self, id: str) -> None:
        for key in [key for key in self.results if key[0] == id]:
            del self.results[key]
        self.states.pop(id, None)

    async def get_result(self, id: str, step: int) -> Any:
        return self.results.get((id, step))

    async def set_result(self, id: str, step: int, data: Any) -> None:
        self.results[id, step] = data


class StorageOpener:
    """Opens storages by name; `close` ends what they were opened with."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self._folder = folder
        self._request = request
        self._mark = f"t{secrets.token_hex(6)}"
        self._kept: dict[str, StepStorage] = {}
        self._open = contextlib.AsyncExitStack()

    async def __call__(self, name: str) -> StepStorage:
        if name in ("memory", "custom", "adapter-memory") and name in self._kept:
            return self._kept[name]
        kind, _, adapter = name.partition("-")
        if kind == "adapter":
            storage: StepStorage = AdapterStepStorage(await self._adapter(adapter))
        else:
            made: dict[str, Callable[[], Any]] = {
                "memory": self._memory,
                "custom": self._custom,
                "folder": self._in_folder,
                "sqlite": self._sqlite,
                "sqlite-query": self._sqlite_query,
                "postgres": self._postgres,
                "postgres-async": self._postgres_async,
                "redis": self._redis,
                "firestore": self._firestore,
            }
            storage = await made[name]()
        self._kept[name] = storage
        return storage

    async def close(self) -> None:
        await self._open.aclose()

    async def _memory(self) -> StepStorage:
        return MemoryStepStorage()

    async def _custom(self) -> StepStorage:
        return CustomStorage()

    async def _in_folder(self) -> StepStorage:
        return FolderStepStorage(self._folder / "exec")

    async def _sqlite(self) -> StepStorage:
        connection = sqlite3.connect(self._folder / "flows.db", timeout=30)
        self._open.callback(connection.close)
        return await with_tables(SQLStepStorage(connection))

    async def _sqlite_query(self) -> StepStorage:
        """A query function, as people have it: synchronous, rows as dictionaries."""
        path = self._folder / "query.db"

        def query(sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
            with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection, connection:
                connection.row_factory = sqlite3.Row
                return [dict(row) for row in connection.execute(sql, parameters)]

        return await with_tables(SQLStepStorage(query, style="?"))

    async def _postgres(self) -> StepStorage:
        import psycopg

        url = await self._postgres_schema()
        connection = psycopg.connect(url, options=f"-c search_path={self._mark}")
        self._open.callback(connection.close)
        return await with_tables(SQLStepStorage(connection))

    async def _postgres_async(self) -> StepStorage:
        import psycopg

        url = await self._postgres_schema()
        options = f"-c search_path={self._mark}"
        connection = await psycopg.AsyncConnection.connect(url, options=options)
        self._open.push_async_callback(connection.close)
        return await with_tables(SQLStepStorage(connection))

    async def _postgres_schema(self) -> str:
        import psycopg

        url: str = self._request.getfixturevalue("postgres").url
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._mark}".encode())
        return url

    async def _redis(self) -> StepStorage:
        import redis.asyncio

        server = self._request.getfixturevalue("shared_valkey")
        client = redis.asyncio.Redis(unix_socket_path=str(server.socket))
        self._open.push_async_callback(client.aclose)
        return RedisStepStorage(client, prefix=f"{self._mark}:exec:")

    async def _firestore(self) -> StepStorage:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import firestore

        os.environ["FIRESTORE_EMULATOR_HOST"] = self._request.getfixturevalue(
            "firestore_server"
        ).address
        client = firestore.Client(project="demo", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
        self._open.callback(client.close)
        return FirestoreStepStorage(client, collection=self._mark)

    async def _adapter(self, name: str) -> Any:
        adapter = await create_adapter(self._url(name))
        self._open.push_async_callback(adapter.close)
        return adapter

    def _url(self, name: str) -> str:
        match name:
            case "memory":
                return "memory:"
            case "folder":
                return f"folder:{self._folder / 'tasks'}"
            case "sqlite":
                return f"sqlite:{self._folder / 'runs.db'}"
            case "postgres":
                url: str = self._request.getfixturevalue("postgres").url
                return f"{url}&schema={self._mark}"
            case "redis":
                url = self._request.getfixturevalue("shared_valkey").url
                return f"{url}?prefix={self._mark}:"
        os.environ["FIRESTORE_EMULATOR_HOST"] = self._request.getfixturevalue(
            "firestore_server"
        ).address
        return f"firestore://demo/{self._mark}"


async def with_tables(storage: SQLStepStorage) -> SQLStepStorage:
    await storage.init()
    return storage


async def opening(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[StorageOpener]:
    """For a fixture: an opener that closes everything when the test is over."""
    opener = StorageOpener(folder, request)
    try:
        yield opener
    finally:
        await opener.close()
