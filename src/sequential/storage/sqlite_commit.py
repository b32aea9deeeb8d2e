"""What the SQLite store writes of a run that is driven, and what it need not write again."""

import sqlite3

import msgspec

from sequential.core.model import Commit, LogLine, Snapshot, StackRun, TaskRun
from sequential.errors import (
    LeaseLostError,
    RunBusyError,
    RunNotFoundError,
    StorageError,
    TaskNotFoundError,
)
from sequential.storage import sql_records, sqlite_rows
from sequential.storage.sqlite_rows import Statement


class Known(msgspec.Struct):
    """What is in the rows of a run and of its open calls, as far as it is known."""

    run: TaskRun | None = None
    calls: dict[int, StackRun] = {}


class Held(msgspec.Struct):
    """A lease of this process. What it knows is not written again: a step writes its changes."""

    token: str
    known: Known

    def take(self, token: str) -> Known:
        """What is known, for a commit; until it has succeeded, nothing is known for others."""
        if token != self.token:
            return Known()
        known, self.known = self.known, Known()
        return known

    def learn(self, known: Known, commit: Commit) -> None:
        """Add what a commit has written to what was known before it."""
        for call in (*commit.requested, *commit.updated):
            known.calls[call.sequence] = call
            if call.delivered_turn is not None:
                del known.calls[call.sequence]
        self.known = Known(commit.run, known.calls)


def statements(commit: Commit, known: Known) -> tuple[list[Statement], list[Statement]]:
    """What a commit writes: the run's row, which only the lease's holder may, and the rest."""
    run = commit.run
    changed = sql_records.changes(known.run, run)
    if run.lease_token == commit.token:
        changed.pop("lease_until", None)  # that is for `renew` to move, maybe meanwhile
    fence = sqlite_rows.update_run(run, changed, commit.token)
    rest: list[Statement] = []
    for call in commit.requested:
        rest += sqlite_rows.put_call(call)
    for call in commit.updated:
        last = known.calls.get(call.sequence)
        rest += sqlite_rows.update_call(call, sql_records.changes(last, call))
    if commit.log:
        rest.append(log_row(run.id, LogLine(run.updated_at, commit.log)))
    if commit.snapshot:
        rest.append(snapshot_row(commit.snapshot))
    return fence, rest


def log_row(run_id: str, line: LogLine) -> Statement:
    statement = "INSERT INTO logs (task_run_id, at, text) VALUES (?, ?, ?)"
    return Statement(statement, (run_id, line.at, line.text))


def snapshot_row(snapshot: Snapshot) -> Statement:
    statement = (
        "INSERT INTO snapshots VALUES (?, ?, ?) ON CONFLICT (task_run_id) "
        "DO UPDATE SET turn = excluded.turn, data = excluded.data"
    )
    return Statement(statement, (snapshot.task_run_id, snapshot.turn, snapshot.data))


def release(connection: sqlite3.Connection, run_id: str, token: str) -> None:
    """Free a run, if this token still holds it."""
    connection.execute(
        "UPDATE task_runs SET lease_token = NULL, lease_until = NULL "
        "WHERE id = ? AND lease_token = ?",
        (run_id, token),
    )


def lost(connection: sqlite3.Connection, run_id: str) -> StorageError | RunNotFoundError:
    """Why a lease's holder found no row to change."""
    if connection.execute("SELECT 1 FROM task_runs WHERE id = ?", (run_id,)).fetchone():
        return LeaseLostError()
    return RunNotFoundError(f"there is no run {run_id[:80]}")


def delete_task(connection: sqlite3.Connection, name: str) -> int:
    """Remove a task, its runs and the programs that no other run has."""
    query = "SELECT id FROM task_runs WHERE task_identifier = ? AND lease_token IS NOT NULL"
    if busy := connection.execute(query, (name,)).fetchone():
        raise RunBusyError(
            f"run {busy[0]} of {name} is being driven: wait until it is done; if its worker has "
            "died, `sequential-ecosystem resume` it first"
        )
    if not connection.execute("DELETE FROM task_functions WHERE identifier = ?", (name,)).rowcount:
        raise TaskNotFoundError(f"there is no task {name}")
    removed = connection.execute("DELETE FROM task_runs WHERE task_identifier = ?", (name,))
    connection.execute(
        "DELETE FROM programs WHERE NOT EXISTS "
        "(SELECT 1 FROM task_runs WHERE task_runs.program = programs.digest)"
    )
    return removed.rowcount
