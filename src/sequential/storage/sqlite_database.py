"""An open SQLite database: its one writer, its readers, and its errors in words."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sequential.errors import RunNotFoundError, StorageError
from sequential.storage import sql_records
from sequential.storage.sqlite_readers import Readers
from sequential.storage.sqlite_rows import Statement, perform
from sequential.storage.sqlite_schema import explain, open_database
from sequential.storage.sqlite_writer import Writer

T = TypeVar("T")


class Opened(NamedTuple):
    """What belongs to the process that opened the database."""

    writer: Writer
    readers: Readers
    process: int


class Database:
    """The database at `path`, called `shown` in messages. Opened and closed any number of times."""

    def __init__(self, path: Path, shown: str) -> None:
        self.path = path
        self._shown = shown
        self._opened: Opened | None = None

    @property
    def is_open(self) -> bool:
        """Whether this process has it open; a fork of the one that has does not."""
        return self._opened is not None and self._opened.process == os.getpid()

    async def open(self) -> None:
        if self._opened is not None:
            return
        writer = Writer(lambda: open_database(self.path, self._shown))
        try:
            await writer.start()
        except sqlite3.Error as error:
            raise explain(error, self.path, self._shown) from error
        self._opened = Opened(writer, Readers(self.path), os.getpid())

    async def close(self) -> None:
        opened, self._opened = self.opened(), None
        await opened.writer.close()
        await opened.readers.close()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Perform `work` on the database as it is at one moment."""
        return await self._explained(self.opened().readers.read(work))

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Perform `work`, all or nothing; it has reached the disk when this returns."""
        return await self._explained(self.opened().writer.submit(work))

    async def write_alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same when nothing else is going on in this process."""
        return await self._explained(self.opened().writer.submit_alone(work))

    async def write_for(self, run_id: str, statements: list[Statement]) -> None:
        """Write what belongs to a run; raises `RunNotFoundError`."""

        def write(connection: sqlite3.Connection) -> None:
            try:
                perform(connection, statements)
            except sqlite3.IntegrityError as error:
                raise RunNotFoundError(f"there is no run {run_id[:80]}") from error

        await self.write(write)

    async def version(self) -> int:
        """A number that is another one when somebody else has written since it was asked for."""

        def look(connection: sqlite3.Connection) -> int:
            found: int = connection.execute("PRAGMA data_version").fetchone()[0]
            return found

        return await self._explained(self.opened().writer.look(look))

    def opened(self) -> Opened:
        if self._opened is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        if not self.is_open:
            raise StorageError(
                "the store was opened by the process that this one was forked from: open it again"
            )
        return self._opened

    async def _explained(self, work: "asyncio.Future[T] | Coroutine[Any, Any, T]") -> T:
        try:
            return await work
        except sqlite3.Error as error:
            raise explain(error, self.path, self._shown) from error
        except UnicodeEncodeError as error:
            raise sql_records.not_unicode(error) from error
        except OverflowError as error:
            raise StorageError(f"a number does not fit into a column: {error}") from error
