"""What the SQLite store writes of a run that is driven, and what it need not write again."""

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskRun,
    evolve,
)
from sequential.errors import (
    LeaseLostError,
    RunBusyError,
    RunChangedError,
    RunNotFoundError,
    StorageError,
    TaskNotFoundError,
)
from sequential.storage import sql_records, sqlite_rows
from sequential.storage.base import fence
from sequential.storage.sqlite_rows import Rows, Statement, perform

_DROP_PROGRAMS = (
    "DELETE FROM programs WHERE NOT EXISTS "
    "(SELECT 1 FROM task_runs WHERE task_runs.program = programs.digest)"
)


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
    """What a commit writes: the run's row, which only the lease's holder may, and the rest.

    The row becomes that of `core.journal.committed`, in SQL.
    """
    run = commit.run
    changed = sql_records.changes(known.run, run)
    # An answer that came meanwhile may have moved these.
    changed |= {"wake_at": run.wake_at, "updated_at": run.updated_at}
    changed["lease_until"] = None
    for name in ("answers", "events", *(["lease_until"] if run.lease_token else [])):
        changed.pop(name, None)  # those are for others to write, maybe meanwhile
    fenced = sqlite_rows.update_run(run, changed, commit.token)
    rest: list[Statement] = []
    if run.status is Status.SUSPENDED:
        unseen = "UPDATE task_runs SET wake_at = ? WHERE id = ? AND answers != ?"
        rest.append(Statement(unseen, (run.updated_at, run.id, run.answers)))
    for call in commit.requested:
        rest += sqlite_rows.put_call(call)
    for call in commit.updated:
        last = known.calls.get(call.sequence)
        rest += sqlite_rows.update_call(call, sql_records.changes(last, call))
    if commit.log:
        rest.append(log_row(run.id, LogLine(run.updated_at, commit.log)))
    if commit.snapshot:
        rest.append(snapshot_row(commit.snapshot))
    return fenced, rest


def write(
    connection: sqlite3.Connection,
    commit: Commit,
    statements: tuple[list[Statement], list[Statement]],
) -> None:
    """Write a commit by its statements; raises `LeaseLostError`."""
    fenced, rest = statements
    for statement in fenced:
        changed = connection.execute(statement.sql, statement.parameters).rowcount
        if changed != 1 and statement.missing:
            raise lost(connection, commit.run.id)
    if commit.taken:
        _take_events(connection, commit.run.id, commit.taken)
    perform(connection, rest)


def _take_events(connection: sqlite3.Connection, run_id: str, taken: Collection[str]) -> None:
    query = "SELECT events FROM task_runs WHERE id = ?"
    events = sql_records.events_of(run_id, connection.execute(query, (run_id,)).fetchone()[0])
    left = tuple(event for event in events if event.id not in taken)
    if len(left) < len(events):
        cells, _ = sql_records.columns({"events": left})
        connection.execute(
            "UPDATE task_runs SET events = ? WHERE id = ?", (cells["events"], run_id)
        )


def amend(
    connection: sqlite3.Connection, rows: Rows, old: TaskRun, amendment: Amendment
) -> TaskRun:
    """Write an amendment; raises `RunChangedError`."""
    run = rows.existing_run(connection, old.id)
    if fence(run) != fence(old):
        raise RunChangedError
    for call in amendment.updated:
        perform(connection, sqlite_rows.drop_payloads(run.id, call.id, sql_records.TREES))
        perform(connection, sqlite_rows.update_call(call, sql_records.changes(None, call)))
    for number in amendment.dropped:
        perform(connection, sqlite_rows.drop_call(run.id, number))
    return change_run(connection, run, sql_records.changes(old, amendment.run))


def change_run(connection: sqlite3.Connection, run: TaskRun, changed: Mapping[str, Any]) -> TaskRun:
    """Give a run other values in some fields, whoever drives it."""
    new = evolve(run, **changed)
    perform(connection, sqlite_rows.drop_payloads(run.id, run.id, changed))
    perform(connection, sqlite_rows.update_run(new, changed, None))
    return new


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


def renew(connection: sqlite3.Connection, run_id: str, token: str, until: str) -> int:
    """Prolong a lease; returns the number of answers."""
    statement = "UPDATE task_runs SET lease_until = ? WHERE id = ? AND lease_token = ?"
    if connection.execute(statement, (until, run_id, token)).rowcount != 1:
        raise lost(connection, run_id)
    query = "SELECT answers FROM task_runs WHERE id = ?"
    answers: int = connection.execute(query, (run_id,)).fetchone()[0]
    return answers


def delete_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Remove a run, what belongs to it, and its program if no other run has it."""
    query = "SELECT program, lease_token FROM task_runs WHERE id = ?"
    row = connection.execute(query, (run_id,)).fetchone()
    if row is None:
        raise RunNotFoundError(f"there is no run {run_id[:80]}")
    if row[1] is not None:
        raise RunBusyError(_busy(run_id))
    connection.execute("DELETE FROM task_runs WHERE id = ?", (run_id,))
    connection.execute(f"{_DROP_PROGRAMS} AND digest = ?", (row[0],))


def delete_task(connection: sqlite3.Connection, name: str) -> int:
    """Remove a task, its runs and the programs that no other run has."""
    query = "SELECT id FROM task_runs WHERE task_identifier = ? AND lease_token IS NOT NULL"
    if busy := connection.execute(query, (name,)).fetchone():
        raise RunBusyError(_busy(f"{busy[0]} of {name}"))
    if not connection.execute("DELETE FROM task_functions WHERE identifier = ?", (name,)).rowcount:
        raise TaskNotFoundError(f"there is no task {name}")
    removed = connection.execute("DELETE FROM task_runs WHERE task_identifier = ?", (name,))
    connection.execute(_DROP_PROGRAMS)
    return removed.rowcount


def _busy(run: str) -> str:
    return (
        f"run {run} is being driven: wait until it is done; if its worker has died, "
        "`sequential-ecosystem resume` it first"
    )
