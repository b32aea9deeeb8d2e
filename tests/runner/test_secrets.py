"""No secret is written anywhere: whole runs against a server that tells everything it was told.

Another store joins by a fixture: the name it is chosen by, and all bytes that it keeps.
"""

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import psycopg
import pytest
import zstandard
from psycopg import sql

from sequential.config import load_settings
from sequential.core.model import (
    Allow,
    Failure,
    InputField,
    Outcome,
    RetryPolicy,
    Snapshot,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.services.base import CallContext, CallError, Secret, TryAgain
from sequential.services.local import LocalService
from support.http_api import HttpApi, serve
from support.postgres_server import PostgresServer, postgres_server
from support.valkey_server import valkey

SECRET = 's3cr3t-Tök€n/+ "quoted"'
ASCII = "sk_live_0123456789abcdef"


class Store(NamedTuple):
    """A store under test: the name it is chosen by, and all bytes that it keeps."""

    adaptor: str
    content: Callable[[], bytes]


def all_files(folder: Path) -> bytes:
    """All there is below a folder, names included, without the key that is not the store's."""
    paths = [path for path in folder.rglob("*") if ".sequential" not in path.parts]
    return b"\0".join(
        str(p).encode() + b"\0" + (p.read_bytes() if p.is_file() else b"") for p in paths
    )


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store("folder", lambda: all_files(tmp_path))


@pytest.fixture
def sqlite(tmp_path: Path) -> Store:
    # While the database is open, its newest pages are in the -wal file.
    return Store("sqlite", lambda: all_files(tmp_path))


@pytest.fixture
def redis() -> Iterator[Store]:
    with valkey() as server:  # which appends every command to a file, also what is overwritten
        yield Store(server.url, lambda: all_files(server.folder))


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres(database: PostgresServer) -> Store:
    schema = f"t{secrets.token_hex(6)}"

    def content() -> bytes:
        found = [b""]
        with psycopg.connect(database.url) as connection:
            named = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
            for (table,) in connection.execute(named, [schema]).fetchall():
                everything = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))
                for row in connection.execute(everything):
                    found += [v if isinstance(v, bytes) else str(v).encode() for v in row]
        return b"\0".join(found)

    return Store(f"{database.url}&schema={schema}", content)


@pytest.fixture(params=["folder", "sqlite", "redis", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    opened: Store = request.getfixturevalue(request.param)
    return opened


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


crm = LocalService("crm")


@crm.method()
def echo(token: Annotated[str, Secret("crm/token")]) -> dict[str, object]:
    return {"token": token, "raw": token.encode(), token: [("nested", {token})]}


@crm.method()
async def ask(context: CallContext) -> str:
    return f"asked with {await context.secrets.get('crm/token')}"


@crm.method()
def fail(token: Annotated[str, Secret("crm/token")]) -> None:
    raise ValueError(f"{token} was not accepted")


@crm.method()
def refuse(token: Annotated[str, Secret("crm/token")]) -> None:
    raise CallError("PermissionError", f"{token} was refused")


@crm.method()
def later(token: Annotated[str, Secret("crm/token")]) -> None:
    raise TryAgain(Outcome(error=Failure("OSError", f"{token} was too much")))


CODE = """
async def job(api):
    headers = {"Authorization": "Bearer {{secret:crm/token}}", "X-Key": "{{secret:stripe}}"}
    seen = []

    async def attempt(call):
        try:
            seen.append(await call)
        except Exception as error:
            seen.append(repr(error))
        print(seen[-1])

    for query in ("", "?status=404", "?status=503", "?kind=application/x&status=500"):
        answer = await fetch(f"{api}/mirror{query}", headers=headers)
        print(answer.headers, answer.text)
        seen.append([answer.headers.items(), answer.text, answer.bytes()])
    await attempt(fetch(f"{api}/mirror?to=http://127.0.0.1:1/", headers=headers))
    await attempt(fetch(f"{api}/mirror?to=ftp://nowhere/", headers=headers))
    await attempt(fetch(f"{api}/mirror?to=http://10.0.0.1/", headers=headers))
    await attempt(services.crm.echo())
    await attempt(services.crm.ask())
    await attempt(services.crm.fail())
    await attempt(services.crm.refuse())
    await attempt(services.crm.later())
    return seen
"""


@contextlib.asynccontextmanager
async def opened(project: Path, store: Store) -> AsyncIterator[Engine]:
    settings = load_settings(project, environment={}, adaptor=store.adaptor, allow_loopback=True)
    runner = RunnerSettings(
        snapshot_every=1, idle_after=0.01, retry=RetryPolicy(retries=1, delay=0.01)
    )
    async with Engine(settings=evolve(settings, runner=runner), services=[crm]) as engine:
        await engine.keys.set("crm/token", SECRET)
        await engine.keys.set("stripe", ASCII)
        yield engine


def program_of(snapshot: Snapshot) -> bytes:
    """The state in a snapshot, which is compressed."""
    start = snapshot.data.index(b"\x28\xb5\x2f\xfd")  # where zstd begins
    return zstandard.ZstdDecompressor().decompress(snapshot.data[start:-32])


def traces(content: bytes) -> list[bytes]:
    """Pieces of the secrets, however they are spelled."""
    return [piece for piece in (b"s3cr3t", b"quoted", b"sk_live", b"9abcdef") if piece in content]


async def run_to_the_end(
    engine: Engine, code: str, api: HttpApi, allow: Allow = Allow()
) -> TaskRun:
    await engine.store_task(
        "job", code, TaskConfig("job", inputs=(InputField("api"),), allow=allow)
    )
    return await engine.run("job", {"api": api.url})


async def test_the_server_gets_the_secrets_and_the_store_never(
    tmp_path: Path, store: Store, api: HttpApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(tmp_path, store) as engine:
        run = await run_to_the_end(engine, CODE, api)
        content = store.content()
        snapshot = await engine.storage.get_snapshot(run.id)
        calls = await engine.list_calls(run.id)

    assert run.status is Status.COMPLETED, run.error
    sent = [request.headers for request in api.requests]
    assert len(sent) >= 8  # with the second attempts
    assert {headers["x-key"] for headers in sent} == {ASCII}
    assert {h["authorization"].encode("latin-1").decode() for h in sent} == {f"Bearer {SECRET}"}
    assert snapshot is not None
    assert b"{{secret:crm/token}}" in program_of(snapshot)
    assert traces(program_of(snapshot)) == []
    assert b"{{secret:crm/token}}" in content
    assert traces(content) == []
    assert traces(store.content()) == []  # closed, with all that is written late
    assert traces(caplog.text.encode()) == []
    assert traces(repr((run, calls)).encode()) == []
    assert str(run.result).count("{{secret:crm/token}}") >= 15


async def test_a_run_that_fails_with_a_secret_in_its_error(
    tmp_path: Path, store: Store, api: HttpApi
) -> None:
    async with opened(tmp_path, store) as engine:
        run = await run_to_the_end(
            engine, "async def job(api):\n    await services.crm.fail()", api
        )
        content = store.content()

    assert run.error is not None
    assert run.error.message == "ValueError: {{secret:crm/token}} was not accepted"
    assert traces(content + store.content()) == []


async def test_a_run_that_waits_for_its_next_attempt(
    tmp_path: Path, store: Store, api: HttpApi
) -> None:
    code = "async def job(api):\n    await services.crm.later()"
    config = TaskConfig(name="job", retry=RetryPolicy(delay=1000.0, max_delay=1000.0))
    async with opened(tmp_path, store) as engine:
        await engine.store_task("job", code, config)
        created = await engine.create_run("job", {})
        run = await engine.drive(created.id)
        (call,) = await engine.list_calls(run.id)
        content = store.content()

    assert run.status is Status.SUSPENDED
    assert call.error is not None
    assert call.error.message == "{{secret:crm/token}} was too much"
    assert traces(content + store.content()) == []


async def test_a_task_uses_only_the_secrets_that_its_policy_names(
    tmp_path: Path, store: Store, api: HttpApi
) -> None:
    async with opened(tmp_path, store) as engine:
        run = await run_to_the_end(engine, CODE, api, Allow(secrets=("crm/*",)))

    assert run.status is Status.FAILED
    assert run.error is not None
    assert run.error.type == "PermissionError"
    assert run.error.message == "the secret 'stripe' is not in the task's allow.secrets (crm/*)"
    assert api.requests == []


async def test_a_secret_that_was_changed_counts_for_the_next_call(
    tmp_path: Path, store: Store, api: HttpApi
) -> None:
    code = """
async def job(api):
    await fetch(f"{api}/echo", headers={"X-Key": "{{secret:stripe}}"})
"""
    async with opened(tmp_path, store) as engine:
        await run_to_the_end(engine, code, api)
        await engine.keys.set("stripe", "another one")
        await run_to_the_end(engine, code, api)

    assert [request.headers["x-key"] for request in api.requests] == [ASCII, "another one"]


async def test_a_worker_with_another_secret_says_so_in_one_line(
    tmp_path: Path, store: Store, api: HttpApi
) -> None:
    code = "async def job(api):\n    await fetch(api, headers={'X-Key': '{{secret:stripe}}'})"
    async with opened(tmp_path, store):
        pass
    (tmp_path / ".sequential" / "secret.key").write_bytes(b"x" * 32)
    settings = load_settings(tmp_path, environment={}, adaptor=store.adaptor, allow_loopback=True)
    async with Engine(settings=settings) as engine:
        run = await run_to_the_end(engine, code, api)

    assert run.error is not None
    assert str(run.error).startswith(
        "RuntimeError: the keystore was written with another SEQUENTIAL_SECRET"
    )
