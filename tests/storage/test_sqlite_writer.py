"""Group commit: what queues up goes together, what fails by itself fails alone."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import CallStatus, Commit, Frame, TaskRun, evolve
from sequential.errors import (
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    StorageError,
    ValueNotSupportedError,
)
from sequential.storage import sqlite_writer
from sequential.storage.sqlite import SqliteAdapter
from sequential.storage.sqlite_schema import connect, open_database
from sequential.storage.sqlite_writer import Writer
from sequential.testing.storage_contract import LATER, NOW, SOON, new_call, new_run


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    path = tmp_path / "workflow.db"
    writer = Writer(lambda: open_database(path, "workflow.db"))
    await writer.start()
    yield writer
    await writer.close()


def put(key: str, seen: list[str] | None = None) -> Any:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO keystore VALUES (?, '', '', '')", (key,))
        if seen is not None:
            seen.append(key)
        (changes,) = connection.execute("SELECT count(*) FROM keystore").fetchone()
        return int(changes)

    return work


def keys(tmp_path: Path) -> list[str]:
    connection = connect(tmp_path / "workflow.db", for_reading=True)
    try:
        return [row[0] for row in connection.execute("SELECT key FROM keystore ORDER BY key")]
    finally:
        connection.close()


async def hold(writer: Writer) -> threading.Event:
    """Have the writer wait inside of a transaction, so that the next items queue up."""
    started, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(_: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(started.set)
        go.wait(10)

    writer.submit(wait)
    await started.wait()
    return go


async def test_what_queues_up_is_one_transaction(tmp_path: Path, writer: Writer) -> None:
    statements: list[str] = []
    await writer.submit(lambda connection: connection.set_trace_callback(statements.append))
    go = await hold(writer)
    futures = [writer.submit(put(f"{number:02}")) for number in range(20)]
    go.set()
    assert await asyncio.gather(*futures) == [*range(1, 21)]
    assert sum(s.startswith("INSERT") for s in statements) == 20
    assert statements.count("BEGIN IMMEDIATE") == 2  # that of the one who waits, and theirs
    assert len(keys(tmp_path)) == 20


async def test_one_that_fails_takes_nobody_with_it(tmp_path: Path, writer: Writer) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        put("half")(connection)
        raise KeyError("on purpose")

    go = await hold(writer)
    futures = [writer.submit(work) for work in (put("a"), fail, put("a"), put("b"))]
    go.set()
    one, two, three, four = await asyncio.gather(*futures, return_exceptions=True)
    assert (one, four) == (1, 2)
    assert isinstance(two, KeyError)
    assert isinstance(three, sqlite3.IntegrityError)
    assert keys(tmp_path) == ["a", "b"]


async def test_a_failing_commit_fails_all(tmp_path: Path, writer: Writer) -> None:
    def defer(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        connection.execute("INSERT INTO snapshots VALUES ('nobody', 1, x'')")

    go = await hold(writer)
    futures = [writer.submit(work) for work in (put("a"), defer, put("b"))]
    go.set()
    errors = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(error) for error in errors] == [sqlite3.IntegrityError] * 3
    assert keys(tmp_path) == []
    assert await writer.submit(put("c")) == 1


async def test_closing_finishes_what_is_queued(tmp_path: Path, writer: Writer) -> None:
    futures = [writer.submit(put(str(number))) for number in range(9)]
    await writer.close()
    await asyncio.gather(*futures)
    assert len(keys(tmp_path)) == 9
    with pytest.raises(StorageError, match="closed"):
        writer.submit(put("x"))
    await writer.close()


async def test_a_caller_that_leaves_disturbs_nobody(tmp_path: Path, writer: Writer) -> None:
    go = await hold(writer)
    futures = [writer.submit(put(key)) for key in "abc"]
    futures[1].cancel()
    go.set()
    await asyncio.gather(futures[0], futures[2])
    assert keys(tmp_path) == ["a", "b", "c"]


async def adapter_on(tmp_path: Path) -> SqliteAdapter:
    adapter = SqliteAdapter(tmp_path / "workflow.db")
    await adapter.init()
    return adapter


CLAIMS: dict[str, Callable[[SqliteAdapter, TaskRun], Awaitable[Any]]] = {
    "claim": lambda adapter, run: adapter.claim(run.id, "one", NOW, LATER),
    "claim_due": lambda adapter, run: adapter.claim_due("one", NOW, LATER, 9),
}


@pytest.mark.parametrize("name", CLAIMS)
async def test_a_claim_that_is_cancelled_leaves_no_lease(tmp_path: Path, name: str) -> None:
    adapter = await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run())
    go = await hold(adapter.database.opened().writer)
    claiming = asyncio.ensure_future(CLAIMS[name](adapter, run))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    go.set()
    for _ in range(500):
        try:
            run = await adapter.claim(run.id, "two", NOW, LATER)
            break
        except RunBusyError:  # the first claim was performed, and is given back
            await asyncio.sleep(0.01)
    assert run.lease_token == "two"
    await adapter.close()


async def test_what_others_write_during_a_commit_is_not_taken_as_known(tmp_path: Path) -> None:
    """The commit that comes next writes all of its record, and not what differs from the last."""
    adapter = await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, LATER)
    where = Frame("code.py", 7)
    go = await hold(adapter.database.opened().writer)
    run = evolve(run, turn=1, where=where)
    committing = asyncio.ensure_future(adapter.commit(Commit(run, "token")))
    await asyncio.sleep(0)  # it is queued, and this behind it
    changing = asyncio.ensure_future(adapter.update_task_run(run.id, where=None, priority=3))
    await asyncio.sleep(0)
    go.set()
    await committing
    assert (await changing).where is None
    await adapter.commit(Commit(evolve(run, turn=2), "token"))
    assert await adapter.get_task_run(run.id) == evolve(run, turn=2)
    await adapter.close()


async def test_closing_gives_leases_back(tmp_path: Path) -> None:
    adapter, other = await adapter_on(tmp_path), await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run())
    await adapter.claim(run.id, "one", NOW, LATER)
    await adapter.close()
    assert (await other.claim(run.id, "two", NOW, LATER)).lease_token == "two"
    with pytest.raises(StorageError, match="not open"):
        await adapter.get_task_run(run.id)
    await adapter.init()  # a closed adapter can be opened again
    assert await adapter.get_task_run(run.id)
    await adapter.close()
    await adapter.close()
    await other.close()


async def test_steps_write_only_what_they_changed(tmp_path: Path) -> None:
    adapter = await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run(input={"text": "x" * 100_000}))
    run = await adapter.claim(run.id, "token", NOW, SOON)
    call = new_call(run, 0, input={"text": "y" * 100_000})
    await adapter.commit(Commit(run := evolve(run, turn=1), "token", (call,)))
    statements: list[str] = []
    await adapter.database.opened().writer.submit(
        lambda conn: conn.set_trace_callback(statements.append)
    )
    done = evolve(call, attempts=1, delivered_turn=2)
    await adapter.commit(Commit(evolve(run, turn=2), "token", updated=(done,)))
    written = [s for s in statements if s.startswith(("INSERT", "UPDATE"))]
    assert len(written) == 2
    moved = f""""wake_at" = NULL, "updated_at" = '{NOW}'"""
    assert f'SET "turn" = 2, {moved} WHERE' in written[0]
    assert 'SET "attempts" = 1, "delivered_turn" = 2 WHERE' in written[1]
    await adapter.close()


async def test_what_is_loaded_while_it_changes_is_not_taken_as_known(tmp_path: Path) -> None:
    """A status that goes there and back again is the same object, and still has to be written."""
    adapter = await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    call = new_call(run, 0)
    await adapter.commit(Commit(run, "token", (call,)))
    gate = threading.Event()
    load = adapter._rows.undelivered

    def slow(*arguments: Any) -> Any:
        found = load(*arguments)
        gate.wait(10)
        return found

    adapter._rows.undelivered = slow  # type: ignore[method-assign, assignment]
    loading = asyncio.ensure_future(adapter.load_calls(run.id))
    await asyncio.sleep(0.05)
    waiting = evolve(call, status=CallStatus.PENDING)
    await adapter.commit(Commit(run, "token", updated=(waiting,)))
    gate.set()
    assert await loading == [call]
    await adapter.commit(Commit(run, "token", updated=(call,)))
    assert await adapter.get_stack_run(call.id) == call
    await adapter.close()


async def test_a_lost_commit_is_forgotten(tmp_path: Path) -> None:
    """After a failure nothing is taken as written: the next commit writes it all."""
    adapter = await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    missing = new_call(run, 7)
    with pytest.raises(StorageError, match="there is no call"):
        await adapter.commit(Commit(evolve(run, turn=1), "token", updated=(missing,)))
    assert await adapter.get_task_run(run.id) == run
    await adapter.commit(Commit(evolve(run, turn=1), "token"))
    assert await adapter.get_task_run(run.id) == evolve(run, turn=1)
    with pytest.raises(LeaseLostError):
        await adapter.commit(Commit(run, "another"))
    await adapter.close()


async def test_text_that_is_no_unicode_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    adapter = await adapter_on(tmp_path)
    for changes in ({"input": "\ud800"}, {"updated_at": "\ud800"}, {"code": "\ud800"}):
        with pytest.raises(ValueNotSupportedError, match="half of a surrogate pair"):
            await adapter.create_task_run(evolve(new_run(), **changes))
    assert await adapter.query_task_runs() == []
    run = await adapter.create_task_run(new_run())
    with pytest.raises(RunExistsError):
        await adapter.create_task_run(run)
    with pytest.raises(StorageError, match="does not fit"):
        await adapter.update_task_run(run.id, turn=2**70)
    await adapter.close()


@pytest.mark.parametrize("name", ["x", "id; DROP TABLE task_runs", 'turn" = 1 --', "program"])
async def test_a_field_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    adapter = await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run())
    fields: dict[str, Any] = {name: 1}
    for attempt in (
        adapter.query_task_runs(**fields),
        adapter.query_stack_runs(**fields),
        adapter.update_task_run(run.id, **fields),
        adapter.update_stack_run(f"{run.id}:0", **fields),
    ):
        with pytest.raises(StorageError, match="has no field"):
            await attempt
    assert await adapter.query_task_runs() == [run]
    await adapter.close()


async def test_what_sql_cannot_compare_is_compared_here(tmp_path: Path) -> None:
    adapter = await adapter_on(tmp_path)
    runs = [await adapter.create_task_run(new_run(i, input={"n": i % 2})) for i in range(6)]
    assert await adapter.query_task_runs(input={"n": 1}, limit=2) == [runs[5], runs[3]]
    assert await adapter.query_task_runs(code=runs[0].code, status="pending") == runs[::-1]
    assert await adapter.query_task_runs(config=runs[0].config, id=runs[2].id) == [runs[2]]
    many = [f"task{i}" for i in range(70_000)]
    assert await adapter.query_task_runs(task_identifier=[*many, "my-task"], limit=1) == [runs[5]]
    assert await adapter.query_task_runs(error=None, wake_at=[None, NOW], limit=1) == [runs[5]]
    await adapter.close()


async def test_a_forked_process_opens_its_own(tmp_path: Path) -> None:
    adapter = await adapter_on(tmp_path)
    run = await adapter.create_task_run(new_run())
    opened = adapter.database.opened()
    # As a forked process would find it.
    adapter.database._opened = opened._replace(process=opened.process + 1)
    with pytest.raises(StorageError, match="open it again"):
        await adapter.get_task_run(run.id)
    await adapter.close()  # leaves the parent's files alone
    adapter.database._opened = opened
    assert await adapter.get_task_run(run.id) == run
    await adapter.close()


async def test_a_write_that_is_alone_is_committed_when_it_returns(
    writer: Writer, tmp_path: Path
) -> None:
    threads = []

    def work(connection: sqlite3.Connection) -> None:
        threads.append(threading.current_thread())
        put("a")(connection)

    done = writer.submit_alone(work)
    assert done.done()
    assert keys(tmp_path) == ["a"]
    assert threads == [threading.main_thread()]


async def test_a_write_that_is_not_alone_waits_for_its_turn(writer: Writer, tmp_path: Path) -> None:
    go = await hold(writer)
    seen: list[str] = []
    done = writer.submit_alone(put("a", seen))
    assert not done.done()
    go.set()
    await done
    assert (seen, keys(tmp_path)) == (["a"], ["a"])


async def test_another_process_that_writes_does_not_hold_up_the_event_loop(
    writer: Writer, tmp_path: Path
) -> None:
    other = connect(tmp_path / "workflow.db")
    other.execute("BEGIN IMMEDIATE")
    done = writer.submit_alone(put("a"))
    assert not done.done()
    other.execute("COMMIT")
    other.close()
    await done
    assert keys(tmp_path) == ["a"]


async def test_what_fails_alone_leaves_nothing(writer: Writer, tmp_path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        put("a")(connection)
        raise RunExistsError("no")

    with pytest.raises(RunExistsError):
        await writer.submit_alone(fail)
    await writer.submit_alone(put("b"))
    assert keys(tmp_path) == ["b"]


async def test_a_slow_disk_is_left_to_the_thread_for_a_while(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "QUICK", 0.0)
    assert writer.submit_alone(put("a")).done()
    monkeypatch.undo()
    second = writer.submit_alone(put("b"))
    assert not second.done()
    await second
    assert keys(tmp_path) == ["a", "b"]
