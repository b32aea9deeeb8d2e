"""A database of an older version is brought up to date, in full or not at all."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Commit, Status, evolve
from sequential.errors import RunBusyError, StorageError
from sequential.storage.sqlite import SqliteAdapter
from sequential.storage.sqlite_schema import MIGRATIONS
from sequential.testing.storage_contract import LATER, NOW, SOON, answer, delivered, new_call
from support import failing_sqlite, sqlite_version_1
from support.failing_sqlite import Failing


async def opened(path: Path) -> SqliteAdapter:
    adapter = SqliteAdapter(path)
    await adapter.init()
    return adapter


def content(path: Path) -> dict[str, Any]:
    """The version, the tables and all their rows."""
    connection = sqlite3.connect(path)
    schema = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    ).fetchall()
    found: dict[str, Any] = {
        name: connection.execute(f"SELECT * FROM {name}").fetchall()
        for kind, name, _ in schema
        if kind == "table"
    }
    found[""] = connection.execute("PRAGMA user_version").fetchone(), schema
    connection.close()
    return found


async def test_runs_of_the_first_version_are_kept_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    runs = sqlite_version_1.make(path)
    adapter = await opened(path)
    assert await adapter.query_task_runs(status="suspended", limit=1) == [runs["waiting"]]
    for run in runs.values():
        assert await adapter.get_task_run(run.id) == run
        assert await adapter.load_calls(run.id) == sqlite_version_1.calls(run)
    assert await adapter.get_snapshot(runs["due"].id) == sqlite_version_1.snapshot(runs["due"])
    assert await adapter.get_log(runs["due"].id) == [sqlite_version_1.LOG]
    assert await adapter.list_keystore() == ["k"]

    assert set(await adapter.wakeups(NOW)) == {runs["due"].id, runs["pending"].id}
    assert await adapter.next_wakeup(NOW) == LATER
    with pytest.raises(RunBusyError):
        await adapter.claim(runs["driven"].id, "next", NOW, LATER)
    assert runs["driven"].id in await adapter.wakeups(LATER)
    await adapter.answer(runs["waiting"].id, answer(), NOW)
    claimed = await adapter.claim_due("next", LATER, "2027", 9)
    names = ("waiting", "due", "pending", "driven", "sleeping")
    assert {run.id for run in claimed} == {runs[name].id for name in names}
    for run in claimed:
        done = tuple(delivered(call, run.turn + 1) for call in sqlite_version_1.calls(run)[1:])
        asked = (new_call(run, 7),)
        await adapter.commit(Commit(evolve(run, turn=run.turn + 1), "next", asked, done))
        assert await adapter.load_calls(run.id, run.turn + 1) == list(asked)
    await adapter.close()


async def test_a_database_of_the_second_version_gets_documents_and_keeps_all(
    tmp_path: Path,
) -> None:
    path = tmp_path / "workflow.db"
    runs = sqlite_version_1.make(path)
    old = sqlite3.connect(path, isolation_level=None)
    for statement in MIGRATIONS[1]:
        old.execute(statement)
    old.execute("PRAGMA user_version = 2")
    before = content(path)
    adapter = await opened(path)
    after = content(path)
    assert after.pop("documents") == []
    assert after.pop("")[0] == (3,)
    assert after == {name: rows for name, rows in before.items() if name}
    put = await adapter.put_document("tokens", "a", {"role": "read"}, if_version=0)
    old.execute("UPDATE task_runs SET priority = 5")  # a program of the second version goes on
    old.close()
    assert await adapter.get_document("tokens", "a") == put
    assert await adapter.get_task_run(runs["paused"].id) == evolve(runs["paused"], priority=5)
    await adapter.close()


async def test_a_worker_of_the_first_version_that_is_driving_meanwhile_can_finish(
    tmp_path: Path,
) -> None:
    path = tmp_path / "workflow.db"
    run = sqlite_version_1.make(path)["driven"]
    old = sqlite3.connect(path, isolation_level=None)
    adapter = await opened(path)
    end = (
        "UPDATE task_runs SET status = ?, result = ?, lease_token = ?, lease_until = ? WHERE id = ?"
    )
    old.execute(end, ("completed", "5", None, None, run.id))
    old.close()
    found = await adapter.get_task_run(run.id)
    await adapter.close()
    lease = {"lease_token": None, "lease_until": None}
    assert found == evolve(run, status=Status.COMPLETED, result=5, **lease)


async def test_a_failure_at_any_statement_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "workflow.db"
    runs = sqlite_version_1.make(path)
    old = content(path)
    monkeypatch.setattr(sqlite3, "connect", failing_sqlite.connect)
    left_old = 0
    for number in range(1, 100):
        monkeypatch.setattr(Failing, "fails_at", number)
        adapter = SqliteAdapter(path)
        try:
            await adapter.init()
            break
        except StorageError:
            found = content(path)
            left_old += found == old
            assert found == old or found[""][0] == (len(MIGRATIONS),), number
    monkeypatch.setattr(Failing, "fails_at", 0)
    assert left_old > len(MIGRATIONS[1])
    for run in runs.values():
        assert await adapter.get_task_run(run.id) == run
    await adapter.close()


async def test_eight_that_open_an_old_one_at_once_do_it_once(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    runs = sqlite_version_1.make(path)
    adapters = await asyncio.gather(*(opened(path) for _ in range(8)))
    for adapter in adapters:
        assert await adapter.query_task_runs(id=runs["due"].id) != []
        due = {runs[name].id for name in ("due", "pending", "driven")}
        assert set(await adapter.wakeups(SOON)) == due
        await adapter.close()
    assert content(path)[""][0] == (len(MIGRATIONS),)


async def test_old_and_new_databases_have_the_same_tables(tmp_path: Path) -> None:
    sqlite_version_1.make(tmp_path / "old.db")
    for name in ("old.db", "new.db"):
        await (await opened(tmp_path / name)).close()
    assert content(tmp_path / "old.db")[""] == content(tmp_path / "new.db")[""]
