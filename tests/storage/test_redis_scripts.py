"""The scripts do everything or nothing: the server does not take back what one wrote before an
error, so every key that one touches is spoilt in turn."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sequential.core import times
from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    RunEvent,
    Snapshot,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.errors import DamagedRunError, StorageError, ValueNotSupportedError
from sequential.storage.redis import RedisAdapter, create
from sequential.testing.storage_contract import LATER, NOW, SOON, delivered, new_call, new_run
from support.valkey_server import ValkeyServer, shared_valkey

__all__ = ["shared_valkey"]

Keys = dict[bytes, bytes]
PARENT = new_run(500).id


@pytest.fixture
async def adapter(shared_valkey: ValkeyServer) -> AsyncIterator[RedisAdapter]:
    adapter = create(shared_valkey.url.partition(":")[2], prefix=f"test-{secrets.token_hex(4)}:")
    await adapter.init()
    yield adapter
    await adapter.close()


async def keys_of(adapter: RedisAdapter) -> Keys:
    """Everything in the store as it is, but for what is kept for repetitions."""
    client = adapter._server.connections
    prefix = adapter._address.prefix
    names = [name async for name in client.scan_iter(f"{prefix}*", count=1000)]
    kept = [name for name in names if not name.startswith(f"{prefix}done:".encode())]
    return {name: bytes(await client.dump(name) or b"") for name in kept}


async def a_driven_run(adapter: RedisAdapter) -> TaskRun:
    """With a call that is open and one that waits, a log, a snapshot and an answer."""
    await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    config = TaskConfig("my-task", concurrency=5)
    made = new_run(config=config, priority=3, parent_run_id=PARENT, wake_at=NOW)
    await adapter.create_task_run(made)
    await adapter.answer(made.id, RunEvent("e", "approval", NOW, data=[1]), NOW)
    run = await adapter.claim(made.id, "token", NOW, SOON)
    calls = (new_call(run, 0), new_call(run, 1, status="pending"))
    snapshot = Snapshot(run.id, 1, b"state")
    await adapter.commit(Commit(evolve(run, turn=1), "token", calls, (), "printed", snapshot))
    return evolve(run, turn=1)


async def create_run(adapter: RedisAdapter, run: TaskRun) -> None:
    await adapter.create_task_run(new_run(7, id=PARENT, code="another", wake_at=LATER))


async def update(adapter: RedisAdapter, run: TaskRun) -> None:
    await adapter.update_task_run(run.id, code="other", status=Status.PAUSED, priority=9)


async def go_on(adapter: RedisAdapter, run: TaskRun) -> None:
    adapter._held.clear()  # so that the program is written, too
    calls = (new_call(run, 2),), (delivered(new_call(run, 0), 2),)
    run = evolve(run, turn=2, wake_at=LATER, code="third")
    snapshot = Snapshot(run.id, 2, b"new")
    await adapter.commit(Commit(run, "token", *calls, "more", snapshot, ("e",)))


async def end(adapter: RedisAdapter, run: TaskRun) -> None:
    done = evolve(run, status=Status.COMPLETED, lease_token=None, lease_until=None, result=1)
    await adapter.commit(Commit(done, "token", log="end"))


async def park(adapter: RedisAdapter, run: TaskRun) -> None:
    parked = evolve(run, status=Status.SUSPENDED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(parked, "token"))


async def amend(adapter: RedisAdapter, run: TaskRun) -> None:
    old = await adapter._get(run.id)
    new = evolve(
        old, status=Status.CANCELLED, lease_token=None, lease_until=None, code="x", priority=1
    )
    changed = delivered(new_call(run, 0), 1)
    await adapter.amend(old, Amendment(new, (changed,), (1,)))


async def append(adapter: RedisAdapter, run: TaskRun) -> None:
    await adapter.append_log(run.id, LogLine(NOW, "x"))


OPERATIONS: dict[str, Callable[[RedisAdapter, TaskRun], Awaitable[Any]]] = {
    "create": create_run,
    "update": update,
    "go on": go_on,
    "park": park,
    "end": end,
    "amend": amend,
    "claim": lambda adapter, run: adapter.claim(run.id, "next", LATER, "2027"),
    "claim due": lambda adapter, run: adapter.claim_due("next", LATER, "2027", 5),
    "renew": lambda adapter, run: adapter.renew(run.id, "token", LATER),
    "release": lambda adapter, run: adapter.release(run.id, "token"),
    "create call": lambda adapter, run: adapter.create_stack_run(new_call(run, 5)),
    "update call": lambda adapter, run: adapter.update_stack_run(f"{run.id}:1", delivered_turn=3),
    "delete call": lambda adapter, run: adapter.delete_stack_run(f"{run.id}:1"),
    "snapshot": lambda adapter, run: adapter.store_snapshot(Snapshot(run.id, 2, b"2")),
    "log": append,
    "put document": lambda adapter, run: adapter.put_document("tokens", "a", 1),
}
ON_A_FREE_RUN: dict[str, Callable[[RedisAdapter, TaskRun], Awaitable[Any]]] = {
    "delete run": lambda adapter, run: adapter.delete_task_run(run.id),
    "delete task": lambda adapter, run: adapter.delete_task("my-task"),
}


async def error_of(operation: Awaitable[Any]) -> StorageError | None:
    try:
        await operation
    except StorageError as error:
        return error
    return None


@pytest.mark.parametrize("name", [*OPERATIONS, *ON_A_FREE_RUN])
async def test_an_operation_that_meets_a_foreign_key_writes_nothing(
    adapter: RedisAdapter, name: str
) -> None:
    operation = OPERATIONS.get(name) or ON_A_FREE_RUN[name]
    client = adapter._server.connections
    prefix = adapter._address.prefix
    run = await a_driven_run(adapter)
    if name in ON_A_FREE_RUN:
        await adapter.release(run.id, "token")
    before = await keys_of(adapter)
    await operation(adapter, run)
    touched = {*before, *await keys_of(adapter)} - {f"{prefix}version".encode()}
    assert len(touched) > 12
    failures = 0
    for spoilt in sorted(touched):
        await client.delete(*touched)
        for key, value in before.items():
            await client.restore(key, 0, value, replace=True)
        await client.set(spoilt, "foreign")
        expected = await keys_of(adapter)
        error = await error_of(operation(adapter, run))
        if error is None:  # then it has nothing to do with this key
            assert await client.get(spoilt) == b"foreign"
            continue
        failures += 1
        assert isinstance(error, DamagedRunError), (spoilt, error)
        assert "prefix" in str(error)
        assert await keys_of(adapter) == expected, spoilt
    assert failures > 0


@pytest.mark.parametrize("spoilt", ["documents", "document_keys"])
async def test_documents_that_meet_a_foreign_key_stay_as_they_are(
    adapter: RedisAdapter, spoilt: str
) -> None:
    await adapter.put_document("tokens", "a", 1)
    await adapter.put_document("tokens", "b", 2)
    await adapter._server.connections.set(f"{adapter._address.prefix}{spoilt}:tokens", "foreign")
    before = await keys_of(adapter)
    for attempt in (
        adapter.delete_document("tokens", "a"),
        adapter.prune_documents("tokens", "b"),
        adapter.put_document("tokens", "a", 3),
        adapter.list_documents("tokens"),
    ):
        assert isinstance(await error_of(attempt), DamagedRunError)
        assert await keys_of(adapter) == before


async def test_a_document_that_was_damaged_by_hand_is_reported(adapter: RedisAdapter) -> None:
    await adapter.put_document("tokens", "a", 1)
    documents = f"{adapter._address.prefix}documents:tokens"
    await adapter._server.connections.hset(documents, "a", "text")
    for attempt in (adapter.get_document("tokens", "a"), adapter.list_documents("tokens")):
        with pytest.raises(DamagedRunError, match="the document tokens/a is damaged"):
            await attempt
    assert (await adapter.put_document("tokens", "a", 2)).value == 2
    assert await adapter.prune_documents("tokens", "b") == 1


async def test_more_documents_are_pruned_than_one_script_removes(adapter: RedisAdapter) -> None:
    prefix = adapter._address.prefix
    keys = [f"{number:05}" for number in range(2500)]
    client = adapter._server.connections
    await client.hset(f"{prefix}documents:log", mapping=dict.fromkeys(keys, "1 null"))
    await client.zadd(f"{prefix}document_keys:log", dict.fromkeys(keys, 0))
    assert await adapter.prune_documents("log", "02400") == 2400
    assert [one.key for one in await adapter.list_documents("log")] == keys[2400:]


async def test_nothing_is_left_when_all_is_deleted(adapter: RedisAdapter) -> None:
    run = await a_driven_run(adapter)
    await adapter.put_document("tokens", "a", 1)
    await adapter.delete_document("tokens", "a")
    await adapter.release(run.id, "token")
    await adapter.delete_task("my-task")
    assert [*await keys_of(adapter)] == [f"{adapter._address.prefix}version".encode()]


async def test_runs_share_their_program(adapter: RedisAdapter) -> None:
    client, programs = adapter._server.connections, f"{adapter._address.prefix}programs"
    runs = [await adapter.create_task_run(new_run(i, code="#" * 50_000)) for i in range(3)]
    await adapter.create_task_run(new_run(9, code="#"))
    assert await client.hlen(programs) == 2
    await adapter.update_task_run(runs[0].id, code="##")
    assert await client.hlen(programs) == 3
    for run in runs:
        await adapter.delete_task_run(run.id)
    assert await client.hlen(programs) == 1


async def test_a_list_shows_notes_for_large_values(adapter: RedisAdapter) -> None:
    large = {"text": "x" * 100_000}
    run = await adapter.create_task_run(new_run(input=large, result=large))
    (listed,) = await adapter.query_task_runs()
    note = {"$payload": {"size": 100_011}}
    assert (listed.input, listed.result) == (note, note)
    assert evolve(listed, input=large, result=large) == run
    assert await adapter.get_task_run(run.id) == run


async def test_a_damaged_run_is_named_and_left_out_of_lists(adapter: RedisAdapter) -> None:
    runs = [await adapter.create_task_run(new_run(i)) for i in range(3)]
    client, prefix = adapter._server.connections, adapter._address.prefix
    await client.hset(f"{prefix}run:{runs[0].id}", "input", "{not json")
    await client.hdel(f"{prefix}run:{runs[1].id}", "created_at", "task_identifier")
    assert await adapter.query_task_runs() == [runs[2]]
    for run in runs[:1]:
        with pytest.raises(DamagedRunError, match=run.id):
            await adapter.get_task_run(run.id)
    assert runs[0].id in "\n".join(await adapter.damaged())
    assert await adapter.find_run_ids("") == [run.id for run in runs]


async def test_filters_go_through_the_smallest_list_page_by_page(adapter: RedisAdapter) -> None:
    runs = [
        new_run(i, task_identifier=f"task{i % 2}", status="failed" if i % 100 == 1 else "pending")
        for i in range(450)
    ]
    for run in runs:
        await adapter.create_task_run(run)
    failed = [run for run in reversed(runs) if run.status == "failed"]
    assert await adapter.query_task_runs(status="failed", task_identifier="task1") == failed
    assert await adapter.query_task_runs(status="failed", task_identifier="task0") == []
    assert await adapter.query_task_runs(status=["failed", "pending"]) == runs[::-1]
    assert await adapter.query_task_runs(updated_at=runs[3].updated_at) == [runs[3]]
    some = await adapter.query_task_runs(limit=230, before=runs[440].id)
    assert some == runs[439:209:-1]
    assert len(await adapter.find_run_ids("", "task0")) == 225


async def test_a_run_that_others_removed_is_no_ghost(adapter: RedisAdapter) -> None:
    runs = [await adapter.create_task_run(new_run(i)) for i in range(3)]
    client, prefix = adapter._server.connections, adapter._address.prefix
    await client.delete(f"{prefix}run:{runs[1].id}")
    assert await adapter.query_task_runs() == [runs[2], runs[0]]
    assert await adapter.find_run_ids("") == [runs[0].id, runs[2].id]
    assert await adapter.wakeups(NOW) == [runs[0].id, runs[2].id]
    assert len(await adapter.claim_due("t", NOW, SOON, 5)) == 2
    assert await adapter.damaged() == []


async def test_a_damaged_run_is_in_nobodys_way(adapter: RedisAdapter) -> None:
    runs = [await adapter.create_task_run(new_run(i)) for i in range(3)]
    client, prefix = adapter._server.connections, adapter._address.prefix
    await client.hset(f"{prefix}run:{runs[0].id}", "input", "{not json")
    with pytest.raises(DamagedRunError):
        await adapter.claim(runs[0].id, "t", NOW, SOON)
    claimed = await adapter.claim_due("t", NOW, SOON, 5)
    assert {run.id for run in claimed} == {runs[1].id, runs[2].id}
    assert await adapter.claim_due("t", NOW, SOON, 5) == []


@pytest.mark.parametrize(
    "changes", [{"input": {"a": "\ud800"}}, {"code": "\ud800"}, {"wake_at": "\ud800"}]
)
async def test_text_that_is_not_unicode_is_refused(
    adapter: RedisAdapter, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueNotSupportedError, match="surrogate"):
        await adapter.create_task_run(new_run(**changes))
    assert [*await keys_of(adapter)] == [f"{adapter._address.prefix}version".encode()]
    assert await adapter.query_task_runs(wake_at="\ud800") == []
    assert await adapter.query_task_runs(task_identifier="\ud800") == []
    assert await adapter.get_task_run("\ud800") is None


async def test_a_full_task_does_not_hide_the_others(adapter: RedisAdapter) -> None:
    limited = TaskConfig("limited", concurrency=1)
    for i in range(20):
        await adapter.create_task_run(
            new_run(i, task_identifier="limited", config=limited, priority=5)
        )
    free = [await adapter.create_task_run(new_run(30 + i)) for i in range(3)]
    claimed = await adapter.claim_due("t", NOW, SOON, 3)
    assert [run.task_identifier for run in claimed] == ["limited", "my-task", "my-task"]
    assert [run.id for run in await adapter.claim_due("t", NOW, SOON, 3)] == [free[2].id]
    later = times.after(SOON, 1)
    assert len(await adapter.claim_due("u", later, LATER, 9, without=["my-task"])) == 1
