"""The file itself: full, read-only, damaged, half gone, of another program, of another version."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sequential.core.model import Commit, TaskConfig, TaskFunction, evolve
from sequential.errors import (
    ConfigError,
    DamagedRunError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from sequential.storage import sqlite_schema
from sequential.storage.registry import create_adapter
from sequential.storage.sqlite import SqliteAdapter, create
from sequential.storage.sqlite_schema import APPLICATION_ID, MIGRATIONS
from sequential.testing.storage_contract import LATER, NOW, SOON, new_call, new_run


async def opened(path: Path) -> SqliteAdapter:
    adapter = SqliteAdapter(path)
    await adapter.init()
    return adapter


def mount(options: str, folder: Path) -> None:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("this user may not mount")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount("size=1m", tmp_path / "disk")
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", tmp_path / "disk"], check=True)


async def test_a_full_disk_loses_nothing_and_goes_on_with_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    adapter = await opened(small_disk / "workflow.db")
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    done = []

    def step(number: int) -> Commit:
        call = new_call(run, number, input={"text": "x" * 30_000})
        return Commit(evolve(run, turn=number + 1), "token", (call,))

    async def fill() -> None:
        for number in range(100):
            await adapter.commit(step(number))
            done.append(number)

    with pytest.raises(StorageFullError, match=r"workflow\.db.*make room"):
        await fill()
    assert len(done) > 3
    calls = await adapter.load_calls(run.id)
    assert [call.sequence for call in calls] == done
    ballast.unlink()
    await adapter.commit(step(len(done)))  # the same adapter goes on
    assert len(await adapter.load_calls(run.id)) == len(done) + 1
    await adapter.close()


async def claim(path: Path, run_id: str) -> None:
    adapter = await opened(path)
    try:
        await adapter.claim(run_id, "token", NOW, SOON)
    finally:
        await adapter.close()


async def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    mount("size=4m", folder)
    try:
        adapter = await opened(folder / "workflow.db")
        run = await adapter.create_task_run(new_run())
        await adapter.close()
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with pytest.raises(StorageReadOnlyError, match=r"workflow\.db.*permission"):
            await claim(folder / "workflow.db", run.id)
        with pytest.raises(StorageReadOnlyError):
            await opened(folder / "another.db")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("content", [b"no database\n" * 100, b"SQLite format 3\0" + bytes(84)])
async def test_what_is_no_database_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "workflow.db"
    path.write_bytes(content)
    with pytest.raises(DamagedRunError, match="is damaged: file is not a database"):
        await opened(path)
    assert path.read_bytes() == content


async def a_database(path: Path, runs: int = 50) -> None:
    adapter = await opened(path)
    for number in range(runs):
        await adapter.create_task_run(new_run(number, input={"text": "x" * 3000}))
    await adapter.close()


async def test_damaged_pages_are_reported_and_nothing_is_made_up(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    await a_database(path)
    content = bytearray(path.read_bytes())
    content[4096 * 2 : -4096] = b"\xa5" * (len(content) - 4096 * 3)
    path.write_bytes(content)
    with pytest.raises(DamagedRunError, match=r"workflow\.db is damaged.*backup"):
        await claim(path, new_run().id)


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_log_without_its_database_is_kept(tmp_path: Path, is_there: bool) -> None:
    path, log = tmp_path / "workflow.db", tmp_path / "workflow.db-wal"
    adapter = await opened(path)
    run = await adapter.create_task_run(new_run())
    kept = shutil.copy(log, tmp_path / "kept")
    whole = shutil.copy(path, tmp_path / "whole")
    await adapter.close()
    shutil.copy(kept, log)
    if is_there:
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(DamagedRunError, match=r"but its log .*-wal holds commits"):
        await opened(path)
    assert log.read_bytes() == Path(kept).read_bytes()
    shutil.copy(whole, path)
    adapter = await opened(path)
    assert await adapter.get_task_run(run.id) == run
    await adapter.close()


async def test_a_reader_makes_no_new_file(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    adapter = await opened(path)
    path.rename(tmp_path / "moved.db")
    with pytest.raises(StorageError, match="unable to open"):
        await adapter.query_task_runs()
    assert not path.exists()
    await adapter.close()


async def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "workflow.db").touch()
    await (await opened(tmp_path / "workflow.db")).close()


async def test_places_that_cannot_hold_a_database(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no folder .*missing, make it first"):
        await opened(tmp_path / "missing" / "workflow.db")
    with pytest.raises(StorageError, match="is a folder"):
        await opened(tmp_path)


async def test_rows_that_somebody_has_spoilt(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    adapter = await opened(path)
    good, *bad = [await adapter.create_task_run(new_run(number)) for number in range(5)]
    call = await adapter.create_stack_run(new_call(good, 0))
    connection = sqlite3.connect(path, isolation_level=None)
    for run, column, text in zip(
        bad, ("input", "where", "status", "error"), ("{", "[]", "odd", "5"), strict=True
    ):
        connection.execute(f'UPDATE task_runs SET "{column}" = ? WHERE id = ?', (text, run.id))
    connection.execute('UPDATE stack_runs SET result = \'{"$payload":{"size":9}}\'')
    connection.close()
    assert await adapter.query_task_runs() == [good]
    for run, column in zip(bad, ("input", "where", "status", "error"), strict=True):
        with pytest.raises(DamagedRunError, match=f"{run.id} is damaged: its column {column}"):
            await adapter.get_task_run(run.id)
        with pytest.raises(DamagedRunError):
            await adapter.claim(run.id, "token", NOW, SOON)
    assert len(await adapter.damaged()) == 4
    with pytest.raises(DamagedRunError, match="its result is missing"):
        await adapter.get_stack_run(call.id)
    assert (await adapter.claim(good.id, "token", NOW, SOON)).turn == 0
    await adapter.close()


async def test_the_tables_are_those_of_the_original(tmp_path: Path) -> None:
    adapter = await opened(tmp_path / "workflow.db")
    await adapter.store_task_function(TaskFunction("hello", "x", TaskConfig("hello"), 1, NOW, NOW))
    run = await adapter.create_task_run(new_run(input={"name": "Ada"}))
    await adapter.create_stack_run(new_call(run, 0))
    connection = sqlite3.connect(tmp_path / "workflow.db")
    original = ["id", "task_identifier", "status", "input", "result", "error", "created_at"]
    row = connection.execute(f"SELECT {', '.join(original)}, updated_at FROM task_runs").fetchone()
    assert row == (run.id, "my-task", "pending", '{"name":"Ada"}', None, None, NOW, NOW)
    columns = "task_run_id, parent_stack_run_id, operation, status"
    row = connection.execute(f"SELECT {columns} FROM stack_runs").fetchone()
    assert row == (run.id, None, "http.fetch", "in_progress")
    row = connection.execute("SELECT identifier, code FROM task_functions").fetchone()
    assert row == ("hello", "x")
    assert connection.execute("SELECT key, value FROM keystore").fetchall() == []
    connection.close()
    await adapter.close()


async def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    for statement in ("CREATE TABLE users (name)", "PRAGMA application_id = 77"):
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()
        before = path.read_bytes()
        with pytest.raises(ConfigError, match="another program"):
            await opened(path)
        assert path.read_bytes() == before


async def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    await a_database(path, 1)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StorageError, match=r"written by a newer version.*update it"):
        await opened(path)


async def test_a_migration_is_done_in_full_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "workflow.db"
    adapter = await opened(path)
    run = await adapter.create_task_run(new_run())
    claimed = await adapter.claim(run.id, "token", NOW, LATER)
    add = 'ALTER TABLE task_runs ADD COLUMN "note" TEXT'
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*MIGRATIONS, (add, "CREATE TABL x")))
    with pytest.raises(StorageError, match="syntax error"):
        await opened(path)
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*MIGRATIONS, (add,)))
    others = await asyncio.gather(*(opened(path) for _ in range(4)))
    call = new_call(run, 0)
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (call,)))  # in flight meanwhile
    for other in others:
        assert await other.get_task_run(run.id) == evolve(claimed, turn=1)
        await other.close()
    await adapter.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite", "tasks.db"),
        ("sqlite:", "tasks.db"),
        ("sqlite:./workflow.db", "workflow.db"),
        ("sqlite:///workflow.db", "workflow.db"),
        ("sqlite:sub/what?.db", "sub/what?.db"),
    ],
)
async def test_names_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    adapter = await create_adapter(url)
    monkeypatch.chdir(tmp_path / "sub")
    run = await adapter.create_task_run(new_run())
    assert await adapter.get_task_run(run.id) == run
    await adapter.close()
    assert (tmp_path / path).exists()


def test_places_by_url() -> None:
    assert create("sqlite:////var/workflow.db").path == Path("/var/workflow.db")
    for url in ("sqlite://host/x.db", "sqlite://", "sqlite:///", ":memory:"):
        with pytest.raises(ConfigError):
            create(url)


def test_sqlite_is_not_imported_before_it_is_chosen() -> None:
    code = (
        "import sys, sequential.cli, sequential.runner.engine; assert 'sqlite3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_tables_made_while_one_looks_are_not_taken_for_foreign_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "workflow.db"
    connect = sqlite_schema.connect

    def watched(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(make_tables)
        return connection

    def make_tables(statement: str) -> None:
        """As another process does, between the two things that say whose a database is."""
        if "sqlite_schema" not in statement or made:
            return
        made.append(statement)
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            for step in MIGRATIONS:
                for text in step:
                    other.execute(text)
            other.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            other.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            other.execute("COMMIT")
        except sqlite3.OperationalError:  # who looks is in the way, as it should be
            pass
        finally:
            other.close()

    made: list[str] = []
    monkeypatch.setattr(sqlite_schema, "connect", watched)
    sqlite_schema.open_database(path, "workflow.db").close()
    assert made
