"""Paused tasks in an SQL database: one table, written with single statements.

    sequential_flow_tasks (id, data, created_at, expires_at, revision)

The SQL is that of PostgreSQL and SQLite. Where a database wants other types (`data` is a text that
may be long), create the table beforehand; it is then used as it is.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal
from weakref import WeakKeyDictionary

from sequential.core import times
from sequential.errors import ConfigError
from sequential.flow.flow_task import FlowTask
from sequential.flow.storages import CustomStorage

Style = Literal["?", "%s", "$1", ":1"]

TABLE = "sequential_flow_tasks"
_CREATE = f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    id VARCHAR(200) PRIMARY KEY, data TEXT NOT NULL, created_at VARCHAR(24) NOT NULL,
    expires_at VARCHAR(24), revision INTEGER NOT NULL)"""
_INSERT = f"INSERT INTO {TABLE} (data, created_at, expires_at, revision, id) VALUES (?, ?, ?, ?, ?)"  # noqa: S608
_UPDATE = f"UPDATE {TABLE} SET data = ?, created_at = ?, expires_at = ?, revision = ? WHERE id = ?"  # noqa: S608
_DELETE = f"DELETE FROM {TABLE} WHERE id = ?"  # noqa: S608
_EXPIRED = f"DELETE FROM {TABLE} WHERE expires_at <= ?"  # noqa: S608
_SELECT = f"SELECT data FROM {TABLE} WHERE id = ?"  # noqa: S608
_REPLACE = """ON CONFLICT (id) DO UPDATE SET data = excluded.data,
    created_at = excluded.created_at, expires_at = excluded.expires_at,
    revision = excluded.revision"""
_STYLES: dict[str, Style] = {"qmark": "?", "format": "%s", "pyformat": "%s", "numeric": ":1"}


class SQLStorage(CustomStorage):
    """Tasks in a table of PostgreSQL, SQLite, or what takes their SQL.

    `database` is a DB-API connection, sync or async; or a function without parameters that opens a
    sync one, which is then used on a thread of its own and closed by `close`; or a function
    `query(sql, parameters)`, sync or async, that returns rows. `style` is how a statement names
    its parameters: a connection's driver knows it, a query is taken to want `$1`.

    Expired tasks are not handed out any more, and stay in the table until `delete_expired`.
    """

    def __init__(self, database: Any, style: Style | None = None) -> None:
        self._database = _opened(database, style)
        self._is_ready = False

    async def save(self, task: FlowTask) -> None:
        await self._run(f"{_INSERT} {_REPLACE} RETURNING id", *_row(task))

    async def load(self, task_id: str) -> FlowTask | None:
        rows = await self._run(_SELECT, task_id)
        if not rows:
            return None
        data = next(iter(rows[0].values())) if isinstance(rows[0], Mapping) else rows[0][0]
        return FlowTask.from_dict(data) if isinstance(data, Mapping) else FlowTask.from_json(data)

    async def delete(self, task_id: str) -> bool:
        return bool(await self._run(f"{_DELETE} RETURNING id", task_id))

    async def swap(self, task_id: str, revision: int | None, task: FlowTask | None) -> bool:
        if revision is None:
            if task is None:
                return await self.load(task_id) is None
            new = f"{_INSERT} ON CONFLICT (id) DO NOTHING RETURNING id"
            return bool(await self._run(new, *_row(task)))
        if task is None:
            known = f"{_DELETE} AND revision = ? RETURNING id"
            return bool(await self._run(known, task_id, revision))
        changed = f"{_UPDATE} AND revision = ? RETURNING id"
        return bool(await self._run(changed, *_row(task), revision))

    async def delete_expired(self, now: str | None = None) -> int:
        """Remove the tasks that have expired by now; returns how many there were.

        Another moment is given as text, `2026-11-21T10:00:00.000Z`.
        """
        moment = now or times.to_text(datetime.now(UTC))
        return len(await self._run(f"{_EXPIRED} RETURNING id", moment))

    async def close(self) -> None:
        await self._database.close()

    async def _run(self, statement: str, *parameters: Any) -> Sequence[Any]:
        if not self._is_ready:
            try:
                await self._database.run(_CREATE, ())
            except Exception:  # PostgreSQL lets one of two fail that create a table at once
                await self._database.run(_CREATE, ())
            self._is_ready = True
        return await self._database.run(statement, parameters)


class _Connection:
    """A connection of the caller's; statements follow each other, each committed by itself."""

    def __init__(self, connection: Any, style: Style | None) -> None:
        self._connection = connection
        self._style = style or _style_of(connection)
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
        self._locks = WeakKeyDictionary()

    async def run(self, statement: str, parameters: Sequence[Any]) -> Sequence[Any]:
        statement = _in_style(statement, self._style)
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            try:
                cursor = await _settled(self._connection.cursor())
                await _settled(cursor.execute(statement, tuple(parameters)))
                rows = await _settled(cursor.fetchall()) if cursor.description else []
                await _settled(cursor.close())
                await _settled(self._connection.commit())
            except BaseException:
                await _settled(self._connection.rollback())
                raise
        return list(rows)

    async def close(self) -> None:
        """It is the caller's to close."""


class _Factory:
    """A connection of our own, opened by the caller's function when it is first needed."""

    def __init__(self, connect: Callable[[], Any], style: Style | None) -> None:
        self._connect = connect
        self._style = style
        self._connection: Any = None
        self._thread = ThreadPoolExecutor(1, "flow-sql")

    async def run(self, statement: str, parameters: Sequence[Any]) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run, statement, tuple(parameters))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _run(self, statement: str, parameters: Sequence[Any]) -> Sequence[Any]:
        if self._connection is None:
            self._connection = self._connect()
            self._style = self._style or _style_of(self._connection)
        try:
            cursor = self._connection.cursor()
            cursor.execute(_in_style(statement, self._style or "?"), parameters)
            rows = cursor.fetchall() if cursor.description else []
            cursor.close()
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise
        return list(rows)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _Query:
    """A function of the caller's that performs a statement."""

    def __init__(self, query: Callable[..., Any], style: Style | None) -> None:
        self._query = query
        self._style = style or "$1"

    async def run(self, statement: str, parameters: Sequence[Any]) -> Sequence[Any]:
        rows = self._query(_in_style(statement, self._style), tuple(parameters))
        return list(await _settled(rows) or ())

    async def close(self) -> None:
        """What is behind it is the caller's to close."""


def _opened(database: Any, style: Style | None) -> _Connection | _Factory | _Query:
    if hasattr(database, "cursor"):
        return _Connection(database, style)
    if not callable(database):
        raise ConfigError(
            f"{type(database).__name__} is no DB-API connection, no function that opens one, and "
            "no function query(sql, parameters)"
        )
    try:
        inspect.signature(database).bind("", ())
    except TypeError:
        return _Factory(database, style)
    except ValueError:  # a built-in function that does not tell
        pass
    return _Query(database, style)


def _style_of(connection: Any) -> Style:
    module = sys.modules.get(type(connection).__module__.partition(".")[0])
    name = getattr(module, "paramstyle", "qmark")
    if name not in _STYLES:
        raise ConfigError(
            f"the driver of this connection wants parameters in the style {name!r}: give a "
            "function query(sql, parameters), and style="
        )
    return _STYLES[name]


def _in_style(statement: str, style: Style) -> str:
    if style in ("?", "%s"):
        return statement.replace("?", style)
    first, *rest = statement.split("?")
    return first + "".join(f"{style[0]}{number}{part}" for number, part in enumerate(rest, 1))


def _row(task: FlowTask) -> tuple[str, str, str | None, int, str]:
    return task.to_json(), task.created_at, task.expires_at, task.revision, task.id


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
