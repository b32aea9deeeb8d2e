"""What does not grow: query plans, and steps of SQLite's machine, are looked at, not seconds."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Amendment, Commit, Snapshot, StackRun, Status, TaskRun, evolve
from sequential.storage.sqlite import SqliteAdapter
from sequential.storage.sqlite_rows import (
    DRIVEN,
    LOAD_CALLS,
    next_wakeup_query,
    runs_query,
    wakeups_query,
)
from sequential.testing.storage_contract import (
    LATER,
    NOW,
    SOON,
    answer,
    delivered,
    new_call,
    new_run,
)


@pytest.fixture
async def adapter(tmp_path: Path) -> AsyncIterator[SqliteAdapter]:
    adapter = SqliteAdapter(tmp_path / "workflow.db")
    await adapter.init()
    yield adapter
    await adapter.close()


async def plan(adapter: SqliteAdapter, query: str, parameters: Any) -> list[str]:
    def explain(connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)
        return [row[3] for row in rows if "COMPOUND" not in row[3]]

    return await adapter.database.read(explain)


@pytest.mark.parametrize("tasks", [None, ["a", "b"]])
@pytest.mark.parametrize("without", [(), ["c"]])
async def test_work_is_found_through_indexes(
    adapter: SqliteAdapter, tasks: list[str] | None, without: Sequence[str]
) -> None:
    steps = await plan(adapter, *wakeups_query(NOW, 10, tasks, without))
    searched = [step for step in steps if "task_runs" in step]
    assert searched == [
        "SCAN task_runs USING INDEX task_runs_ready",  # in order, to the limit
        "SEARCH task_runs USING INDEX task_runs_timed (wake_at<?)",
        "SEARCH task_runs USING INDEX task_runs_leased (lease_until<?)",
        "SEARCH task_runs USING INDEX task_runs_leased (lease_until=?)",
    ]


async def test_what_can_begin_at_once_is_not_sorted(adapter: SqliteAdapter) -> None:
    steps = await plan(adapter, *wakeups_query(NOW, 10))
    ready = steps.index("SCAN task_runs USING INDEX task_runs_ready")
    assert steps[ready - 1 : ready + 2] == [
        "CO-ROUTINE (subquery-1)",
        "SCAN task_runs USING INDEX task_runs_ready",
        "SCAN (subquery-1)",
    ]


@pytest.mark.parametrize("tasks", [None, ["a"], ["a", "b"]])
async def test_the_next_time_is_the_first_of_an_index(
    adapter: SqliteAdapter, tasks: list[str] | None
) -> None:
    steps = await plan(adapter, *next_wakeup_query(NOW, tasks))
    assert steps == ["SEARCH task_runs USING INDEX task_runs_timed (wake_at>?)"]


async def test_what_is_driven_of_a_task_is_counted_in_an_index(adapter: SqliteAdapter) -> None:
    (step,) = await plan(adapter, DRIVEN, ("my-task", NOW, "x"))
    index = "task_runs_driven (task_identifier=? AND lease_until>?)"
    assert step == f"SEARCH task_runs USING INDEX {index}"


async def test_calls_are_found_through_an_index(adapter: SqliteAdapter) -> None:
    steps = await plan(adapter, LOAD_CALLS, {"run": "x", "after": 3})
    assert [step for step in steps if "stack_runs" in step] == [
        "SEARCH stack_runs USING INDEX stack_runs_delivered (task_run_id=? AND delivered_turn=?)",
        "SEARCH stack_runs USING INDEX stack_runs_delivered (task_run_id=? AND delivered_turn>?)",
    ]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "autoindex"),
        ({"id": "x"}, "autoindex"),
        ({"task_identifier": "x"}, "task_runs_task"),
        ({"status": "failed"}, "task_runs_status"),
        ({"parent_run_id": "x"}, "task_runs_parent"),
    ],
)
@pytest.mark.parametrize("before", [None, "z"])
async def test_lists_are_read_in_order(
    adapter: SqliteAdapter, filters: dict[str, Any], index: str, before: str | None
) -> None:
    steps = await plan(adapter, *runs_query(filters, before))
    assert len(steps) == 1, steps  # and nothing is sorted afterwards
    assert index in steps[0]
    assert before is None or "id<?" in steps[0] or "id" in filters


async def a_long_run(adapter: SqliteAdapter, calls: int) -> TaskRun:
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    every = [delivered(new_call(run, i), i + 2, result={"text": "x" * 100}) for i in range(calls)]
    run = evolve(run, turn=calls + 1)
    await adapter.commit(Commit(run, "token", tuple(every), snapshot=Snapshot(run.id, 1, b"s")))
    await adapter.release(run.id, "token")
    return run


async def counted(adapter: SqliteAdapter, work: Callable[[], Awaitable[Any]]) -> int:
    """Steps of SQLite's machine in the connections of the adapter."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    writer, readers, _ = adapter.database.opened()
    await writer.submit(lambda connection: connection.set_progress_handler(tick, 1))
    await readers.read(lambda connection: None)  # there is one, and it is not in use
    connection = readers._idle.get_nowait()
    assert readers._idle.empty()
    connection.set_progress_handler(tick, 1)
    readers._idle.put(connection)
    count = 0
    await work()
    found = count
    connection.set_progress_handler(None, 0)
    return found


async def go_on(adapter: SqliteAdapter, run: TaskRun) -> None:
    """All that happens to a run between two times it is parked."""
    turn = run.turn
    await adapter.answer(run.id, answer(), NOW)
    (run,) = await adapter.claim_due("next", SOON, LATER, 5)
    assert await adapter.get_snapshot(run.id)
    assert len(await adapter.load_calls(run.id, turn - 2)) == 2
    assert await adapter.load_calls(run.id, turn) == []
    call: StackRun = new_call(run, turn + 5)
    run = evolve(run, turn=turn + 1)
    await adapter.commit(Commit(run, "next", (call,), taken=("event-0",)))
    assert await adapter.renew(run.id, "next", LATER) == 1
    done = (delivered(call, turn + 2),)
    await adapter.commit(Commit(evolve(run, turn=turn + 2), "next", updated=done))
    parked = evolve(run, status=Status.SUSPENDED, lease_token=None, lease_until=None, wake_at=None)
    await adapter.commit(Commit(parked, "next"))
    assert await adapter.wakeups(NOW) == []
    assert await adapter.next_wakeup(NOW) is None
    found = await adapter.get_task_run(run.id)
    assert found
    assert found == evolve(parked, events=())
    await adapter.amend(found, Amendment(evolve(found, wake_at=LATER), dropped=(turn + 5,)))


async def test_going_on_after_20_000_calls_costs_as_much_as_after_20(tmp_path: Path) -> None:
    costs = []
    for calls in (20, 20_000):
        adapter = SqliteAdapter(tmp_path / f"{calls}.db")
        await adapter.init()
        run = await a_long_run(adapter, calls)
        costs.append(await counted(adapter, partial(go_on, adapter, run)))
        await adapter.close()
    assert 0 < costs[0] < 5000
    assert abs(costs[1] - costs[0]) < 200


async def many_runs(adapter: SqliteAdapter) -> None:
    """10,000 that sleep, 10,000 that ended, and 10,000 that others are driving."""

    def make(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO programs VALUES ('d', 'code.py', '{\"name\":\"\"}', '')")
        connection.executemany(
            "INSERT INTO task_runs (id, task_identifier, status, created_at, updated_at, wake_at, "
            "program) VALUES (?, 'my-task', ?, '', '', ?, 'd')",
            (
                (f"{number:036}", status, LATER if number % 2 else None)
                for number, status in enumerate(["suspended", "completed", "running"] * 10_000)
            ),
        )
        connection.execute("UPDATE task_runs SET lease_until = ? WHERE status = 'running'", [LATER])

    await adapter.database.write(make)


async def test_work_is_found_among_many_that_sleep(adapter: SqliteAdapter) -> None:
    await many_runs(adapter)
    due = await adapter.create_task_run(new_run(status=Status.SUSPENDED, wake_at=NOW))

    async def look() -> None:
        assert await adapter.wakeups(SOON) == [due.id]
        assert await adapter.wakeups(SOON, tasks=["other", "my-task"]) == [due.id]
        assert await adapter.wakeups(SOON, tasks=["other"]) == []
        assert await adapter.wakeups(SOON, tasks=[]) == []
        assert await adapter.wakeups(SOON, without=["other"]) == [due.id]
        assert await adapter.next_wakeup(SOON) == LATER
        assert await adapter.next_wakeup(LATER) is None
        assert [run.id for run in await adapter.claim_due("token", SOON, LATER, 10)] == [due.id]
        assert await adapter.claim_due("token", SOON, LATER, 10) == []

    assert await counted(adapter, look) < 2000


async def test_a_few_of_many_that_may_begin_are_found_without_looking_at_all(
    adapter: SqliteAdapter,
) -> None:
    def make(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO programs VALUES ('d', 'code.py', '{\"name\":\"\"}', '')")
        connection.executemany(
            "INSERT INTO task_runs (id, task_identifier, status, created_at, updated_at, program, "
            "priority) VALUES (?, 'my-task', 'pending', '', ?, 'd', ?)",
            ((f"{n:036}", f"{(n * 7919) % 10_000:05}", n % 10) for n in range(10_000)),
        )

    await adapter.database.write(make)

    async def look() -> None:
        first = (await adapter.claim_due("token", NOW, SOON, 3))[0]
        assert first.priority == 9
        assert len(await adapter.wakeups(NOW, 5)) == 5
        assert len(await adapter.query_task_runs(limit=10, before=f"{5000:036}")) == 10

    assert await counted(adapter, look) < 5000


async def test_a_list_reads_no_large_values(adapter: SqliteAdapter) -> None:
    large = {"text": "x" * 100_000}
    run = await adapter.create_task_run(new_run(input=large, result=large))
    (listed,) = await adapter.query_task_runs()
    note = {"$payload": {"size": 100_011}}
    assert (listed.input, listed.result) == (note, note)
    assert await adapter.get_task_run(run.id) == run
    small = await adapter.update_task_run(run.id, result={"$payload": {"size": 1}})
    assert await adapter.get_task_run(run.id) == small
    await adapter.update_task_run(run.id, result=None, input=1)
    count = "SELECT count(*) FROM payloads"
    assert await adapter.database.read(lambda conn: conn.execute(count).fetchone()) == (0,)


async def test_runs_share_their_program(adapter: SqliteAdapter) -> None:
    runs = [await adapter.create_task_run(new_run(i, code="#" * 50_000)) for i in range(3)]
    await adapter.create_task_run(new_run(9, code="#"))
    count = "SELECT count(*) FROM programs"
    assert await adapter.database.read(lambda conn: conn.execute(count).fetchone()) == (2,)
    assert (await adapter.query_task_runs())[1:] == runs[::-1]
