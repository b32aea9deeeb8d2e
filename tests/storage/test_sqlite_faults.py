"""A failure at any statement: nothing of what was to be done is done, and it can be done again."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Amendment, Commit, Snapshot, Status, evolve
from sequential.errors import StorageError
from sequential.storage.base import StorageAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import (
    LATER,
    NOW,
    SOON,
    answer,
    delivered,
    new_call,
    new_run,
)
from support import failing_sqlite
from support.failing_sqlite import Failing

LARGE = {"text": "x" * 100_000}
RUN = new_run(events=(answer(1), answer(2)), answers=2)
DRIVEN = new_run(1, status=Status.RUNNING, lease_token="token", lease_until=LATER, turn=1)
TASKS = [RUN.task_identifier]


@pytest.fixture
async def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteAdapter]:
    monkeypatch.setattr(sqlite3, "connect", failing_sqlite.connect)
    monkeypatch.setattr(Failing, "fails_at", 0)
    adapter = SqliteAdapter(tmp_path / "workflow.db")
    await adapter.init()
    yield adapter
    await adapter.close()


async def fill(adapter: StorageAdapter) -> None:
    for run in (RUN, DRIVEN):
        await adapter.create_task_run(run)
        for number in range(3):
            await adapter.create_stack_run(new_call(run, number, input=LARGE))


async def state(adapter: StorageAdapter) -> Any:
    runs = [await adapter.get_task_run(run.id) for run in (RUN, DRIVEN)]
    return (
        runs,
        await adapter.query_stack_runs(),
        [await adapter.get_log(run.id) for run in (RUN, DRIVEN)],
        [await adapter.get_snapshot(run.id) for run in (RUN, DRIVEN)],
        await adapter.list_keystore(),
        await adapter.list_documents("tokens"),
    )


async def amend(adapter: StorageAdapter) -> None:
    one = delivered(new_call(RUN, 0), 2, result=LARGE)
    two = new_call(RUN, 1, attempts=4)
    changed = evolve(RUN, status=Status.SUSPENDED, result=LARGE, code="changed")
    await adapter.amend(RUN, Amendment(changed, (one, two), (2,)))


async def commit(adapter: StorageAdapter) -> None:
    parked = evolve(DRIVEN, turn=2, status=Status.SUSPENDED, lease_token=None, result=LARGE)
    calls = (new_call(DRIVEN, 3), new_call(DRIVEN, 4, input=LARGE))
    done = (delivered(new_call(DRIVEN, 0), 2, result=LARGE),)
    snapshot = Snapshot(DRIVEN.id, 2, b"state")
    await adapter.commit(Commit(parked, "token", calls, done, "text", snapshot, ("event-1",)))


async def take(adapter: StorageAdapter) -> None:
    step = evolve(DRIVEN, turn=2)
    await adapter.commit(Commit(step, "token", (new_call(DRIVEN, 3),), taken=("event-1",)))


OPERATIONS: dict[str, Callable[[StorageAdapter], Awaitable[Any]]] = {
    "create": lambda adapter: adapter.create_task_run(new_run(7, input=LARGE, code="another")),
    "amend": amend,
    "commit": commit,
    "take": take,
    "answer": lambda adapter: adapter.answer(DRIVEN.id, answer(3), SOON),
    "claim": lambda adapter: adapter.claim(RUN.id, "token", NOW, SOON),
    "claim due": lambda adapter: adapter.claim_due("token", SOON, LATER, 3, TASKS),
    "renew": lambda adapter: adapter.renew(DRIVEN.id, "token", SOON),
    "release": lambda adapter: adapter.release(DRIVEN.id, "token"),
    "delete run": lambda adapter: adapter.delete_task_run(RUN.id),
    "delete call": lambda adapter: adapter.delete_stack_run(f"{RUN.id}:1"),
    "set key": lambda adapter: adapter.set_keystore("key", "value"),
    "put document": lambda adapter: adapter.put_document("tokens", "a", LARGE, if_version=0),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_failure_at_any_statement_changes_nothing(
    adapter: SqliteAdapter, name: str
) -> None:
    operation = OPERATIONS[name]
    await fill(adapter)
    before = await state(adapter)
    for number in range(1, 100):
        Failing.fails_at = number
        try:
            await operation(adapter)
            break
        except StorageError:
            assert await state(adapter) == before, number
    Failing.fails_at = 0
    assert 3 <= number - 1 < 40  # begin, commit, and at least one more
    reference = MemoryAdapter()
    await fill(reference)
    await operation(reference)
    assert await state(adapter) == await state(reference)
    rows = await adapter.database.read(
        lambda conn: conn.execute("PRAGMA foreign_key_check").fetchall()
    )
    assert rows == []
