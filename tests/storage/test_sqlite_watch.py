"""Being told what happened: at once by this process, and of other processes by looking."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sequential.core.model import Commit, evolve
from sequential.errors import StorageError
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import LATER, NOW, new_run, until

LOOK = "PRAGMA data_version"
CREATE = """
import asyncio, sys
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.storage_contract import new_run

async def main():
    adapter = SqliteAdapter(sys.argv[1])
    await adapter.init()
    await adapter.create_task_run(new_run())
    await adapter.close()

asyncio.run(main())
"""


@pytest.fixture
async def adapter(tmp_path: Path) -> AsyncIterator[SqliteAdapter]:
    adapter = SqliteAdapter(tmp_path / "workflow.db")
    await adapter.init()
    yield adapter
    await adapter.close()


async def executed(adapter: SqliteAdapter) -> list[str]:
    """What the writer's connection executes from now on."""
    statements: list[str] = []

    def trace(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(statements.append)

    await adapter.database.opened().writer.look(trace)
    return statements


def ignore(_: str) -> None:
    """Somebody who watches, and does not care."""


def looks(statements: list[str], number: int) -> Callable[[], bool]:
    return lambda: statements.count(LOOK) >= number


async def test_what_another_process_writes_is_told(adapter: SqliteAdapter) -> None:
    told: list[str] = []
    await adapter.watch(told.append)
    process = subprocess.Popen([sys.executable, "-c", CREATE, adapter.path])
    await until(lambda: "" in told, 30)
    assert await asyncio.to_thread(process.wait) == 0
    assert set(told) == {""}
    assert len(await adapter.query_task_runs()) == 1


async def test_what_this_process_writes_is_told_by_its_name_alone(adapter: SqliteAdapter) -> None:
    told: list[str] = []
    await adapter.watch(told.append)
    statements = await executed(adapter)
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, LATER)
    for turn in range(5):
        await adapter.commit(Commit(evolve(run, turn=turn), "token"))
    await until(looks(statements, 3))
    assert told == [run.id]


async def test_nobody_looks_while_nobody_watches(adapter: SqliteAdapter) -> None:
    statements = await executed(adapter)
    await adapter.create_task_run(new_run())
    assert adapter._watching is None
    assert LOOK not in statements
    await adapter.watch(ignore)
    await adapter.watch(ignore)
    await until(looks(statements, 3))
    assert len([task for task in asyncio.all_tasks() if "_watch_others" in repr(task)]) == 1


async def test_a_look_locks_nothing(adapter: SqliteAdapter) -> None:
    statements = await executed(adapter)
    await adapter.watch(ignore)
    await until(looks(statements, 3))
    assert not any(statement.startswith("BEGIN") for statement in statements)
    another = sqlite3.connect(adapter.path, timeout=0, isolation_level=None)
    another.execute("BEGIN IMMEDIATE")
    seen = statements.count(LOOK)
    await until(looks(statements, seen + 2))  # nor does it wait for anybody
    another.execute("COMMIT")
    another.close()


async def test_the_looking_ends_with_the_adapter(tmp_path: Path) -> None:
    adapter = SqliteAdapter(tmp_path / "workflow.db")
    with pytest.raises(StorageError, match="not open"):
        await adapter.watch(ignore)
    await adapter.init()
    told: list[str] = []
    await adapter.watch(told.append)
    await adapter.close()
    assert [task for task in asyncio.all_tasks() if "_watch_others" in repr(task)] == []
    await adapter.init()
    await adapter.create_task_run(new_run())  # who watched the closed one is not told any more
    assert told == []
    await adapter.close()


async def test_it_goes_on_after_trouble(
    adapter: SqliteAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    await adapter.watch(told.append)
    real, tries = adapter.database.version, 0

    async def version() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StorageError("disk I/O error")
        return await real()

    monkeypatch.setattr(adapter.database, "version", version)
    other = SqliteAdapter(adapter.path)
    await other.init()
    await other.create_task_run(new_run())
    await until(lambda: tries > 3)
    await other.close()
    assert "" in told
