"""Storage in a PostgreSQL database, for any number of processes on any number of machines.

    task_runs, stack_runs, task_functions, keystore   as in the original, readable by hand
    programs                                          what runs execute, kept once for all of them
    payloads                                          values over 64 KiB
    snapshots, logs                                   the programs' states and what they printed
    documents                                         small records of the server

They are in a schema of their own, `sequential`, made when the store is first opened. Each
operation is one function of that schema (`sql_functions`), called in one round trip on any
connection: nothing depends on a session, so a pooler may stand in between.
"""

import hashlib
import os
from collections.abc import Callable

import psycopg

from sequential.core.model import Commit
from sequential.errors import StorageError, StorageUnreachableError
from sequential.storage import postgres_errors, postgres_schema, sql_turns
from sequential.storage.postgres_address import Address, parse
from sequential.storage.postgres_connections import Connections
from sequential.storage.postgres_line import Cells, Line, Question
from sequential.storage.postgres_listener import Listener
from sequential.storage.sql_functions import SqlFunctionsAdapter
from sequential.storage.sql_refusals import Refused, explained
from sequential.storage.sql_steps import Known

_JSONB = 3802  # the object id of the type


class PostgresAdapter(SqlFunctionsAdapter):
    """Tasks and runs in the PostgreSQL database at `address`."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.options.patience)
        self.address = address
        self._tells = address.options.listen
        self._listener: Listener | None = None
        self._questions: dict[str, Question] = {}
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

    async def _install(self, connection: Line) -> None:
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

    async def _send(self, function: str, arguments: bytes) -> bytes | None:
        return await self._ask(self._question(function, (_JSONB,)), (arguments,))

    async def _commit_turn(self, commit: Commit, known: Known, request: str) -> bool:
        cells = sql_turns.cells(commit, known, request)
        if cells is None:
            return False
        try:
            question = self._question("commit_turn", sql_turns.TYPES)
            return await self._ask(question, cells) == b"true"
        except StorageUnreachableError:
            return False  # `commit` finds out whether it is done
        except Refused as refused:
            if refused.code != "no_turn":
                raise explained(refused, commit.run.id) from None
            return False

    def _question(self, function: str, types: tuple[int, ...]) -> Question:
        """The statement that calls a function with parameters of these types."""
        question = self._questions.get(function)
        if question is None:
            schema = self.address.options.schema
            parameters = ", ".join(f"${number}" for number, _ in enumerate(types, 1))
            text = f'select "{schema}"."{function}"({parameters})::text'
            # Should a connection ever be shared, a name means the same to everybody.
            name = hashlib.sha256(text.encode()).hexdigest()[:32]
            question = Question(name.encode(), text.encode(), types)
            self._questions[function] = question
        return question

    async def _ask(self, question: Question, cells: Cells) -> bytes | None:
        """The answer to a statement, on any connection."""
        connections = self._opened()
        try:
            async with connections.use() as connection:
                return await self._ask_on(connection, question, cells)
        except StorageUnreachableError:
            await connections.forget()
            raise

    async def _ask_on(self, connection: Line, question: Question, cells: Cells) -> bytes | None:
        shown, seconds = self.address.shown, self.address.options.timeout
        try:
            return await connection.ask(question, cells)
        except psycopg.Error as error:
            if connection.was_silent:
                raise postgres_errors.of_silence(shown, seconds) from None
            lost = connection.closed
            raise postgres_errors.of_calling(error, shown, is_lost=lost) from None

    def _opened(self) -> Connections:
        if self._open is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        if self._open[1] != os.getpid():
            raise StorageError(
                "the store was opened by the process that this one was forked from: open it again"
            )
        return self._open[0]


async def _refuse_encoding(connection: Line, shown: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise StorageError(
            f"{shown} has the encoding {encoding}, which cannot hold every text: create a database "
            "with encoding 'UTF8'"
        )


def create(
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
