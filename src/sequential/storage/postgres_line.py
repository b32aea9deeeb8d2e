"""One connection to a PostgreSQL server, and the shortest way to call a function over it.

A step of a run is one such call, so what lies around it counts: a cursor, the adaptation of each
parameter and row, and a wait with an event of its own cost several times what the call itself
does. Parameters and answers are therefore bytes as PostgreSQL writes them, and libpq is asked
directly.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus

from sequential.storage import postgres_errors
from sequential.storage.postgres_address import Address
from sequential.storage.postgres_watchdog import Watchdog

CONNECT_TIMEOUT = 10  # seconds
_LAST_WORD = 5.0  # seconds for the server to stop what nobody waits for any more
_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_ONLY_ASKED = 2  # times a statement is sent as it is: one that is not repeated is not prepared

_UNKNOWN_STATEMENT = psycopg.errors.InvalidSqlStatementName
_FOREIGN_STATEMENT = psycopg.errors.DuplicatePreparedStatement

Cells = Sequence[bytes | None]


class Question(NamedTuple):
    """A statement with parameters `$1`, `$2`, ..., and a name that is its own.

    `types` are the object ids of the parameters' types.
    """

    name: bytes
    text: bytes
    types: tuple[int, ...]


class Line(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection for one caller at a time.

    `prepares`: whether the server shall keep statements parsed; None: where no pooler is seen.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.prepares: bool | None = None
        self._known_statements: set[bytes] = set()
        self._times_asked: Counter[bytes] = Counter()
        self.watchdog = Watchdog(self)
        self._descriptor = -1  # of the socket, while the loop looks at it for us
        self._answered: asyncio.Future[pq.abc.PGresult]
        self._result: pq.abc.PGresult | None = None

    async def ask(self, question: Question, cells: Cells) -> bytes | None:
        """The one value that a statement answers; raises `psycopg.Error`."""
        self.watchdog.watch()
        try:
            if await self._is_prepared(question):
                try:
                    return await self._value(
                        lambda: self.pgconn.send_query_prepared(question.name, cells)
                    )
                except _UNKNOWN_STATEMENT:
                    # A pooler has given us another connection to the server. Nothing was done.
                    self.prepares = False
            return await self._value(
                lambda: self.pgconn.send_query_params(question.text, cells, question.types)
            )
        finally:
            await self.watchdog.leave()

    @property
    def was_silent(self) -> bool:
        """Whether the last statement was ended, as the server did not answer it in time."""
        return self.watchdog.has_bitten

    async def close(self) -> None:
        self.watchdog.stop()
        self._let_go()
        await super().close()

    async def wait(self, *arguments: Any, **options: Any) -> Any:
        self._let_go()  # psycopg looks at the socket by itself
        return await super().wait(*arguments, **options)

    async def _is_prepared(self, question: Question) -> bool:
        """Whether the server knows this statement by its name; it is told when it is worth that."""
        name, text, types = question
        if self.prepares is False:
            return False
        if name in self._known_statements:
            return True
        self._times_asked[name] += 1
        if self._times_asked[name] <= _ONLY_ASKED:
            return False
        if self.prepares is None:
            self.prepares = await self._is_direct()
        if self.prepares:
            try:
                await self._exchange(lambda: self.pgconn.send_prepare(name, text, types))
                self._known_statements.add(name)
            except _FOREIGN_STATEMENT:
                self.prepares = False
        return self.prepares

    async def _is_direct(self) -> bool:
        """Whether no pooler stands in between, so that what is prepared stays ours.

        A server tells at the beginning which process answers; a pooler that lends its connections
        has to make up a number.
        """
        process = await self._value(
            lambda: self.pgconn.send_query_params(b"select pg_catalog.pg_backend_pid()", None)
        )
        return process == b"%d" % self.pgconn.backend_pid

    async def _value(self, send: Callable[[], None]) -> bytes | None:
        return (await self._exchange(send)).get_value(0, 0)

    async def _exchange(self, send: Callable[[], None]) -> pq.abc.PGresult:
        """Send something and wait for its result; whoever is cancelled has it stopped first."""
        loop = asyncio.get_running_loop()
        self._answered = answered = loop.create_future()
        try:
            if self._descriptor < 0:  # it stays so between statements: this is not for nothing
                self._descriptor = self.pgconn.socket
                loop.add_reader(self._descriptor, self._read)
            send()
            if self.pgconn.flush():
                loop.add_writer(self._descriptor, self._write)
        except psycopg.Error:
            self._let_go()
            raise
        try:
            result: pq.abc.PGresult = await answered
        except asyncio.CancelledError:
            self._answered = loop.create_future()
            self._answered.add_done_callback(lambda done: done.cancelled() or done.exception())
            await self._stop()
            raise
        if result.status not in _GOOD:
            raise error_from_result(result)
        return result

    async def _stop(self) -> None:
        """Wait until the server has stopped; a connection where it has not is closed later."""
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
            await self.cancel_safe(timeout=_LAST_WORD)
            await asyncio.wait_for(self._answered, _LAST_WORD)

    def _write(self) -> None:
        """There is room for more of what is to be sent."""
        try:
            if not self.pgconn.flush():
                asyncio.get_running_loop().remove_writer(self._descriptor)
        except psycopg.Error as error:
            self._fail(error)

    def _read(self) -> None:
        """Something has come: an answer, or the end of the connection."""
        pgconn = self.pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    if self._result is not None and not self._answered.done():
                        self._answered.set_result(self._result)
                    self._result = None
                    return
                self._result = result
        except psycopg.Error as error:
            self._fail(error)

    def _fail(self, error: psycopg.Error) -> None:
        self._let_go()
        self._result = None
        if not self._answered.done():
            self._answered.set_exception(error)

    def _let_go(self) -> None:
        """Do not look at the socket any more. When it is lost, libpq has closed it already."""
        if self._descriptor >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._descriptor)
            loop.remove_writer(self._descriptor)
            self._descriptor = -1


async def connect(address: Address) -> Line:
    """A new connection that commits each statement; raises `StorageError`."""
    parameters = {
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": "sequential-ecosystem",
        **address.parameters,
        "client_encoding": "UTF8",
    }
    try:
        line = await Line.connect(**parameters, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise postgres_errors.of_connecting(error, address.shown) from None
    line.watchdog.seconds = address.options.timeout
    line.prepares = address.options.prepare
    return line
