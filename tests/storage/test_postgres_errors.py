"""What can be wrong with a server, an address or a user: one line, with a remedy, no password."""

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sequential.core.model import Commit, evolve
from sequential.errors import ConfigError, StorageError, StorageFullError, StorageReadOnlyError
from sequential.storage.postgres import create
from sequential.storage.postgres_address import parse
from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import LATER, NOW, new_call, new_run
from support.postgres_server import ASKED_FOR_PASSWORD, PostgresServer

PASSWORD = "s3cr3t%2Fword"


def perform(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def rights(schema: str, role: str) -> list[str]:
    """What docs/postgres.md tells to grant."""
    return [
        f"grant usage on schema {schema} to {role}",
        f"grant execute on all functions in schema {schema} to {role}",
    ]


@pytest.fixture
def role(postgres: PostgresServer, postgres_url: str) -> Iterator[str]:
    """A user without any rights."""
    name = "role_" + postgres_url.rpartition("=")[2]
    perform(postgres, f"create role {name} login")
    yield name
    perform(postgres, f"drop owned by {name} cascade", f"drop role {name}")


async def opening(url: str) -> str:
    """The line that an attempt to open this store ends with."""
    with pytest.raises((StorageError, ConfigError)) as caught:
        await create_adapter(url)
    text = str(caught.value)
    assert "\n" not in text
    assert "s3cr3t" not in text
    return text


async def test_a_wrong_password(postgres: PostgresServer, postgres_url: str) -> None:
    perform(
        postgres,
        f"drop role if exists {ASKED_FOR_PASSWORD}",
        f"create role {ASKED_FOR_PASSWORD} login password 'another'",
    )
    text = await opening(postgres.url_of(f"{ASKED_FOR_PASSWORD}:{PASSWORD}"))
    assert "password authentication failed" in text
    assert "correct the user or the password" in text
    text = await opening(postgres.url_of(ASKED_FOR_PASSWORD, passfile="/nowhere"))
    assert "put it into the database URL" in text


async def test_a_database_or_a_user_that_does_not_exist(postgres: PostgresServer) -> None:
    text = await opening(postgres.url_of("postgres", "elsewhere"))
    assert 'database "elsewhere" does not exist: correct the name in the database URL' in text
    assert "does not exist: correct" in await opening(postgres.url_of(f"nobody:{PASSWORD}"))


async def test_a_host_that_does_not_exist_and_one_without_a_server(tmp_path: Path) -> None:
    text = await opening(f"postgresql://user:{PASSWORD}@name.invalid/database")
    assert "cannot connect to postgresql://user@name.invalid/database: " in text
    assert "correct the host in the database URL" in text
    text = await opening(f"postgresql://user:{PASSWORD}@127.0.0.1:1/database")
    assert "Connection refused" in text
    assert "start the server, or correct host and port" in text
    assert "start the server" in await opening(f"postgresql://u@/d?host={tmp_path}")


async def test_too_many_connections(postgres: PostgresServer, role: str) -> None:
    perform(postgres, f"alter role {role} connection limit 1")
    url = postgres.url_of(role)
    with psycopg.connect(url):
        text = await opening(url)
    assert "too many connections" in text
    assert "lower `pool`" in text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:s3cr3t%zz@h/d", "cannot be read: write postgresql://user:password@"),
        ("postgresql://u:s3cr3t@h:port/d", "cannot be read"),
        ("postgresql://u:s3cr3t@h/d?shema=x", "has no option 'shema': there are schema, pool,"),
        ("postgresql://u:s3cr3t@h/d?schema=a-b", "'a-b' cannot name the schema"),
        ("postgresql://u:s3cr3t@h/d?schema=", "'' cannot name the schema"),
        ("postgresql://u:s3cr3t@h/d?schema=public", "belongs to others"),
        ("postgresql://u:s3cr3t@h/d?pool=0", "at least 1 connection"),
        ("postgresql://u:s3cr3t@h/d?pool=many", "a setting of the database is wrong"),
        ("postgresql://u:s3cr3t@h/d?timeout=0", "seconds above 0"),
        ("postgresql://u:s3cr3t@h/d?listen=perhaps", "a setting of the database is wrong"),
    ],
)
async def test_an_address_that_cannot_be_meant(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        await create_adapter(url)
    await opening(url)


def test_an_address_may_be_written_in_many_ways() -> None:
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        address = parse(f"{scheme}://u:p%2F@h:5433/d?schema=mine&sslmode=require&listen=off&pool=3")
        assert address.parameters == {
            "user": "u",
            "password": "p/",
            "host": "h",
            "port": "5433",
            "dbname": "d",
            "sslmode": "require",
        }
        assert address.options.schema == "mine"
        assert address.options.pool == 3
        assert address.options.listen is False
        assert address.shown == "postgresql://u@h:5433/d"
    assert parse("postgresql://u@/d?host=/run/pg").parameters["host"] == "/run/pg"
    assert parse("host=h dbname=d user=u").shown == "postgresql://u@h/d"
    assert "p/" not in repr(parse("postgresql://u:p%2F@h/d"))
    assert parse("", schema="mine", timeout=2.5).options.timeout == 2.5


async def test_a_user_without_rights_is_told_what_to_grant(
    postgres: PostgresServer, postgres_url: str, role: str
) -> None:
    schema = postgres_url.rpartition("=")[2]
    text = await opening(postgres.url_of(role, schema=schema))
    assert f"the schema {schema} has to be installed" in text
    assert "permission denied" in text
    owner = await create_adapter(postgres_url)
    text = await opening(postgres.url_of(role, schema=schema))
    assert "grant this user USAGE on the schema and EXECUTE on its functions" in text
    perform(postgres, f"grant usage on schema {schema} to {role}")
    assert "grant this user USAGE" in await opening(postgres.url_of(role, schema=schema))
    await owner.close()


async def test_a_user_needs_no_right_on_tables(
    postgres: PostgresServer, postgres_url: str, role: str
) -> None:
    schema = postgres_url.rpartition("=")[2]
    owner = await create_adapter(postgres_url)
    perform(
        postgres,
        *rights(schema, role),
    )
    adapter = await create_adapter(postgres.url_of(role, schema=schema))
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, LATER)
    run = evolve(run, turn=1)
    await adapter.commit(Commit(run, "token", (new_call(run, 0),), log="printed"))
    assert await owner.get_task_run(run.id) == run
    with (
        psycopg.connect(postgres.url_of(role)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"select * from {schema}.task_runs".encode())
    await adapter.close()
    await owner.close()


async def refused(url: str, attempt: Any) -> str:
    """What a writing operation says, and that it wrote nothing."""
    adapter = await create_adapter(url)
    with pytest.raises(StorageError) as caught:
        await attempt(adapter)
    await adapter.close()
    assert "\n" not in str(caught.value)
    return f"{type(caught.value).__name__}: {caught.value}"


async def test_a_standby_or_a_read_only_user(
    postgres: PostgresServer, postgres_url: str, role: str
) -> None:
    schema = postgres_url.rpartition("=")[2]
    await (await create_adapter(postgres_url)).close()
    perform(
        postgres,
        *rights(schema, role),
        f"alter role {role} set default_transaction_read_only = on",
    )
    text = await refused(
        postgres.url_of(role, schema=schema), lambda adapter: adapter.create_task_run(new_run())
    )
    assert text.startswith(StorageReadOnlyError.__name__)
    assert "connect to the primary server" in text


async def test_a_statement_that_takes_too_long_for_the_server(
    postgres: PostgresServer, postgres_url: str, role: str
) -> None:
    schema = postgres_url.rpartition("=")[2]
    owner = await create_adapter(postgres_url)
    run = await owner.create_task_run(new_run())
    perform(
        postgres,
        *rights(schema, role),
        f"alter role {role} set statement_timeout = '50ms'",
    )
    with psycopg.connect(postgres.url) as blocking:
        blocking.execute(f"select from {schema}.task_runs for update".encode())
        text = await refused(
            postgres.url_of(role, schema=schema),
            lambda adapter: adapter.claim(run.id, "token", NOW, LATER),
        )
    assert "raise statement_timeout" in text
    assert await owner.get_task_run(run.id) == run
    await owner.close()


async def test_a_statement_that_takes_too_long_for_us_is_ended(
    postgres: PostgresServer, postgres_url: str
) -> None:
    owner = await create_adapter(postgres_url)
    run = await owner.create_task_run(new_run())
    with psycopg.connect(postgres.url) as blocking:
        schema = postgres_url.rpartition("=")[2]
        blocking.execute(f"select from {schema}.task_runs for update".encode())
        text = await refused(
            f"{postgres_url}&timeout=0.1",
            lambda adapter: adapter.claim(run.id, "token", NOW, LATER),
        )
        query = "select count(*) from pg_stat_activity where query like %s and state = 'active'"
        waiting = blocking.execute(query, [f'select "{schema}"."claim"%']).fetchone()
    assert "did not answer within 0.1 seconds" in text
    assert waiting == (0,)
    assert await owner.get_task_run(run.id) == run
    await owner.close()


@pytest.fixture
def small_disk(postgres: PostgresServer, tmp_path: Path) -> Iterator[Path]:
    place = postgres.base / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=777", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount, so there is no disk to fill")
    if done.returncode:
        pytest.skip("this user may not mount, so there is no disk to fill")
    folder = place / "space"
    folder.mkdir()
    if postgres.user:
        os.chown(folder, postgres.user.pw_uid, postgres.user.pw_gid)
    perform(postgres, f"create tablespace small location '{folder}'")
    yield place
    perform(postgres, "drop tablespace small")
    subprocess.run(["umount", "-l", place], check=True)


async def test_a_full_disk_loses_nothing_and_goes_on_with_room(
    postgres: PostgresServer, postgres_url: str, small_disk: Path
) -> None:
    schema = postgres_url.rpartition("=")[2]
    adapter = await create_adapter(postgres_url)
    tables = ("task_runs", "stack_runs", "logs")
    perform(postgres, *(f"alter table {schema}.{name} set tablespace small" for name in tables))
    (small_disk / "ballast").write_bytes(bytes(3 << 20))
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, LATER)
    done: list[int] = []

    def step(number: int) -> Commit:
        text = "".join(f"{i * number:x}" for i in range(5000))
        call = new_call(run, number, input={"text": text})
        return Commit(evolve(run, turn=number + 1), "token", (call,))

    async def fill() -> None:
        for number in range(1000):
            await adapter.commit(step(number))
            done.append(number)

    with pytest.raises(StorageFullError, match=r"make room on the server"):
        await fill()
    assert len(done) > 3
    assert [call.sequence for call in await adapter.load_calls(run.id)] == done
    (small_disk / "ballast").unlink()
    await adapter.commit(step(len(done)))
    assert len(await adapter.load_calls(run.id)) == len(done) + 1
    await adapter.close()
    perform(postgres, f"drop schema {schema} cascade")


async def test_a_database_that_cannot_hold_every_text(postgres: PostgresServer) -> None:
    perform(
        postgres,
        "drop database if exists latin",
        "create database latin encoding 'LATIN1' template template0 locale 'C'",
    )
    text = await opening(postgres.url_of("postgres", "latin"))
    assert "encoding LATIN1" in text
    assert "encoding 'UTF8'" in text


async def test_transactions_that_would_not_see_each_other(
    postgres: PostgresServer, postgres_url: str, role: str
) -> None:
    schema = postgres_url.rpartition("=")[2]
    await (await create_adapter(postgres_url)).close()
    perform(
        postgres,
        *rights(schema, role),
        f"alter role {role} set default_transaction_isolation = 'repeatable read'",
    )
    text = await opening(postgres.url_of(role, schema=schema))
    assert "need 'read committed'" in text


async def test_a_store_that_is_not_open_says_so(postgres_url: str) -> None:
    adapter = create(postgres_url)
    with pytest.raises(StorageError, match=r"not open: call init\(\) first"):
        await adapter.get_task_run("x")
    await adapter.close()


async def test_numbers_and_texts_that_do_not_fit(postgres_url: str) -> None:
    adapter = await create_adapter(postgres_url)
    with pytest.raises(StorageError, match="a number does not fit into a column"):
        await adapter.create_task_run(new_run(priority=2**70))
    assert await adapter.query_task_runs() == []
    await asyncio.gather(adapter.close(), adapter.close())
