"""A database as the first version of the SQLite store wrote it, with runs in every state."""

import sqlite3
from pathlib import Path
from typing import Any

from sequential.core.model import Failure, LogLine, Snapshot, StackRun, Status, TaskRun
from sequential.storage import sql_records
from sequential.storage.sqlite_schema import APPLICATION_ID, MIGRATIONS
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run

COLUMNS = """
    id task_identifier status input result error created_at updated_at started_at ended_at turn
    where wake_at deadline crashes lease_token lease_until
""".split()
LARGE = {"text": "x" * 100_000}


def runs() -> dict[str, TaskRun]:
    """What is in it, by what they do."""
    driven = {"lease_token": "token", "lease_until": SOON, "started_at": NOW}
    suspended = {"status": Status.SUSPENDED, "turn": 1}
    return {
        "pending": new_run(0),
        "sleeping": new_run(1, wake_at=LATER, **suspended),
        "due": new_run(2, wake_at=NOW, input=LARGE, **suspended),
        "waiting": new_run(3, **suspended),
        "driven": new_run(4, status=Status.RUNNING, turn=1, **driven),
        "paused": new_run(5, status=Status.PAUSED),
        "completed": new_run(6, status=Status.COMPLETED, result=[1, 2], ended_at=NOW),
        "failed": new_run(7, status=Status.FAILED, error=Failure("ValueError", "no")),
    }


def calls(run: TaskRun) -> list[StackRun]:
    """Those of a run that has begun: one that was delivered, one that is open."""
    if run.turn == 0:
        return []
    return [delivered(new_call(run, 0), 1), new_call(run, 1, requested_turn=1)]


LOG = LogLine(NOW, "printed\n")


def snapshot(run: TaskRun) -> Snapshot:
    return Snapshot(run.id, run.turn, b"state")


def insert(connection: sqlite3.Connection, table: str, cells: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in cells)
    marks = ", ".join("?" * len(cells))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(cells.values()))


def make(path: Path) -> dict[str, TaskRun]:
    """Write it; returns its runs as they were."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN")
    for statement in MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    made = runs()
    for run in made.values():
        _insert_run(connection, run)
    insert(connection, "keystore", {"key": "k", "value": "v", "created_at": "", "updated_at": ""})
    connection.execute("COMMIT")
    connection.close()
    return made


def _insert_run(connection: sqlite3.Connection, run: TaskRun) -> None:
    program = sql_records.program(run)
    connection.execute("INSERT OR IGNORE INTO programs VALUES (?, ?, ?, ?)", program)
    cells, payloads = sql_records.columns({name: getattr(run, name) for name in COLUMNS})
    insert(connection, "task_runs", {**cells, "program": program.digest})
    for field, text in payloads.items():
        connection.execute(
            "INSERT INTO payloads VALUES (?, ?, ?, ?)", (run.id, run.id, field, text)
        )
    for call in calls(run):
        fields = {name: getattr(call, name) for name in sql_records.CALL_COLUMNS}
        insert(connection, "stack_runs", sql_records.columns(fields).cells)
    if run.turn:
        insert(connection, "logs", {"task_run_id": run.id, "at": LOG.at, "text": LOG.text})
        state = {"task_run_id": run.id, "turn": run.turn, "data": snapshot(run).data}
        insert(connection, "snapshots", state)
