"""Hearing at once what other processes did, and getting on where nothing is heard."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from sequential.core.model import Amendment, evolve
from sequential.storage.postgres import PostgresAdapter, create
from sequential.testing.storage_contract import new_run
from support.postgres_server import PostgresServer


async def opened(url: str) -> PostgresAdapter:
    adapter = create(url)
    await adapter.init()
    return adapter


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[list[PostgresAdapter]]:
    adapters = [await opened(postgres_url) for _ in range(2)]
    yield adapters
    for adapter in adapters:
        await adapter.close()


async def until(happened: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.001)


async def test_news_come_at_once(pair: list[PostgresAdapter]) -> None:
    one, two = pair
    heard: dict[str, float] = {}

    def hear(run_id: str) -> None:
        heard.setdefault(run_id, time.perf_counter())

    await one.watch(hear)
    delays = []
    for number in range(20):
        run = await two.create_task_run(new_run(number))
        told = time.perf_counter()
        await until(lambda: run.id in heard)
        delays.append(heard[run.id] - told)
    assert statistics.median(delays) < 0.1


async def test_our_own_news_come_once(pair: list[PostgresAdapter]) -> None:
    one, two = pair
    heard: list[str] = []
    await one.watch(heard.append)
    await until(lambda: "" in heard)  # from now on it listens
    mine = await one.create_task_run(new_run(1))
    await one.amend(mine, Amendment(evolve(mine, priority=1)))
    theirs = await two.create_task_run(new_run(2))
    await until(lambda: theirs.id in heard)
    assert heard == ["", mine.id, mine.id, theirs.id]


async def test_after_a_lost_connection_anything_may_have_happened(
    postgres: PostgresServer, pair: list[PostgresAdapter]
) -> None:
    one, two = pair
    heard: list[str] = []
    await one.watch(heard.append)
    for _ in range(2):
        await until(lambda: "" in heard)
        heard.clear()
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            ended = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query = %s",
                [f'listen "{one.address.options.schema}"'],
            )
            assert ended.fetchall() == [(True,)]
        await until(lambda: "" in heard)
        run = await two.create_task_run(new_run())
        await until(lambda: run.id in heard)
        await two.delete_task_run(run.id)


async def test_a_store_may_neither_listen_nor_tell(postgres_url: str) -> None:
    quiet = create(postgres_url, listen=False)
    await quiet.init()
    other = await opened(postgres_url)
    ours: list[str] = []
    theirs: list[str] = []
    await quiet.watch(ours.append)
    await other.watch(theirs.append)
    await until(lambda: "" in theirs)
    run = await quiet.create_task_run(new_run(1))
    second = await other.create_task_run(new_run(2))
    third = await opened(postgres_url)
    last = await third.create_task_run(new_run(3))
    await until(lambda: last.id in theirs)
    assert ours == [run.id]
    assert theirs == ["", second.id, last.id]
    for adapter in (quiet, other, third):
        await adapter.close()


async def test_what_cannot_listen_works_all_the_same(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """The connection limit leaves one connection, which is in use."""
    schema = postgres_url.rpartition("=")[2]
    await (await opened(postgres_url)).close()
    name = f"single_{schema}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create role {name} login superuser connection limit 1".encode())
        connection.execute(f"alter role {name} nosuperuser".encode())
        connection.execute(f"grant usage on schema {schema} to {name}".encode())
        connection.execute(f"grant execute on all functions in schema {schema} to {name}".encode())
    adapter = create(postgres.url_of(name, schema=schema), pool=1)
    await adapter.init()
    heard: list[str] = []
    watching = asyncio.ensure_future(adapter.watch(heard.append))
    run = await adapter.create_task_run(new_run())
    assert await adapter.get_task_run(run.id) == run
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert heard in ([], [run.id])
    await adapter.close()
