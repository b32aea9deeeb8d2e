"""What does not grow: commands and bytes are counted, not seconds."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from sequential.core.model import (
    Commit,
    Snapshot,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.storage.redis import RedisAdapter, create
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run
from support.valkey_server import shared_valkey, valkey

__all__ = ["shared_valkey"]


@pytest.fixture
async def adapter() -> AsyncIterator[RedisAdapter]:
    with valkey(appendonly="no") as server:  # what is counted is all that it does
        adapter = create(server.url.partition(":")[2], prefix=f"test-{secrets.token_hex(4)}:")
        await adapter.init()
        yield adapter
        await adapter.close()


async def counted(adapter: RedisAdapter, work: Callable[[], Awaitable[None]]) -> tuple[int, int]:
    """The commands that the server performed, those within scripts too, and the bytes it sent."""
    client = adapter._server.connections
    await client.config_resetstat()
    await work()
    commands = await client.info("commandstats")
    sent = (await client.info("stats"))["total_net_output_bytes"]
    return sum(found["calls"] for found in commands.values()), sent


async def a_long_run(adapter: RedisAdapter, calls: int) -> TaskRun:
    made = await adapter.create_task_run(new_run(calls))
    run = await adapter.claim(made.id, "token", NOW, LATER)
    for first in range(0, calls, 1000):
        numbers = range(first, min(first + 1000, calls))
        given = tuple(delivered(new_call(run, i), i + 2) for i in numbers)
        await adapter.commit(Commit(run, "token", given))
    run = evolve(run, turn=calls + 1)
    await adapter.commit(Commit(run, "token", snapshot=Snapshot(run.id, calls, b"s")))
    await adapter.release(run.id, "token")
    return run


async def test_going_on_after_20_000_calls_costs_as_much_as_after_20(
    adapter: RedisAdapter,
) -> None:
    costs = []
    for calls in (20, 20, 20_000):
        run = await a_long_run(adapter, calls)

        async def go_on(run: TaskRun = run) -> None:
            turn = run.turn
            run = await adapter.claim(run.id, "next", NOW, SOON)
            assert await adapter.get_snapshot(run.id)
            assert len(await adapter.load_calls(run.id, turn - 2)) == 2
            assert await adapter.load_calls(run.id, turn) == []
            call = new_call(run, turn + 5)
            await adapter.commit(Commit(evolve(run, turn=turn + 1), "next", (call,)))
            done = (delivered(call, turn + 2),)
            await adapter.commit(Commit(evolve(run, turn=turn + 2), "next", updated=done))
            parked = evolve(run, status=Status.SUSPENDED, lease_token=None, lease_until=None)
            await adapter.commit(Commit(parked, "next"))
            assert await adapter.wakeups(NOW) == []

        costs.append(await counted(adapter, go_on))
        await adapter.delete_task_run(run.id)
    (_, _), (commands, sent), (more_commands, more_sent) = costs
    assert 0 < commands < 400
    assert abs(more_commands - commands) < 10
    assert abs(more_sent - sent) < 1000


async def test_work_is_found_among_many_that_sleep(adapter: RedisAdapter) -> None:
    costs = []
    for many in (1, 2, 700):
        for i, status in enumerate((Status.SUSPENDED, Status.COMPLETED, Status.PAUSED)):
            for number in range(many):
                wake_at = LATER if number % 2 else None
                await adapter.create_task_run(
                    new_run(many + 1000 * i + number, status=status, wake_at=wake_at)
                )
        due = await adapter.create_task_run(
            new_run(5000 + many, status=Status.SUSPENDED, wake_at=NOW)
        )

        async def look(due: TaskRun = due) -> None:
            assert await adapter.wakeups(SOON) == [due.id]
            assert await adapter.wakeups(SOON, tasks=["other", "my-task"]) == [due.id]
            assert await adapter.wakeups(SOON, tasks=["other"]) == []
            assert await adapter.wakeups(SOON, tasks=[]) == []
            assert await adapter.next_wakeup(SOON) in (LATER, None)
            (claimed,) = await adapter.claim_due("t", SOON, LATER, 5)
            assert claimed.id == due.id

        costs.append(await counted(adapter, look))
        await adapter.release(due.id, "t")
        await adapter.delete_task_run(due.id)
    assert costs[1][0] < 100
    assert abs(costs[2][0] - costs[1][0]) < 15
    assert abs(costs[2][1] - costs[1][1]) < 500


async def test_children_and_small_lists_are_found_without_a_look_at_others(
    adapter: RedisAdapter,
) -> None:
    parent = new_run(9000).id
    for number in range(300):
        await adapter.create_task_run(new_run(number))
    child = await adapter.create_task_run(new_run(400, parent_run_id=parent))

    async def look() -> None:
        assert await adapter.query_task_runs(parent_run_id=parent) == [child]
        assert await adapter.query_task_runs(limit=1) == [child]

    assert (await counted(adapter, look))[0] < 40


async def test_a_step_does_not_write_large_values_again(adapter: RedisAdapter) -> None:
    large = {"text": "x" * 1_000_000}
    run = await adapter.create_task_run(new_run(input=large, code="#" * 500_000))
    claimed = await adapter.claim(run.id, "token", NOW, LATER)
    client = adapter._server.connections
    await client.config_resetstat()
    await adapter.commit(Commit(evolve(claimed, turn=1), "token", (new_call(run, 0),)))
    assert (await client.info("stats"))["total_net_input_bytes"] < 30_000
    assert await adapter.get_task_run(run.id) == evolve(claimed, turn=1)


async def test_a_task_at_its_limit_is_counted_not_looked_through(adapter: RedisAdapter) -> None:
    config = TaskConfig("my-task", concurrency=200)
    costs = []
    for first in (0, 1, 190):
        for number in range(first, max(first, 189)) if first else range(1):
            await adapter.create_task_run(new_run(number, config=config))
        await adapter.claim_due("t", NOW, LATER, 300)
        run = await adapter.create_task_run(new_run(1000 + first, config=config))

        async def claim(run: TaskRun = run) -> None:
            await adapter.claim(run.id, "t", NOW, LATER)

        costs.append((await counted(adapter, claim))[0])
    assert abs(costs[-1] - costs[0]) < 5
