"""The schema: how it comes about, changes and is shared; and what of it is shipped."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files

import psycopg
import pytest

from sequential.core.model import evolve
from sequential.errors import ConfigError, DamagedRunError, StorageError
from sequential.storage import postgres_schema, sql_turns
from sequential.storage.postgres import PostgresAdapter, create
from sequential.storage.sql_records import CALL_COLUMNS, RUN_COLUMNS
from sequential.testing.storage_contract import LATER, NOW, new_run
from support.postgres_server import PostgresServer

CLAIMED = ("status", "lease_token", "lease_until", "started_at", "updated_at")


async def opened(url: str) -> PostgresAdapter:
    adapter = create(url, listen=False)
    await adapter.init()
    return adapter


def schema_of(url: str) -> str:
    return url.rpartition("=")[2]


@pytest.fixture
def connection(postgres: PostgresServer, postgres_url: str) -> "Iterator[psycopg.Connection]":
    """The owner, at work in the schema of the test."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"set search_path = {schema_of(postgres_url)}".encode())
        yield connection


@pytest.fixture
def user(
    postgres: PostgresServer, postgres_url: str, connection: "psycopg.Connection"
) -> Iterator[str]:
    """The URL of a user without rights."""
    name = f"user_{schema_of(postgres_url)}"
    connection.execute(f"create role {name} login".encode())
    yield postgres.url_of(name, schema=schema_of(postgres_url))
    connection.execute(f"drop owned by {name} cascade".encode())
    connection.execute(f"drop role {name}".encode())


def grant(connection: "psycopg.Connection", url: str) -> None:
    schema, name = schema_of(url), url.partition("://")[2].partition("@")[0]
    connection.execute(f"grant usage on schema {schema} to {name}".encode())
    connection.execute(f"grant execute on all functions in schema {schema} to {name}".encode())


async def test_the_tables_have_the_columns_of_the_records(
    postgres_url: str, connection: "psycopg.Connection"
) -> None:
    await (await opened(postgres_url)).close()
    query = (
        "select column_name from information_schema.columns where table_schema = current_schema() "
        "and table_name = %s"
    )

    def columns(table: str) -> set[str]:
        return {name for (name,) in connection.execute(query, [table])}

    assert columns("stack_runs") == set(CALL_COLUMNS)
    assert columns("task_runs") - set(RUN_COLUMNS) == {
        *("program", "created_by", "claimed_by", "committed_by"),
        *("ready_since", "wakes_at", "leased_until"),
    }
    assert set(RUN_COLUMNS) <= columns("task_runs")
    texts = connection.execute(
        "select distinct collation_name from information_schema.columns "
        "where table_schema = current_schema() and data_type = 'text' and "
        "(column_name like '%%_at' or column_name like '%%id' "
        "or column_name in ('status', 'key', 'lease_until'))"
    )
    assert texts.fetchall() == [("C",)]


async def test_functions_are_called_with_one_json_object_and_need_no_other_right(
    postgres_url: str, connection: "psycopg.Connection"
) -> None:
    await (await opened(postgres_url)).close()
    names = ("functions", "documents", "requests")
    modules = [files("sequential.storage") / f"sql_{name}.py" for name in names]
    source = "".join(module.read_text() for module in modules)
    called = set(re.findall(r'_call\(\s*"(\w+)"', source))
    rows = connection.execute(
        "select proname, proargnames, proargtypes::regtype[]::text, prosecdef, proconfig[1], "
        "has_function_privilege('public', oid, 'execute') from pg_proc "
        "where pronamespace = current_schema()::regnamespace"
    ).fetchall()
    public = {row[0]: row[1:] for row in rows if not row[0].startswith("_")}
    path = f"search_path={schema_of(postgres_url)}, pg_temp"
    names, types, *rights = public.pop("commit_turn")  # the one that has no time for JSON
    assert types.count(",") + 1 == len(names) == len(sql_turns.TYPES)
    assert rights == [True, path, False]
    assert called | {"about"} == set(public)
    assert {str(row) for row in public.values()} == {
        str((["arguments"], "[0:0]={jsonb}", True, path, False))
    }
    parts = [row for row in rows if row[0].startswith("_")]
    assert not any(row[5] for row in parts)


async def test_a_store_of_a_newer_version_is_left_alone(
    postgres_url: str, connection: "psycopg.Connection"
) -> None:
    adapter = await opened(postgres_url)
    run = await adapter.create_task_run(new_run())
    connection.execute("update installation set version = 99, functions = 'new'")
    with pytest.raises(StorageError, match=r"newer version .*tables are version 99.*: update it"):
        await opened(postgres_url)
    assert connection.execute("select functions from installation").fetchall() == [("new",)]
    assert await adapter.get_task_run(run.id) == run
    await adapter.close()


async def test_functions_that_have_changed_are_replaced(
    postgres_url: str, connection: "psycopg.Connection", user: str
) -> None:
    await (await opened(postgres_url)).close()
    grant(connection, user)
    connection.execute("update installation set functions = 'old'")
    connection.execute("drop function wakeups")
    with pytest.raises(StorageError, match=r"has to be installed or updated.*connect once as its"):
        await opened(user)
    for adapter in [await opened(postgres_url) for _ in range(2)]:
        assert await adapter.wakeups("2027") == []
        await adapter.close()
    adapter = await opened(user)  # who might call the old ones may call the new ones
    assert await adapter.wakeups("2027") == []
    await adapter.close()


async def test_what_somebody_else_has_made_is_not_touched(
    postgres_url: str, connection: "psycopg.Connection"
) -> None:
    schema = schema_of(postgres_url)
    connection.execute(f"create schema {schema}".encode())
    connection.execute("create table task_runs (mine text)")
    with pytest.raises(ConfigError, match=r"holds something else.*choose another name"):
        await opened(postgres_url)
    tables = connection.execute("select tablename from pg_tables where schemaname = %s", [schema])
    assert tables.fetchall() == [("task_runs",)]


async def test_a_user_may_own_the_schema_only(
    postgres: PostgresServer, connection: "psycopg.Connection", user: str
) -> None:
    name = user.partition("://")[2].partition("@")[0]
    connection.execute(f"create schema {schema_of(user)} authorization {name}".encode())
    adapter = await opened(user)
    await adapter.create_task_run(new_run())
    await adapter.close()


async def test_a_row_that_was_changed_by_hand_and_cannot_be_read_is_told(
    postgres_url: str, connection: "psycopg.Connection"
) -> None:
    adapter = await opened(postgres_url)
    large = {"text": "x" * 100_000}
    bad, worse, good = [
        await adapter.create_task_run(new_run(number, input=large)) for number in range(3)
    ]
    connection.execute("update task_runs set error = '{' where id = %s", [bad.id])
    connection.execute("delete from payloads where task_run_id = %s", [worse.id])
    assert [run.id for run in await adapter.query_task_runs()] == [good.id, worse.id]
    assert len(await adapter.damaged()) == 1
    for run, column in ((bad, "error"), (worse, "input")):
        with pytest.raises(DamagedRunError, match=f"{run.id} is damaged: its (column )?{column} "):
            await adapter.claim(run.id, "token", NOW, LATER)
    claimed = await adapter.claim_due("token", LATER, "2027", 10)
    assert claimed == [evolve(good, **{name: getattr(claimed[0], name) for name in CLAIMED})]
    await adapter.close()


async def test_two_schemas_are_two_stores(postgres_url: str) -> None:
    one, two = await opened(postgres_url), await opened(postgres_url + "_two")
    run = await one.create_task_run(new_run())
    assert await two.query_task_runs() == []
    assert await one.query_task_runs() == [run]
    await one.close()
    await two.close()


async def test_the_script_does_what_opening_does(
    postgres_url: str, connection: "psycopg.Connection", user: str
) -> None:
    schema = schema_of(postgres_url)
    command = [sys.executable, "-m", "sequential.storage.postgres_schema", schema]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == postgres_schema.script(schema)
    connection.execute(printed.encode())
    grant(connection, user)
    adapter = await opened(user)  # there is nothing left to do, or it would be refused
    run = await adapter.create_task_run(new_run())
    newest = postgres_schema.steps()[-1].version
    connection.execute(postgres_schema.script(schema, since=newest).encode())
    assert await adapter.get_task_run(run.id) == run
    await adapter.close()


@pytest.mark.parametrize("by_script", [False, True])
async def test_a_store_of_the_first_version_gets_documents_and_keeps_its_runs(
    postgres_url: str,
    connection: "psycopg.Connection",
    monkeypatch: pytest.MonkeyPatch,
    by_script: bool,
) -> None:
    with monkeypatch.context() as first:
        steps = postgres_schema.steps()
        first.setattr(postgres_schema, "steps", lambda: steps[:1])
        old = await opened(postgres_url)
    run = await old.create_task_run(new_run())
    await old.set_keystore("key", "value")
    assert connection.execute("select version from installation").fetchall() == [(1,)]
    if by_script:
        script = postgres_schema.script(schema_of(postgres_url), since=1)
        connection.execute(script.encode())
        connection.execute(f"set search_path = {schema_of(postgres_url)}".encode())
    adapter = await opened(postgres_url)
    await adapter.put_document("tokens", "a", 1)
    assert await adapter.get_task_run(run.id) == run
    assert await adapter.get_keystore("key") == "value"
    assert connection.execute("select key, version from documents").fetchall() == [("a", 1)]
    assert (await old.claim(run.id, "token", NOW, LATER)).id == run.id  # who has it open goes on
    await old.close()
    await adapter.close()


async def test_many_processes_bring_it_up_to_date_at_once(
    postgres_url: str, connection: "psycopg.Connection"
) -> None:
    await (await opened(postgres_url)).close()
    connection.execute("update installation set functions = 'old'")
    adapters = await asyncio.gather(*(opened(postgres_url) for _ in range(6)))
    assert [await adapter.query_task_runs() for adapter in adapters] == [[]] * 6
    for adapter in adapters:
        await adapter.close()


def test_the_sql_is_shipped_and_needs_nothing_filled_in() -> None:
    steps = postgres_schema.steps()
    assert [step.version for step in steps] == [*range(1, len(steps) + 1)]
    assert "create or replace function commit(" in postgres_schema.functions()
    directory = files("sequential.storage") / "sql" / "postgres"
    assert (directory / "0001_tables.sql").read_text().startswith("-- The tables.")
