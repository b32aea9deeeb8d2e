"""How the SQLite store takes leases, each inside of one transaction."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sequential.core.model import TaskRun
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import DamagedRunError, RunBusyError, TaskLimitError
from sequential.storage import sql_records, sqlite_rows
from sequential.storage.sqlite_rows import Rows, perform


class Lease(NamedTuple):
    """What a worker asks for."""

    token: str
    now: str
    until: str


def claim(connection: sqlite3.Connection, rows: Rows, run_id: str, lease: Lease) -> TaskRun:
    """Take the lease of a run; raises why it cannot be had."""
    token, now, until = lease
    old = rows.existing_run(connection, run_id)
    if old.lease_token is not None and (old.lease_until or "") > now:
        raise RunBusyError(
            f"run {run_id} is being driven: its worker has it until {old.lease_until}, "
            "and longer if it goes on; wait for it, or stop that process first"
        )
    run, _ = apply(old, Happening(Event.CLAIM, token=token, until=until), now)
    if (most := run.config.concurrency) is not None:
        of_task = (run.task_identifier, now, run_id)
        if connection.execute(sqlite_rows.DRIVEN, of_task).fetchone()[0] >= most:
            raise TaskLimitError
    perform(connection, sqlite_rows.update_run(run, sql_records.changes(old, run), None))
    return run


class Due:
    """Claims what is due. A task at its limit, or a damaged run, does not stand before others."""

    def __init__(
        self, rows: Rows, lease: Lease, tasks: Sequence[str] | None, without: Collection[str]
    ) -> None:
        self._rows = rows
        self._lease = lease
        self._tasks = tasks
        self._full = set(without)
        self._seen: set[str] = set()

    def claim(self, connection: sqlite3.Connection, limit: int) -> list[TaskRun]:
        claimed: list[TaskRun] = []
        while len(claimed) < limit and (ids := self._next(connection, limit - len(claimed))):
            claimed += [run for run_id in ids if (run := self._one(connection, run_id))]
        return claimed

    def _next(self, connection: sqlite3.Connection, limit: int) -> list[str]:
        query = sqlite_rows.wakeups_query(
            self._lease.now, limit + len(self._seen), self._tasks, self._full
        )
        ids = [row[0] for row in connection.execute(*query)]
        return [run_id for run_id in ids if run_id not in self._seen][:limit]

    def _one(self, connection: sqlite3.Connection, run_id: str) -> TaskRun | None:
        self._seen.add(run_id)
        try:
            return claim(connection, self._rows, run_id, self._lease)
        except TaskLimitError:
            query = "SELECT task_identifier FROM task_runs WHERE id = ?"
            self._full.add(connection.execute(query, (run_id,)).fetchone()[0])
        except (DamagedRunError, RunBusyError):
            pass
        return None
