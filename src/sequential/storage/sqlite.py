"""Storage in an SQLite database: one file, nothing to install, any number of processes on it.

    task_runs, stack_runs, task_functions, keystore   as in the original, readable by hand
    programs                                          what runs execute, kept once for all of them
    payloads                                          values over 64 KiB
    snapshots, logs                                   the programs' states and what they printed

Every change is one transaction, made durable before it counts, by one writer thread that commits
what has queued up together (`sqlite_writer`). Reads happen in other threads and wait for nobody.
A lease is a token and a time in the run's row: a commit checks the token in its own transaction.
"""

import asyncio
import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sequential.core.model import (
    Commit,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.core.names import check_run_id, check_task_name
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    ConfigError,
    DamagedRunError,
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
)
from sequential.storage import sql_records, sqlite_commit, sqlite_rows
from sequential.storage.base import StorageAdapter, matches
from sequential.storage.sqlite_commit import Held, Known
from sequential.storage.sqlite_readers import Readers
from sequential.storage.sqlite_rows import Rows, Statement, perform
from sequential.storage.sqlite_schema import explain, open_database
from sequential.storage.sqlite_writer import Writer

T = TypeVar("T")
DEFAULT_PATH = "tasks.db"
_FUNCTION = (
    "SELECT identifier, code, metadata, version, created_at, updated_at, filename "
    "FROM task_functions"
)


class SqliteAdapter(StorageAdapter):
    """Tasks and runs in the SQLite database `path`, made when it is opened."""

    def __init__(self, path: str | Path = DEFAULT_PATH) -> None:
        super().__init__()
        given = Path(path).expanduser()
        self.path = given.absolute()  # a later change of directory does not move it
        self._shown = str(given)
        self._held: dict[str, Held] = {}
        self._rows = Rows()
        self._open: tuple[Writer, Readers, int] | None = None

    async def init(self) -> None:
        if self._open is not None:
            return
        writer = Writer(lambda: open_database(self.path, self._shown))
        try:
            await writer.start()
        except sqlite3.Error as error:
            raise explain(error, self.path, self._shown) from error
        self._open = writer, Readers(self.path), os.getpid()

    async def close(self) -> None:
        if self._open is None:
            return
        writer, readers, process = self._open
        if process != os.getpid():
            return  # a forked process: the files belong to its parent
        releases = [self.release(run_id, held.token) for run_id, held in self._held.items()]
        await asyncio.gather(*releases, return_exceptions=True)  # if it fails, they run out
        self._open = None
        await writer.close()
        await readers.close()

    # --- task runs -------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        check_task_name(run.task_identifier)
        check_run_id(run.id)
        statements = sqlite_rows.insert_run(run)

        def create(connection: sqlite3.Connection) -> None:
            try:
                perform(connection, statements)
            except sqlite3.IntegrityError as error:
                raise RunExistsError(f"run {run.id} exists already") from error

        await self._write(create)
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return await self._read(lambda connection: self._rows.run(connection, run_id))

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        sql_records.known(TaskRun, changes)

        def update(connection: sqlite3.Connection) -> TaskRun:
            run = evolve(self._rows.existing_run(connection, run_id), **changes)
            perform(connection, sqlite_rows.drop_payloads(run_id, run_id, changes))
            perform(connection, sqlite_rows.update_run(run, changes, None))
            return run

        self._forget_rows(run_id)
        return await self._write(update)

    async def query_task_runs(self, *, limit: int | None = None, **filters: Any) -> list[TaskRun]:
        columns, others = sqlite_rows.split_filters(TaskRun, filters)

        def query(connection: sqlite3.Connection) -> list[TaskRun]:
            found: list[TaskRun] = []
            if limit is not None and limit <= 0:
                return found
            for run in self._rows.runs(connection, columns):
                if isinstance(run, TaskRun) and matches(run, others):
                    found.append(run)
                    if len(found) == limit:
                        break
            return found

        return await self._read(query)

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        def find(connection: sqlite3.Connection) -> list[str]:
            query = "SELECT id FROM task_runs WHERE id >= ? AND id < ?"
            parameters = [prefix, prefix + "\U0010ffff"]
            if task is not None:
                query += " AND task_identifier = ?"
                parameters.append(task)
            return [row[0] for row in connection.execute(query + " ORDER BY id", parameters)]

        return await self._read(find)

    async def damaged(self) -> list[str]:
        def look(connection: sqlite3.Connection) -> list[str]:
            runs = self._rows.runs(connection, {})
            return [str(run) for run in runs if isinstance(run, DamagedRunError)]

        return await self._read(look)

    # --- stack runs ------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.id != f"{call.task_run_id}:{call.sequence}":
            raise StorageError(f"a call's id is <run id>:<sequence>, this one is {call.id[:80]!r}")
        await self._write_for(call.task_run_id, sqlite_rows.put_call(call))
        return call

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return await self._read(lambda connection: self._rows.call(connection, *_split(call_id)))

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        sql_records.known(StackRun, changes)

        def update(connection: sqlite3.Connection) -> StackRun:
            call = self._rows.call(connection, *_split(call_id))
            if call is None:
                raise StorageError(f"there is no call {call_id[:80]}")
            perform(connection, sqlite_rows.drop_payloads(call.task_run_id, call_id, changes))
            call = evolve(call, **changes)
            perform(connection, sqlite_rows.update_call(call, changes))
            return call

        self._forget_rows(_split(call_id)[0])
        return await self._write(update)

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        columns, others = sqlite_rows.split_filters(StackRun, filters)

        def query(connection: sqlite3.Connection) -> list[StackRun]:
            calls = self._rows.calls(connection, columns)
            return [call for call in calls if matches(call, others)]

        return await self._read(query)

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        held = self._held.get(run_id)
        known = held.known if held else None
        calls = await self._read(lambda conn: self._rows.undelivered(conn, run_id, after))
        if held and known and held.known is known:  # nothing was written meanwhile
            known.calls = {c.sequence: c for c in calls if c.delivered_turn is None} | known.calls
        return calls

    # --- task functions --------------------------------------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        check_task_name(function.identifier)
        metadata = sql_records.json_text(function.config)

        def store(connection: sqlite3.Connection) -> TaskFunction:
            new = function
            if old := self._function(connection, function.identifier):
                same = (old.code, old.config, old.filename)
                if same == (function.code, function.config, function.filename):
                    return old
                new = evolve(function, version=old.version + 1, created_at=old.created_at)
            row = (new.identifier, new.code, metadata, new.version, new.created_at, new.updated_at)
            put = "INSERT OR REPLACE INTO task_functions VALUES (?, ?, ?, ?, ?, ?, ?)"
            connection.execute(put, (*row, new.filename))
            return new

        return await self._write(store)

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        check_task_name(identifier)
        return await self._read(lambda connection: self._function(connection, identifier))

    def _function(self, connection: sqlite3.Connection, name: str) -> TaskFunction | None:
        row = connection.execute(f"{_FUNCTION} WHERE identifier = ?", (name,)).fetchone()
        return sql_records.function_of(row) if row else None

    async def list_task_functions(self) -> list[TaskFunction]:
        def list_all(connection: sqlite3.Connection) -> list[TaskFunction]:
            rows = connection.execute(f"{_FUNCTION} ORDER BY identifier")
            return [sql_records.function_of(row) for row in rows]

        return await self._read(list_all)

    async def delete_task(self, identifier: str) -> int:
        check_task_name(identifier)
        return await self._write(
            lambda connection: sqlite_commit.delete_task(connection, identifier)
        )

    # --- snapshots and logs ----------------------------------------------------------------------

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        await self._write_for(snapshot.task_run_id, [sqlite_commit.snapshot_row(snapshot)])

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        def get(connection: sqlite3.Connection) -> Snapshot | None:
            query = "SELECT task_run_id, turn, data FROM snapshots WHERE task_run_id = ?"
            row = connection.execute(query, (run_id,)).fetchone()
            return Snapshot(*row) if row else None

        return await self._read(get)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        await self._write_for(run_id, [sqlite_commit.log_row(run_id, line)])

    async def get_log(self, run_id: str) -> list[LogLine]:
        def get(connection: sqlite3.Connection) -> list[LogLine]:
            query = "SELECT at, text FROM logs WHERE task_run_id = ? ORDER BY id"
            return [LogLine(*row) for row in connection.execute(query, (run_id,))]

        return await self._read(get)

    # --- the atomic ones -------------------------------------------------------------------------

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        def claim(connection: sqlite3.Connection) -> TaskRun:
            old = self._rows.existing_run(connection, run_id)
            if old.lease_token is not None and (old.lease_until or "") > now:
                raise RunBusyError(
                    f"run {run_id} is being driven: its worker has it until {old.lease_until}, "
                    "and longer if it goes on; wait for it, or stop that process first"
                )
            run, _ = apply(old, Happening(Event.CLAIM, token=token, until=until), now)
            perform(connection, sqlite_rows.update_run(run, sql_records.changes(old, run), None))
            return run

        claiming = asyncio.ensure_future(self._write(claim))
        try:
            run = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The writer goes on, and nobody would release what it got before its time is over.
            claiming.add_done_callback(lambda done: self._give_back(run_id, token, done))
            raise
        self._held[run_id] = Held(token, Known(run))
        return run

    def _give_back(self, run_id: str, token: str, claiming: "asyncio.Future[TaskRun]") -> None:
        if not claiming.cancelled() and claiming.exception() is None and self._open:
            self._open[0].submit(
                lambda connection: sqlite_commit.release(connection, run_id, token)
            )

    async def renew(self, run_id: str, token: str, until: str) -> None:
        def renew(connection: sqlite3.Connection) -> None:
            statement = "UPDATE task_runs SET lease_until = ? WHERE id = ? AND lease_token = ?"
            if connection.execute(statement, (until, run_id, token)).rowcount != 1:
                raise sqlite_commit.lost(connection, run_id)

        await self._write(renew)

    async def release(self, run_id: str, token: str) -> None:
        self._drop(run_id, token)
        await self._write(lambda conn: sqlite_commit.release(conn, run_id, token))

    async def commit(self, commit: Commit) -> None:
        run = commit.run
        held = self._held.get(run.id)
        known = held.take(commit.token) if held else Known()
        fence, rest = sqlite_commit.statements(commit, known)

        def write(connection: sqlite3.Connection) -> None:
            for statement in fence:
                changed = connection.execute(statement.sql, statement.parameters).rowcount
                if changed != 1 and statement.missing:
                    raise sqlite_commit.lost(connection, run.id)
            perform(connection, rest)

        try:
            await self._write(write)
        except LeaseLostError:
            self._drop(run.id, commit.token)
            raise
        if run.status is not Status.RUNNING or run.lease_token != commit.token:
            self._drop(run.id, commit.token)
        elif held and held.token == commit.token:
            held.learn(known, commit)

    def _drop(self, run_id: str, token: str) -> None:
        held = self._held.get(run_id)
        if held and held.token == token:
            del self._held[run_id]

    def _forget_rows(self, run_id: str) -> None:
        if held := self._held.get(run_id):
            held.known = Known()

    async def wakeups(
        self, now: str, limit: int = 100, tasks: Sequence[str] | None = None
    ) -> list[str]:
        query, parameters = sqlite_rows.wakeups_query(now, limit, tasks)
        return await self._read(lambda conn: [row[0] for row in conn.execute(query, parameters)])

    # --- inside ----------------------------------------------------------------------------------

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._explained(self._opened()[1].read(work))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._explained(self._opened()[0].submit(work))

    async def _write_for(self, run_id: str, statements: list[Statement]) -> None:
        """Write what belongs to a run; raises `RunNotFoundError`."""

        def write(connection: sqlite3.Connection) -> None:
            try:
                perform(connection, statements)
            except sqlite3.IntegrityError as error:
                raise RunNotFoundError(f"there is no run {run_id[:80]}") from error

        await self._write(write)

    def _opened(self) -> tuple[Writer, Readers, int]:
        if self._open is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        if self._open[2] != os.getpid():
            raise StorageError(
                "the store was opened by the process that this one was forked from: open it again"
            )
        return self._open

    async def _explained(self, work: "asyncio.Future[T] | Any") -> T:
        try:
            result: T = await work
            return result
        except sqlite3.Error as error:
            raise explain(error, self.path, self._shown) from error
        except UnicodeEncodeError as error:
            raise sql_records.not_unicode(error) from error
        except OverflowError as error:
            raise StorageError(f"a number does not fit into a column: {error}") from error


def _split(call_id: str) -> tuple[str, int]:
    run_id, _, number = call_id.rpartition(":")
    return run_id, int(number) if re.fullmatch("0|[1-9][0-9]{0,17}", number) else -1


def create(location: str = "", path: str | Path | None = None) -> SqliteAdapter:
    """The factory of `sqlite:<path>`; also `sqlite:///<relative>` and `sqlite:////<absolute>`."""
    if "://" in location:
        host, _, name = location.partition("://")[2].partition("/")
        if host or not name:
            raise ConfigError(
                f"{location!a} names no file: write sqlite:./workflow.db or sqlite:///workflow.db"
            )
        location = name
    if location == ":memory:":
        raise ConfigError("sqlite::memory: would be lost with each connection: use memory:")
    return SqliteAdapter(path or location or DEFAULT_PATH)
