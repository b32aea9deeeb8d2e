"""The SQL for Supabase: what it makes, whom it lets in, and that it may be applied at any time."""

import asyncio
import contextlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sequential.core.model import Commit, evolve
from sequential.errors import ConfigError, StorageError
from sequential.storage import postgres_schema, supabase_migration
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter
from sequential.storage.supabase import create
from sequential.storage.supabase_migration import expected, migration_sql
from sequential.testing.storage_contract import NOW, SOON, new_call, new_run
from support.supabase_project import SupabaseProject

EVERYBODY = ("anon", "authenticated", "service_role")


@pytest.fixture
def schema(supabase: SupabaseProject) -> Iterator[str]:
    """The name of one that does not exist yet."""
    name = f"t{secrets.token_hex(4)}"
    yield name
    with supabase.connect("postgres") as connection:
        connection.execute(f"drop schema if exists {name} cascade".encode())
        connection.execute(f"drop function if exists public.{name}_call(text, jsonb)".encode())


def ask(supabase: SupabaseProject, query: str, user: str = "project_owner") -> list[Any]:
    with supabase.connect(user) as connection:
        return [row[0] for row in connection.execute(query.encode()).fetchall()]


async def refusal(supabase: SupabaseProject, schema: str) -> str:
    with pytest.raises(StorageError) as caught:
        await create_adapter("supabase", url=supabase.url, key=supabase.key, schema=schema)
    return str(caught.value)


async def test_a_project_without_the_functions_says_what_to_apply(
    supabase: SupabaseProject, schema: str
) -> None:
    message = await refusal(supabase, schema)
    assert f"the functions of the schema {schema} are not there" in message
    command = f"python -m sequential.storage.supabase_migration {schema}"
    assert f"apply the SQL of `{command}`" in message
    done = subprocess.run(
        [sys.executable, *command.split()[1:]], capture_output=True, check=True, text=True
    )
    assert done.stdout == migration_sql(schema)
    supabase.apply(done.stdout)
    adapter = await opened(supabase, schema)
    run = await adapter.create_task_run(new_run())
    await adapter.claim(run.id, "token", NOW, SOON)
    await adapter.close()
    assert ask(supabase, f"select status from {schema}.task_runs") == ["running"]


async def opened(supabase: SupabaseProject, schema: str) -> StorageAdapter:
    """The store, as soon as PostgREST knows of it."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StorageError):
                return await create_adapter(
                    "supabase", url=supabase.url, key=supabase.key, schema=schema
                )


async def test_it_may_be_applied_again_while_runs_are_driven(supabase: SupabaseProject) -> None:
    adapter = create(supabase.url, key=supabase.key, patience=0.0)  # no error is passed over
    await adapter.init()
    applying = True

    async def drive(number: int) -> int:
        run = await adapter.create_task_run(new_run(number))
        run = await adapter.claim(run.id, "token", NOW, SOON)
        while applying:
            run = evolve(run, turn=run.turn + 1)
            await adapter.commit(Commit(run, "token", (new_call(run, run.turn),), log="on"))
        assert len(await adapter.get_log(run.id)) == run.turn
        return run.turn

    driven = [asyncio.create_task(drive(number)) for number in range(6)]
    for _ in range(5):
        await asyncio.to_thread(supabase.apply, migration_sql())
    applying = False
    turns = await asyncio.gather(*driven)
    await adapter.close()
    assert min(turns) > 1  # each has gone on meanwhile


async def test_functions_of_another_version_are_replaced(
    supabase: SupabaseProject, schema: str
) -> None:
    supabase.apply(migration_sql(schema))
    await (await opened(supabase, schema)).close()
    supabase.apply(f"update {schema}.installation set functions = 'others'")
    assert "not those of this version" in await refusal(supabase, schema)
    supabase.apply(migration_sql(schema))
    await (await opened(supabase, schema)).close()
    entry = ask(supabase, f"select pg_get_functiondef('public.{schema}_call'::regproc)")[0]
    supabase.apply(entry.replace(expected().entry, "another"))
    assert "not those of this version" in await refusal(supabase, schema)
    supabase.apply(migration_sql(schema))
    await (await opened(supabase, schema)).close()


async def test_tables_of_an_older_version_get_what_is_new(
    supabase: SupabaseProject, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supabase.apply(migration_sql(schema))
    adapter = await opened(supabase, schema)
    run = await adapter.create_task_run(new_run())
    await adapter.close()

    shutil.copytree(str(supabase_migration._SQL), tmp_path / "sql")
    monkeypatch.setattr(supabase_migration, "_SQL", tmp_path / "sql")
    later = expected().version + 1
    (tmp_path / "sql" / "postgres" / f"{later:04}_later.sql").write_text(
        "create table later (a text);\ninsert into later select id from task_runs;\n"
    )
    for _ in range(2):
        supabase.apply(migration_sql(schema))
    assert ask(supabase, f"select a from {schema}.later") == [run.id]
    assert ask(supabase, f"select version from {schema}.installation") == [later]
    hidden = f"select relrowsecurity from pg_class where oid = '{schema}.later'::regclass"
    assert ask(supabase, hidden) == [True]


async def test_tables_of_a_newer_version_are_left_alone(
    supabase: SupabaseProject, schema: str
) -> None:
    supabase.apply(migration_sql(schema))
    await (await opened(supabase, schema)).close()
    supabase.apply(f"update {schema}.installation set version = 99")
    assert "was made by a newer version of this program: update it" in (
        await refusal(supabase, schema)
    )
    with pytest.raises(psycopg.errors.RaiseException, match="take the SQL of the newer package"):
        supabase.apply(migration_sql(schema))
    assert ask(supabase, f"select version from {schema}.installation") == [99]


def test_a_schema_of_somebody_else_is_left_alone(supabase: SupabaseProject, schema: str) -> None:
    supabase.apply(f"create schema {schema}; create table {schema}.task_runs (mine int)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        supabase.apply(migration_sql(schema))
    assert ask(supabase, f"select count(*) from {schema}.task_runs") == [0]


@pytest.mark.parametrize("name", ["public", "pg_x", "A", "a b", 'a"b', "", "x" * 51])
def test_a_schema_cannot_have_every_name(name: str) -> None:
    with pytest.raises(ConfigError):
        migration_sql(name)


def test_it_is_the_sql_of_the_postgresql_store() -> None:
    script = migration_sql("mine")
    steps = postgres_schema.steps()
    assert expected().version == steps[-1].version
    assert all(step.text.rstrip() in script for step in steps)
    assert postgres_schema.functions() in script
    assert f"'{expected().functions}'" in postgres_schema.script("mine")


async def test_who_connects_to_the_database_uses_the_same_tables(
    supabase: SupabaseProject,
) -> None:
    through_api = await create_adapter("supabase", url=supabase.url, key=supabase.key)
    direct = await create_adapter(supabase.database("project_owner"))
    run = await through_api.create_task_run(new_run())
    claimed = await direct.claim(run.id, "token", NOW, SOON)
    assert await through_api.get_task_run(run.id) == claimed
    assert await through_api.renew(run.id, "token", SOON) == 0
    await direct.close()
    await through_api.close()


async def test_a_schema_made_by_a_connection_is_opened_to_the_api_by_the_same_script(
    supabase: SupabaseProject, schema: str
) -> None:
    direct = await create_adapter(f"{supabase.database('project_owner')}&schema={schema}")
    run = await direct.create_task_run(new_run())
    await direct.close()
    assert "are not there" in await refusal(supabase, schema)
    supabase.apply(migration_sql(schema))
    adapter = await opened(supabase, schema)
    assert await adapter.get_task_run(run.id) == run
    await adapter.close()


# --- whom it lets in -----------------------------------------------------------------------------


def test_every_table_has_row_level_security_without_a_policy(supabase: SupabaseProject) -> None:
    tables = "from pg_class where relnamespace = 'sequential'::regnamespace and relkind = 'r'"
    assert len(ask(supabase, f"select relname {tables}")) >= 8
    assert ask(supabase, f"select relname {tables} and not relrowsecurity") == []
    assert ask(supabase, "select policyname from pg_policies where schemaname = 'sequential'") == []


@pytest.mark.parametrize("role", EVERYBODY)
def test_nobody_gets_into_the_schema(supabase: SupabaseProject, role: str) -> None:
    assert ask(supabase, f"select has_schema_privilege('{role}', 'sequential', 'usage')") == [False]
    functions = (
        "select proname from pg_proc where pronamespace = 'sequential'::regnamespace "
        f"and has_function_privilege('{role}', oid, 'execute')"
    )
    assert ask(supabase, functions) == []
    tables = (
        "select relname from pg_class where relnamespace = 'sequential'::regnamespace "
        f"and relkind = 'r' and has_table_privilege('{role}', oid, "
        "'select, insert, update, delete, truncate')"
    )
    assert ask(supabase, tables) == []


def test_only_the_service_role_may_call_what_the_api_shows(supabase: SupabaseProject) -> None:
    call = "has_function_privilege('{}', 'public.sequential_call(text, jsonb)', 'execute')"
    assert [ask(supabase, f"select {call.format(role)}")[0] for role in EVERYBODY] == [
        *(False, False, True)
    ]


def test_rows_stay_hidden_from_those_who_were_let_in_by_mistake(supabase: SupabaseProject) -> None:
    supabase.apply("insert into sequential.keystore values ('name', 'value', '', '')")
    with supabase.connect("postgres") as connection:
        connection.execute("begin")
        connection.execute("grant usage on schema sequential to anon")
        connection.execute("grant all on all tables in schema sequential to anon")
        connection.execute("set local role anon")
        assert connection.execute("select count(*) from sequential.keystore").fetchone() == (0,)
        connection.execute("rollback")
    assert ask(supabase, "select count(*) from sequential.keystore") == [1]


@pytest.mark.parametrize("operation", ["_refuse", "_texts", "", "About", "no_such", "a; b", "é"])
async def test_nothing_but_operations_can_be_called(
    supabase: SupabaseProject, operation: str
) -> None:
    call = "select public.sequential_call(%s, '[]')"
    with supabase.connect() as connection, pytest.raises(psycopg.errors.UndefinedFunction):
        connection.execute(call, [operation])


def test_a_search_path_of_the_callers_changes_nothing(supabase: SupabaseProject) -> None:
    with supabase.connect() as connection:
        connection.execute("begin")
        connection.execute("create schema theirs")
        for function in ("about(jsonb)", "format(text, text)", "concat(text, text)"):
            connection.execute(
                f"create function theirs.{function} returns json language sql "
                "as $$ select '{}'::json $$".encode()
            )
        connection.execute("set local search_path = theirs, pg_catalog")
        row = connection.execute("select public.sequential_call('about', '{}')").fetchone()
        connection.execute("rollback")
    assert row
    assert row[0]["entry"] == expected().entry
