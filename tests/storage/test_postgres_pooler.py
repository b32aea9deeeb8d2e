"""Poolers that lend a connection for one transaction: no call may rely on the one before."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sequential.core.model import Commit, Status, evolve
from sequential.storage.base import StorageAdapter
from sequential.storage.postgres import PostgresAdapter, create
from sequential.storage.postgres_connections import Connections
from sequential.storage.postgres_line import Line, connect
from sequential.testing.contract_claims import ClaimsContract
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run
from support.fault_proxy import FaultProxy
from support.postgres_server import PostgresServer, free_port


class Shuffled(Connections):
    """What a pooler does at its worst: another connection each time, used by others meanwhile."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.used: list[int] = []

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Line]:
        async with self._permits:
            while len(self._free) < 3:
                self._free.append(await connect(self._address))
            connection = self._free.pop(0)
            self.used.append(connection.pgconn.backend_pid)
            try:
                yield connection
                await connection.execute("discard all")
                await connection.execute("set search_path = pg_catalog")
            finally:
                self._free.append(connection)


class TestAnotherConnectionForEachCall(ClaimsContract):
    @pytest.fixture
    def open_adapter(self, postgres_url: str) -> Any:
        async def open_adapter() -> Any:
            adapter = create(postgres_url, listen=False)
            await adapter.init()
            assert adapter._open
            await adapter._open[0].close()
            adapter._open = Shuffled(adapter.address), adapter._open[1]
            return adapter

        return open_adapter


async def drive(adapter: StorageAdapter, number: int) -> None:
    """A run from its beginning to its end."""
    run = await adapter.create_task_run(new_run(number))
    run = await adapter.claim(run.id, "token", NOW, LATER)
    call = new_call(run, 0)
    await adapter.commit(Commit(run, "token", (call,)))
    for turn in range(1, 8):
        run, done = evolve(run, turn=turn), delivered(call, turn)
        call = new_call(run, turn)
        await adapter.commit(Commit(run, "token", (call,), (done,), f"{turn} "))
    end = evolve(run, status=Status.COMPLETED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(end, "token"))
    assert await adapter.get_task_run(run.id) == end
    assert len(await adapter.load_calls(run.id)) == 8


async def test_calls_really_use_different_connections(postgres_url: str) -> None:
    adapter: PostgresAdapter = create(postgres_url, listen=False)
    await adapter.init()
    assert adapter._open
    await adapter._open[0].close()
    shuffled = Shuffled(adapter.address)
    adapter._open = shuffled, adapter._open[1]
    await drive(adapter, 1)
    assert len(set(shuffled.used)) == 3
    assert all(one != two for one, two in zip(shuffled.used, shuffled.used[1:], strict=False))
    await adapter.close()


class Disguise:
    """Reads what a server sends, with another process id, as it would come from a pooler."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def read(self, most: int) -> bytes:
        data = await self._reader.read(most)
        return re.sub(rb"(?s)(?<=K\0\0\0\x0c)....", b"\0\0\0\x07", data)


class Disguising(FaultProxy):
    async def _hand_over(self, reader: Any, *others: Any) -> None:
        await super()._hand_over(Disguise(reader), *others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("proxy_type", "option", "is_prepared"),
    [
        (FaultProxy, "", True),
        (FaultProxy, "&prepare=off", False),
        (Disguising, "", False),
        (Disguising, "&prepare=on", True),
    ],
)
async def test_statements_are_prepared_where_no_pooler_is_seen(
    postgres: PostgresServer,
    postgres_url: str,
    proxy_type: type[FaultProxy],
    option: str,
    is_prepared: bool,
) -> None:
    schema = postgres_url.rpartition("=")[2]
    async with proxy_type(postgres.socket) as proxy:
        address = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
        adapter = create(f"{address}&schema={schema}&pool=1&listen=off{option}")
        await adapter.init()
        await drive(adapter, 1)
        assert adapter._open
        async with adapter._open[0].use() as line:
            found = await line.execute("select statement from pg_prepared_statements")
            statements = " ".join(row[0] for row in await found.fetchall())
        assert ("commit_turn" in statements) == is_prepared
        await adapter.close()


@pytest.fixture
def pgbouncer(postgres: PostgresServer, tmp_path: Path) -> Iterator[int]:
    """The port of a PgBouncer with two connections for all."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("there is no pgbouncer: apt install pgbouncer")
    port = free_port()
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\npostgres = host={postgres.base} port={postgres.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 2\nunix_socket_dir =\n"
    )
    shutil.copy(settings, postgres.base)  # where its user may read
    command = [program, str(postgres.base / settings.name)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **postgres.as_user())
    end = time.monotonic() + 10
    try:
        while True:
            try:
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres").close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


async def test_behind_pgbouncer(pgbouncer: int, postgres_url: str) -> None:
    schema = postgres_url.rpartition("=")[2]
    adapter = create(f"postgresql://postgres@127.0.0.1:{pgbouncer}/postgres?schema={schema}")
    await adapter.init()
    await adapter.watch(lambda _: None)
    await asyncio.gather(*(drive(adapter, number) for number in range(6)))
    await adapter.close()
