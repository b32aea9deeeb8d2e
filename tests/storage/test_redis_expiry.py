"""Finished runs expire: all of a run at once, and nothing still points to it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    Snapshot,
    Status,
    TaskRun,
    evolve,
)
from sequential.errors import RunNotFoundError
from sequential.storage.redis import RedisAdapter, create
from sequential.testing.storage_contract import LATER, NOW, delivered, new_call, new_run
from support.valkey_server import ValkeyServer, shared_valkey

__all__ = ["shared_valkey"]

Open = Callable[..., Awaitable[RedisAdapter]]
PARENT = new_run(900).id


@pytest.fixture
async def open_adapter(shared_valkey: ValkeyServer) -> AsyncIterator[Open]:
    prefix = f"test-{secrets.token_hex(4)}:"
    opened = []

    async def open_adapter(ttl: float | None = None) -> RedisAdapter:
        adapter = create(shared_valkey.url.partition(":")[2], prefix=prefix, ttl=ttl)
        await adapter.init()
        opened.append(adapter)
        return adapter

    yield open_adapter
    for adapter in opened:
        await adapter.close()


async def a_finished_run(adapter: RedisAdapter, number: int = 0, **changes: Any) -> TaskRun:
    made = await adapter.create_task_run(new_run(number, parent_run_id=PARENT, **changes))
    run = await adapter.claim(made.id, "token", NOW, LATER)
    calls = new_call(run, 0), new_call(run, 1, status="pending")
    await adapter.commit(Commit(run, "token", calls, (), "x", Snapshot(run.id, 1, b"s")))
    end = evolve(run, status=Status.COMPLETED, lease_token=None, lease_until=None, result=1)
    await adapter.commit(Commit(end, "token", updated=(delivered(calls[0], 1),)))
    return end


async def keys_of(adapter: RedisAdapter) -> dict[str, int]:
    """The keys of the store with the milliseconds that are left to them; -1: for ever."""
    client, prefix = adapter._server.connections, adapter._address.prefix
    names = [name.decode() async for name in client.scan_iter(f"{prefix}*", count=1000)]
    left = [await client.pexpiretime(name) for name in names]
    return {name.removeprefix(prefix): at for name, at in zip(names, left, strict=True)}


async def gone(adapter: RedisAdapter, run: TaskRun) -> None:
    async with asyncio.timeout(10):
        while await adapter.get_task_run(run.id):
            await asyncio.sleep(0.01)


async def test_a_finished_run_expires_with_all_that_belongs_to_it(open_adapter: Open) -> None:
    adapter = await open_adapter(ttl=0.3)
    run = await a_finished_run(adapter)
    kept = await adapter.create_task_run(new_run(1, code="another"))
    ends = {at for name, at in (await keys_of(adapter)).items() if run.id in name}
    assert len(ends) == 1
    assert ends.pop() > 0
    await gone(adapter, run)
    assert await adapter.query_task_runs() == [kept]
    assert await adapter.query_task_runs(parent_run_id=PARENT) == []
    assert await adapter.find_run_ids("") == [kept.id]
    assert await adapter.get_stack_run(f"{run.id}:0") is None
    assert await adapter.get_log(run.id) == []
    assert await adapter.get_snapshot(run.id) is None
    assert await adapter.query_stack_runs() == []
    assert await adapter.get_pending_stack_runs() == []
    assert await adapter.damaged() == []
    with pytest.raises(RunNotFoundError):
        await adapter.delete_task_run(run.id)
    await adapter.delete_task_run(kept.id)
    left = [name for name in await keys_of(adapter) if not name.startswith("done:")]
    assert left == ["version"]


async def test_what_is_added_to_a_finished_run_expires_with_it(open_adapter: Open) -> None:
    adapter = await open_adapter(ttl=3600)
    run = await adapter.create_task_run(new_run(status=Status.FAILED))
    await adapter.append_log(run.id, LogLine(NOW, "x"))
    await adapter.store_snapshot(Snapshot(run.id, 1, b"x"))
    await adapter.create_stack_run(new_call(run, 0))
    ends = {name: at for name, at in (await keys_of(adapter)).items() if run.id in name}
    assert len(ends) == 5
    assert min(ends.values()) > 0
    assert max(ends.values()) - min(ends.values()) < 5


async def test_a_run_that_is_retried_stays(open_adapter: Open) -> None:
    adapter = await open_adapter(ttl=3600)
    run = await a_finished_run(adapter)
    again = evolve(run, status=Status.SUSPENDED, wake_at=NOW, result=None)
    assert await adapter.amend(run, Amendment(again)) == again
    ends = {at for name, at in (await keys_of(adapter)).items() if "done:" not in name}
    assert ends == {-1}
    assert "expiring" not in await keys_of(adapter)
    claimed = await adapter.claim(run.id, "t", NOW, LATER)
    end = evolve(claimed, status=Status.FAILED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(end, "t"))
    ends = {at for name, at in (await keys_of(adapter)).items() if run.id in name}
    assert min(ends) > 0


async def test_a_finished_run_that_is_changed_is_still_swept(open_adapter: Open) -> None:
    adapter = await open_adapter(ttl=0.3)
    run = await a_finished_run(adapter)
    await adapter.update_task_run(run.id, code="changed", parent_run_id=None)
    await gone(adapter, run)
    assert await adapter.query_task_runs() == []
    left = [name for name in await keys_of(adapter) if not name.startswith("done:")]
    assert sorted(left) == ["pending", "version"]
    assert await adapter.get_pending_stack_runs() == []


async def test_a_run_made_anew_is_not_swept_with_the_one_before(open_adapter: Open) -> None:
    adapter = await open_adapter(ttl=0.05)
    old = await adapter.create_task_run(new_run(status=Status.FAILED))
    client: Any = adapter._server.connections
    expiring = f"{adapter._address.prefix}expiring"
    notes = await client.zrange(expiring, 0, -1, withscores=True)
    await gone(adapter, old)
    new = await adapter.create_task_run(evolve(old, status=Status.PENDING))
    await client.zadd(expiring, dict(notes))  # as if it had not been swept before
    assert await adapter.query_task_runs() == [new]
    assert await client.zcard(expiring) == 0


async def test_with_a_ttl_of_zero_finished_runs_stay(open_adapter: Open) -> None:
    adapter = await open_adapter(ttl=0)
    run = await a_finished_run(adapter)
    ends = {at for name, at in (await keys_of(adapter)).items() if run.id in name}
    assert ends == {-1}
    adapter = await open_adapter()
    assert adapter._address.ttl == 30 * 24 * 3600


async def test_a_run_that_waits_never_expires(open_adapter: Open) -> None:
    adapter = await open_adapter(ttl=0.001)
    for number, status in enumerate([Status.PENDING, Status.SUSPENDED, Status.PAUSED]):
        await adapter.create_task_run(new_run(number, status=status))
    ended = await adapter.create_task_run(new_run(9, status=Status.CANCELLED))
    await gone(adapter, ended)
    assert len(await adapter.query_task_runs()) == 3
    assert {at for name, at in (await keys_of(adapter)).items() if "done:" not in name} == {-1}
