"""Many who claim, change and delete at the same time."""

import asyncio
import random
from typing import Any

import psycopg
import pytest

from sequential.core.model import Commit, RunEvent, Status, TaskConfig, TaskFunction, evolve
from sequential.errors import RunBusyError, SequentialError, StorageError
from sequential.storage.postgres import PostgresAdapter, create
from sequential.testing.storage_contract import LATER, NOW, new_call, new_run
from support.postgres_server import PostgresServer

LIMITED = TaskConfig("my-task", concurrency=2)


@pytest.fixture
async def adapters(postgres_url: str) -> Any:
    adapters = [create(postgres_url, listen=False, pool=6) for _ in range(2)]
    for adapter in adapters:
        await adapter.init()
        # Every connection there is, so that what comes now comes at the same time.
        await asyncio.gather(*(adapter.get_keystore("x") for _ in range(30)))
    yield adapters
    for adapter in adapters:
        await adapter.close()


async def test_a_limit_is_kept_by_all_who_ask_for_work_at_once(
    adapters: list[PostgresAdapter],
) -> None:
    for name in (f"task{number}" for number in range(6)):
        config = evolve(LIMITED, name=name)
        for number in range(12):
            await adapters[0].create_task_run(
                new_run(number, task_identifier=name, config=config, priority=number % 3)
            )
        claims = [
            adapters[i % 2].claim_due(f"t{i}", LATER, "2027", 1 + i % 3, [name]) for i in range(12)
        ]
        claimed = [run for found in await asyncio.gather(*claims) for run in found]
        assert len(claimed) == 2
        assert len(await adapters[0].query_task_runs(status="running", task_identifier=name)) == 2


async def test_a_task_at_its_limit_does_not_stand_before_others(
    adapters: list[PostgresAdapter],
) -> None:
    for number in range(50):
        await adapters[0].create_task_run(new_run(number, config=LIMITED, priority=5))
    other = await adapters[0].create_task_run(new_run(99, task_identifier="other"))
    claimed = await adapters[1].claim_due("token", LATER, "2027", 5)
    assert [run.task_identifier for run in claimed] == ["my-task", "my-task", "other"]
    assert claimed[-1].id == other.id
    assert await adapters[1].claim_due("token", LATER, "2027", 5) == []


async def test_nobody_waits_for_each_other_in_a_circle(
    postgres: PostgresServer, adapters: list[PostgresAdapter]
) -> None:
    dice = random.Random(3)
    tasks = [f"task{number}" for number in range(3)]
    refusals: list[SequentialError] = []

    async def work(adapter: PostgresAdapter, number: int) -> None:
        name = dice.choice(tasks)
        config = TaskConfig(name, concurrency=dice.choice([None, 1, 3]))
        await adapter.store_task_function(TaskFunction(name, "1", config))
        run = await adapter.create_task_run(new_run(number, task_identifier=name, config=config))
        for taken in await adapter.claim_due(f"t{number}", LATER, "2027", 4):
            await adapter.commit(Commit(taken, f"t{number}", (new_call(taken, 0),), log="x"))
            end = evolve(taken, status=Status.SUSPENDED, lease_token=None, lease_until=None)
            await adapter.commit(Commit(end, f"t{number}"))
        await adapter.answer(run.id, RunEvent(f"e{number}", "go", NOW), NOW)
        await adapter.update_task_run(run.id, code=f"x = {dice.randrange(3)}")
        await adapter.claim(run.id, f"c{number}", LATER, "2027")
        await adapter.release(run.id, f"c{number}")
        if number % 5 == 0:
            await adapter.delete_task(name)
        else:
            await adapter.delete_task_run(run.id)

    for start in range(0, 120, 24):
        works = [work(adapters[i % 2], i) for i in range(start, start + 24)]
        for result in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(result, SequentialError):
                refusals.append(result)
            elif result is not None:
                raise result
    assert [error for error in refusals if type(error) is StorageError] == []
    with psycopg.connect(postgres.url) as connection:
        query = "select deadlocks from pg_stat_database where datname = current_database()"
        connection.execute("select pg_stat_force_next_flush()")
        assert connection.execute(query).fetchone() == (0,)


@pytest.mark.parametrize("strange", ["\0", "\\u0000", "\\\0", "\x1a0", "\\\\u0000", "\x1a\0\0"])
async def test_an_event_is_taken_by_its_very_id(
    adapters: list[PostgresAdapter], strange: str
) -> None:
    adapter = adapters[0]
    names = ["\0", "\\u0000", strange, "\\\0", "\x1a0", "\x1a", " "]
    events = tuple(RunEvent(name, "name", NOW, {name: name}) for name in dict.fromkeys(names))
    run = await adapter.create_task_run(new_run(events=events))
    run = await adapter.claim(run.id, "token", NOW, LATER)
    await adapter.commit(Commit(run, "token", taken=(strange,)))
    stored = await adapter.get_task_run(run.id)
    assert stored
    assert stored.events == tuple(event for event in events if event.id != strange)


async def test_a_claim_that_nobody_waits_for_is_given_back(
    postgres: PostgresServer, adapters: list[PostgresAdapter]
) -> None:
    one, two = adapters
    run = await one.create_task_run(new_run())
    with psycopg.connect(postgres.url) as blocking:
        schema = one.address.options.schema
        blocking.execute(f"select from {schema}.task_runs for update".encode())
        claiming = asyncio.ensure_future(one.claim(run.id, "token", NOW, LATER))
        await asyncio.sleep(0.05)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await two.claim(run.id, "next", NOW, LATER)).lease_token == "next"
                break
            except RunBusyError:
                await asyncio.sleep(0.01)


async def test_a_commit_that_is_cancelled_is_written_whole_or_not_at_all(
    adapters: list[PostgresAdapter],
) -> None:
    adapter = adapters[0]
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, LATER)
    for turn in range(1, 16):
        step = Commit(evolve(run, turn=turn), "token", (new_call(run, turn),), log=f"{turn} ")
        committing = asyncio.ensure_future(adapter.commit(step))
        await asyncio.sleep(turn * 0.0003)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)
        stored = await adapter.get_task_run(run.id)
        assert stored
        written = stored.turn == turn
        calls = [call.sequence for call in await adapter.load_calls(run.id)]
        log = "".join(line.text for line in await adapter.get_log(run.id)).split()
        assert (turn in calls) == written
        assert (str(turn) in log) == written
