"""Storage in a PostgreSQL database, for any number of processes on any number of machines.

    task_runs, stack_runs, task_functions, keystore   as in the original, readable by hand
    programs                                          what runs execute, kept once for all of them
    payloads                                          values over 64 KiB
    snapshots, logs                                   the programs' states and what they printed

They are in a schema of their own, `sequential`, made when the store is first opened. Each
operation is one function of that schema (`sql_functions`), called in one round trip on any
connection: nothing depends on a session, so a pooler may stand in between.
"""

import os
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from sequential.errors import StorageError
from sequential.storage import postgres_errors, postgres_schema
from sequential.storage.postgres_address import Address, parse
from sequential.storage.postgres_connections import Connection, Connections, Watchdog
from sequential.storage.postgres_listener import Listener
from sequential.storage.sql_functions import SqlFunctionsAdapter
from sequential.storage.sql_refusals import ConnectionLostError


class PostgresAdapter(SqlFunctionsAdapter):
    """Tasks and runs in the PostgreSQL database at `address`."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.options.patience)
        self.address = address
        self._tells = address.options.listen
        self._listener: Listener | None = None
        self._open: tuple[Connections, int] | None = None

    async def init(self) -> None:
        if self._open is not None:
            return
        connections = Connections(self.address)
        try:
            async with connections.use() as connection:
                await self._install(connection)
        except BaseException:
            await connections.close()
            raise
        self._open = connections, os.getpid()

    async def _install(self, connection: Connection) -> None:
        shown = self.address.shown
        try:
            await _refuse_encoding(connection, shown)
            await postgres_schema.install(connection, self.address.options.schema, shown)
        except psycopg.Error as error:
            explained = postgres_errors.of_calling(error, shown, is_lost=connection.closed)
            raise explained from None

    async def close(self) -> None:
        if self._open is None:
            return
        connections, process = self._open
        if process != os.getpid():
            return  # a forked process: the connections belong to its parent
        self.patience = 0.0  # what cannot be given back now, time gives back
        if self._listener:
            await self._listener.stop()
        await super().close()
        self._open = None
        await connections.close()

    async def watch(self, changed: Callable[[str], None]) -> None:
        await super().watch(changed)
        self._opened()
        if self._listener is None and self.address.options.listen:
            self._listener = Listener(self.address, self._origin, self._hear)
            await self._listener.start()

    def _hear(self, run_id: str) -> None:
        for changed in self._watchers:
            changed(run_id)

    async def _send(self, function: str, arguments: bytes) -> str | None:
        connections = self._opened()
        statement = f'select "{self.address.options.schema}"."{function}"(%s)::text'
        try:
            async with connections.use() as connection:
                row = await self._ask(connection, statement, arguments)
        except ConnectionLostError:
            await connections.forget()
            raise
        return row[0] if row else None

    async def _ask(self, connection: Connection, statement: str, arguments: bytes) -> Any:
        """The one row of an answer."""
        shown, seconds = self.address.shown, self.address.options.timeout
        watchdog = Watchdog(connection, seconds)
        try:
            parameter = Jsonb(arguments, dumps=_as_it_is)
            return await (await connection.execute(statement.encode(), [parameter])).fetchone()
        except psycopg.Error as error:
            if watchdog.has_bitten:
                raise postgres_errors.of_silence(shown, seconds) from None
            lost = connection.closed
            raise postgres_errors.of_calling(error, shown, is_lost=lost) from None
        finally:
            await watchdog.leave()

    def _opened(self) -> Connections:
        if self._open is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        if self._open[1] != os.getpid():
            raise StorageError(
                "the store was opened by the process that this one was forked from: open it again"
            )
        return self._open[0]


async def _refuse_encoding(connection: Connection, shown: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise StorageError(
            f"{shown} has the encoding {encoding}, which cannot hold every text: create a database "
            "with encoding 'UTF8'"
        )


def _as_it_is(arguments: Any) -> bytes:
    """The JSON is made already."""
    data: bytes = arguments
    return data


def create(  # noqa: PLR0917
    location: str = "",
    schema: str | None = None,
    pool: int | None = None,
    timeout: float | None = None,
    patience: float | None = None,
    listen: bool | None = None,
    prepare: bool | None = None,
) -> PostgresAdapter:
    """The factory of `postgres://user:password@host:5432/database?schema=sequential`."""
    config = {
        "schema": schema,
        "pool": pool,
        "timeout": timeout,
        "patience": patience,
        "listen": listen,
        "prepare": prepare,
    }
    return PostgresAdapter(parse(location, **config))
