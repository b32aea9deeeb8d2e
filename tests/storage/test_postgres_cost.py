"""What does not grow: the rows that the server reads are counted, and its plans are looked at.

The connection that is looked at has made its plans while the tables were empty.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.pq import ExecStatus

from sequential.core.model import (
    Amendment,
    CallStatus,
    Commit,
    RunEvent,
    Snapshot,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.storage.postgres import PostgresAdapter, create
from sequential.storage.postgres_line import Cells, Question
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run
from support.postgres_server import PostgresServer

MANY = 10_000


class Counting(PostgresAdapter):
    """A store on one connection that counts the rows it reads, by table."""

    def __init__(self, url: str) -> None:
        super().__init__(create(url, listen=False).address)
        self.connection = psycopg.connect(url.partition("&schema")[0])
        self.rows: dict[str, int] = {}

    async def _ask(self, question: Question, cells: Cells) -> bytes | None:
        with self.connection.transaction():
            before = self.count()
            result = self.connection.pgconn.exec_params(question.text, cells, question.types)
            assert result.status == ExecStatus.TUPLES_OK, result.get_error_message()
            after = self.count()
        self.rows = {name: after[name] - before.get(name, 0) for name in after}
        self.rows = {name: count for name, count in self.rows.items() if count}
        return result.get_value(0, 0)

    def count(self) -> dict[str, int]:
        counted = self.connection.execute(
            "select relname, seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables "
            "where schemaname = %s and seq_tup_read + idx_tup_fetch > 0",
            [self.address.options.schema],
        )
        return dict(counted.fetchall())

    async def reads(self, operation: Any) -> dict[str, int]:
        await operation
        return self.rows


@pytest.fixture
async def store(postgres: PostgresServer, postgres_url: str) -> Any:
    """A store with many runs, one of which has many calls."""
    adapter = Counting(postgres_url)
    await adapter.init()
    for number in range(8):  # by then every statement has its plan
        await drive(adapter, new_run(number, config=TaskConfig("my-task", concurrency=100)))
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"set search_path = {adapter.address.options.schema}".encode())
        fill(connection)
    yield adapter
    await adapter.close()
    adapter.connection.close()


async def drive(adapter: PostgresAdapter, run: TaskRun) -> None:
    await adapter.create_task_run(run)
    claimed = await adapter.claim(run.id, "token", NOW, LATER)
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (new_call(run, 0),), log="x"))
    done = delivered(new_call(run, 0), 2)
    run = evolve(claimed, turn=2, status=Status.SUSPENDED, lease_token=None, wake_at=SOON)
    await adapter.load_calls(run.id, 1)
    await adapter.renew(run.id, "token", LATER)
    await adapter.commit(Commit(run, "token", (), (done,), "x", Snapshot(run.id, 2, b"s")))
    await adapter.amend(run, Amendment(evolve(run, answers=1, priority=1)))
    for claimed in await adapter.claim_due("token", LATER, "2027", 3, ["my-task"]):
        await adapter.release(claimed.id, "token")
    await adapter.next_wakeup(NOW)
    await adapter.next_wakeup(NOW, ["my-task"])
    await adapter.delete_task_run(run.id)


def fill(connection: "psycopg.Connection[Any]") -> None:
    """Runs that wait for a day to come and runs that are over, and one run with many calls."""
    connection.execute("insert into programs values ('p', 'code.py', '{\"name\":\"\"}', '', 100)")
    for status, wake_at in (("suspended", "2099-01-01T00:00:00.000Z"), ("completed", None)):
        connection.execute(
            "insert into task_runs (id, task_identifier, status, created_at, updated_at, wake_at, "
            "program) select gen_random_uuid(), 'my-task', %s, '', '', %s, 'p' "
            "from generate_series(1, %s)",
            [status, wake_at, MANY],
        )
    connection.execute(
        "insert into task_runs (id, task_identifier, status, lease_token, lease_until, created_at, "
        "updated_at, program) values ('many', 'my-task', 'running', 'token', '2099', '', '', 'p')"
    )
    connection.execute(
        "insert into stack_runs (id, task_run_id, operation, status, created_at, updated_at, "
        "sequence, fingerprint, requested_turn, delivered_turn, delivered_order) "
        "select 'many:' || n, 'many', 'http.fetch', 'completed', '', '', n, '', n, n, 0 "
        "from generate_series(0, 4999) n"
    )


async def test_the_search_for_work_reads_what_is_due(store: Counting) -> None:
    assert await store.reads(store.wakeups(LATER)) == {}
    assert await store.reads(store.wakeups(LATER, 10, ["my-task"], ["b"])) == {}
    assert await store.reads(store.claim_due("token", LATER, "2027", 10)) == {}
    due = [await store.create_task_run(new_run(number, priority=number)) for number in range(50)]
    assert sum((await store.reads(store.wakeups(LATER, 5))).values()) <= 5
    claimed = await store.claim_due("token", LATER, "2027", 5)
    assert [run.id for run in claimed] == [run.id for run in due[:-6:-1]]
    assert store.rows["task_runs"] <= 5 * 8  # each is found, locked, taken, and given out


async def test_the_next_time_is_the_first_of_an_index(store: Counting) -> None:
    assert (await store.reads(store.next_wakeup(NOW))).get("task_runs", 0) <= 2
    assert (await store.reads(store.next_wakeup(NOW, ["my-task", "b"]))).get("task_runs", 0) <= 3


async def test_a_page_of_documents_reads_that_page(store: Counting) -> None:
    for number in range(8):
        await store.put_document("log", f"{number}", number)
        await store.list_documents("log", after="3", limit=2)
    schema = store.address.options.schema
    store.connection.execute(
        f"insert into {schema}.documents select 'log', 'k' || n, '1', 1 "
        f"from generate_series(1, {MANY}) n".encode()
    )
    store.connection.commit()
    pages: list[dict[str, Any]] = [{}, {"after": "k5"}, {"after": "k5", "newest": True}]
    for page in [*pages, {"newest": True}]:
        assert (await store.reads(store.list_documents("log", limit=5, **page)))["documents"] <= 5
    assert (await store.reads(store.get_document("log", "k77")))["documents"] == 1
    assert (await store.reads(store.put_document("log", "k77", 2)))["documents"] <= 1
    assert (await store.reads(store.prune_documents("log", "k10")))["documents"] <= 30


async def test_a_claim_counts_what_is_driven_only(store: Counting) -> None:
    config = TaskConfig("my-task", concurrency=5)
    run = await store.create_task_run(new_run(config=config))
    assert (await store.reads(store.claim(run.id, "token", NOW, LATER)))["task_runs"] <= 6


async def test_a_step_costs_the_same_after_5000_calls(store: Counting) -> None:
    run = await store.get_task_run("many")
    assert run
    call = new_call(run, 5000)
    run = evolve(run, turn=5000)
    rows = await store.reads(store.commit(Commit(run, "token", (call,), log="x")))
    assert sum(rows.values()) <= 8
    step = Commit(evolve(run, turn=5001), "token", updated=(delivered(call, 5001),))
    rows = await store.reads(store.commit(step))
    assert sum(rows.values()) <= 8
    rows = await store.reads(store.load_calls("many", 4998))
    assert rows["stack_runs"] == 2
    event = RunEvent("e", "approved", NOW)
    rows = await store.reads(store.answer("many", event, NOW))
    assert sum(rows.values()) <= 12


async def test_lists_read_a_page(store: Counting) -> None:
    store.connection.execute("analyze")  # as the server does by itself after a minute
    store.connection.commit()
    before = "f0000000"
    for filters in ({"status": "completed"}, {"task_identifier": "my-task"}, {}):
        found = store.query_task_runs(limit=20, before=before, **filters)
        assert (await store.reads(found))["task_runs"] <= 20 * 3
    parent = await store.create_task_run(new_run(1))
    child = await store.create_task_run(new_run(2, parent_run_id=parent.id))
    assert await store.query_task_runs(parent_run_id=parent.id) == [child]
    assert store.rows["task_runs"] <= 4


async def test_pending_calls_are_found_by_an_index(store: Counting) -> None:
    run = await store.create_task_run(new_run())
    call = await store.create_stack_run(new_call(run, 0, status=CallStatus.PENDING))
    assert await store.get_pending_stack_runs() == [call]
    assert store.rows["stack_runs"] <= 2


@pytest.fixture
def plan(postgres: PostgresServer, store: Counting) -> Iterator[str]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"set search_path = {store.address.options.schema}".encode())
        connection.execute("analyze")
        row = connection.execute("select _due('for update skip locked')").fetchone()
        assert row
        query = row[0].replace("$1", f"'{LATER}'").replace("$2", "10")
        query = query.replace("$3", "null::text[]").replace("$4", "'{}'::text[]")
        explained = connection.execute(f"explain (format json) {query}".encode()).fetchone()
        assert explained
        yield msgspec.json.encode(explained[0]).decode()


def test_what_can_begin_at_once_is_not_sorted(plan: str) -> None:
    assert "Seq Scan" not in plan
    used = set(re.findall(r'"Index Name":"task_runs_(\w+)"', plan))
    assert used <= {"ready", "wakes", "task_wakes", "leased", "task_leased"}
    assert "ready" in used
    # One sort for each of the other two parts, and one for the result.
    assert plan.count('"Node Type":"Sort"') + plan.count('"Node Type":"Incremental Sort"') == 3


async def test_a_driven_run_is_rewritten_without_touching_an_index(
    postgres: PostgresServer, store: Counting
) -> None:
    run = await store.create_task_run(new_run())
    run = await store.claim(run.id, "token", NOW, LATER)
    query = (
        "select n_tup_hot_upd, n_tup_upd from pg_stat_xact_user_tables "
        "where schemaname = %s and relname = 'task_runs'"
    )
    with store.connection.transaction():
        before = store.connection.execute(query, [store.address.options.schema]).fetchone()
        for turn in range(1, 6):
            step = Commit(evolve(run, turn=turn, updated_at=SOON, wake_at=LATER), "token")
            await store.commit(step)
        counted = store.connection.execute(query, [store.address.options.schema]).fetchone()
    assert counted
    assert before
    assert [new - old for new, old in zip(counted, before, strict=True)] == [5, 5]
