"""The records of the SQLite store: written and read one by one, found by their fields."""

import re
import sqlite3
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sequential.core.model import LogLine, Snapshot, StackRun, TaskFunction, TaskRun, evolve
from sequential.core.names import check_run_id, check_task_name
from sequential.errors import DamagedRunError, RunExistsError, StorageError
from sequential.storage import sql_records, sqlite_commit, sqlite_documents, sqlite_rows
from sequential.storage.base import StorageAdapter, matches
from sequential.storage.documents import Page, Stored
from sequential.storage.sqlite_database import Database
from sequential.storage.sqlite_rows import Rows, perform

T = TypeVar("T")
_FUNCTION = (
    "SELECT identifier, code, metadata, version, created_at, updated_at, filename "
    "FROM task_functions"
)
_NOW = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_SET_KEY = """
    INSERT INTO keystore VALUES (:key, :value, :now, :now)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
"""


class SqliteRecords(StorageAdapter):
    """The simple methods, on an open database."""

    def __init__(self, path: Path, shown: str) -> None:
        super().__init__()
        self.database = Database(path, shown)
        self._rows = Rows()

    @abstractmethod
    async def _write_unknown(self, run_id: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Write to a run that somebody may be driving in this process."""

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

        await self.database.write(create)
        self._announce(run.id)
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return await self.database.read(lambda connection: self._rows.run(connection, run_id))

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        sql_records.known(TaskRun, changes)

        def update(connection: sqlite3.Connection) -> TaskRun:
            run = self._rows.existing_run(connection, run_id)
            return sqlite_commit.change_run(connection, run, changes)

        return await self._write_unknown(run_id, update)

    async def delete_task_run(self, run_id: str) -> None:
        await self.database.write(lambda connection: sqlite_commit.delete_run(connection, run_id))

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        columns, others = sqlite_rows.split_filters(TaskRun, filters)

        def query(connection: sqlite3.Connection) -> list[TaskRun]:
            found: list[TaskRun] = []
            if limit is not None and limit <= 0:
                return found
            for run in self._rows.runs(connection, columns, before):
                if isinstance(run, TaskRun) and matches(run, others):
                    found.append(run)
                    if len(found) == limit:
                        break
            return found

        return await self.database.read(query)

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        def find(connection: sqlite3.Connection) -> list[str]:
            query = "SELECT id FROM task_runs WHERE id >= ? AND id < ?"
            parameters = [prefix, prefix + "\U0010ffff"]
            if task is not None:
                query += " AND task_identifier = ?"
                parameters.append(task)
            return [row[0] for row in connection.execute(query + " ORDER BY id", parameters)]

        return await self.database.read(find)

    async def damaged(self) -> list[str]:
        def look(connection: sqlite3.Connection) -> list[str]:
            runs = self._rows.runs(connection, {})
            return [str(run) for run in runs if isinstance(run, DamagedRunError)]

        return await self.database.read(look)

    # --- stack runs ------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.id != f"{call.task_run_id}:{call.sequence}":
            raise StorageError(f"a call's id is <run id>:<sequence>, this one is {call.id[:80]!r}")
        await self.database.write_for(call.task_run_id, sqlite_rows.put_call(call))
        return call

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return await self.database.read(
            lambda connection: self._rows.call(connection, *_split(call_id))
        )

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

        return await self._write_unknown(_split(call_id)[0], update)

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        columns, others = sqlite_rows.split_filters(StackRun, filters)

        def query(connection: sqlite3.Connection) -> list[StackRun]:
            calls = self._rows.calls(connection, columns)
            return [call for call in calls if matches(call, others)]

        return await self.database.read(query)

    async def delete_stack_run(self, call_id: str) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            perform(connection, sqlite_rows.drop_call(*_split(call_id)))

        await self._write_unknown(_split(call_id)[0], delete)

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

        return await self.database.write(store)

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        check_task_name(identifier)
        return await self.database.read(lambda connection: self._function(connection, identifier))

    def _function(self, connection: sqlite3.Connection, name: str) -> TaskFunction | None:
        row = connection.execute(f"{_FUNCTION} WHERE identifier = ?", (name,)).fetchone()
        return sql_records.function_of(row) if row else None

    async def list_task_functions(self) -> list[TaskFunction]:
        def list_all(connection: sqlite3.Connection) -> list[TaskFunction]:
            rows = connection.execute(f"{_FUNCTION} ORDER BY identifier")
            return [sql_records.function_of(row) for row in rows]

        return await self.database.read(list_all)

    async def delete_task(self, identifier: str) -> int:
        check_task_name(identifier)
        return await self.database.write(
            lambda connection: sqlite_commit.delete_task(connection, identifier)
        )

    # --- keystore --------------------------------------------------------------------------------

    async def set_keystore(self, key: str, value: str) -> None:
        def put(connection: sqlite3.Connection) -> None:
            (now,) = connection.execute(_NOW).fetchone()
            connection.execute(_SET_KEY, {"key": key, "value": value, "now": now})

        await self.database.write(put)

    async def get_keystore(self, key: str) -> str | None:
        def get(connection: sqlite3.Connection) -> str | None:
            query = "SELECT value FROM keystore WHERE key = ?"
            row = connection.execute(query, (key,)).fetchone()
            return row[0] if row else None

        return await self.database.read(get)

    async def delete_keystore(self, key: str) -> bool:
        def delete(connection: sqlite3.Connection) -> bool:
            statement = "DELETE FROM keystore WHERE key = ?"
            return connection.execute(statement, (key,)).rowcount == 1

        return await self.database.write(delete)

    async def list_keystore(self) -> list[str]:
        def list_all(connection: sqlite3.Connection) -> list[str]:
            return [row[0] for row in connection.execute("SELECT key FROM keystore ORDER BY key")]

        return await self.database.read(list_all)

    # --- documents -------------------------------------------------------------------------------

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        return await self.database.write(
            lambda connection: sqlite_documents.put(connection, collection, key, text, if_version)
        )

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        return await self.database.read(
            lambda connection: sqlite_documents.get(connection, collection, key)
        )

    async def _delete_document(self, collection: str, key: str) -> bool:
        return await self.database.write(
            lambda connection: sqlite_documents.delete(connection, collection, key)
        )

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        return await self.database.read(
            lambda connection: sqlite_documents.page_of(connection, collection, page)
        )

    async def _prune_documents(self, collection: str, before: str) -> int:
        return await self.database.write(
            lambda connection: sqlite_documents.prune(connection, collection, before)
        )

    # --- snapshots and logs ----------------------------------------------------------------------

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        await self.database.write_for(snapshot.task_run_id, [sqlite_commit.snapshot_row(snapshot)])

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        def get(connection: sqlite3.Connection) -> Snapshot | None:
            query = "SELECT task_run_id, turn, data FROM snapshots WHERE task_run_id = ?"
            row = connection.execute(query, (run_id,)).fetchone()
            return Snapshot(*row) if row else None

        return await self.database.read(get)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        await self.database.write_for(run_id, [sqlite_commit.log_row(run_id, line)])

    async def get_log(self, run_id: str) -> list[LogLine]:
        def get(connection: sqlite3.Connection) -> list[LogLine]:
            query = "SELECT at, text FROM logs WHERE task_run_id = ? ORDER BY id"
            return [LogLine(*row) for row in connection.execute(query, (run_id,))]

        return await self.database.read(get)


def _split(call_id: str) -> tuple[str, int]:
    run_id, _, number = call_id.rpartition(":")
    return run_id, int(number) if re.fullmatch("0|[1-9][0-9]{0,17}", number) else -1
