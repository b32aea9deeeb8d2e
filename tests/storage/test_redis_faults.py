"""Lost connections and servers that refuse: nothing is done twice, and each error is one line."""

import asyncio
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    RunEvent,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.errors import (
    ConfigError,
    DocumentChangedError,
    LeaseLostError,
    RunBusyError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from sequential.storage.redis import RedisAdapter, create
from sequential.storage.redis_scripts import script
from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import LATER, NOW, SOON, new_call, new_run
from support.fault_proxy import FaultProxy
from support.valkey_server import ValkeyServer, shared_valkey, valkey

__all__ = ["shared_valkey"]

Step = Callable[[RedisAdapter, TaskRun], Awaitable[Any]]


@pytest.fixture
async def proxy(shared_valkey: ValkeyServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(shared_valkey.socket) as proxy:
        yield proxy


@pytest.fixture
async def adapter(proxy: FaultProxy) -> AsyncIterator[RedisAdapter]:
    adapter = create(f"redis://127.0.0.1:{proxy.port}?prefix=test-{secrets.token_hex(4)}:")
    await adapter.init()
    yield adapter
    await adapter.close()


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.005)


async def commit(adapter: RedisAdapter, run: TaskRun) -> None:
    step = Commit(evolve(run, turn=1), "token", (new_call(run, 0),), log="printed")
    await adapter.commit(step)
    assert [line.text for line in await adapter.get_log(run.id)] == ["printed"]
    assert len(await adapter.load_calls(run.id)) == 1


async def commit_the_end(adapter: RedisAdapter, run: TaskRun) -> None:
    end = evolve(run, status=Status.COMPLETED, lease_token=None, lease_until=None)
    await adapter.commit(Commit(end, "token", log="end"))
    assert await adapter.get_task_run(run.id) == end
    assert len(await adapter.get_log(run.id)) == 1


async def claim(adapter: RedisAdapter, run: TaskRun) -> None:
    claimed = await adapter.claim(run.id, "next", LATER, "2027")
    assert await adapter.get_task_run(run.id) == claimed
    with pytest.raises(RunBusyError):
        await adapter.claim(run.id, "next", LATER, "2027")


async def claim_due(adapter: RedisAdapter, run: TaskRun) -> None:
    (claimed,) = await adapter.claim_due("next", LATER, "2027", 5)
    assert claimed.id == run.id


async def create_run(adapter: RedisAdapter, run: TaskRun) -> None:
    made = await adapter.create_task_run(new_run(5))
    assert await adapter.get_task_run(made.id) == made


async def amend(adapter: RedisAdapter, run: TaskRun) -> None:
    old = await adapter._get(run.id)
    event = RunEvent("e", "approval", NOW)
    await adapter.amend(old, Amendment(evolve(old, events=(event,), answers=1)))
    assert (await adapter._get(run.id)).events == (event,)


async def renew(adapter: RedisAdapter, run: TaskRun) -> None:
    assert await adapter.renew(run.id, "token", LATER) == 0


async def delete_run(adapter: RedisAdapter, run: TaskRun) -> None:
    await adapter.release(run.id, "token")
    await adapter.delete_task_run(run.id)
    assert await adapter.query_task_runs() == []


async def delete_task(adapter: RedisAdapter, run: TaskRun) -> None:
    await adapter.store_task_function(TaskFunction("my-task", "1", TaskConfig("my-task")))
    await adapter.release(run.id, "token")
    assert await adapter.delete_task("my-task") == 1


async def store_task(adapter: RedisAdapter, run: TaskRun) -> None:
    function = TaskFunction("task", "1", TaskConfig("task"))
    assert (await adapter.store_task_function(function)).version == 1
    assert (await adapter.store_task_function(evolve(function, code="2"))).version == 2


async def append_log(adapter: RedisAdapter, run: TaskRun) -> None:
    await adapter.append_log(run.id, LogLine(NOW, "x"))
    assert len(await adapter.get_log(run.id)) == 1


async def use_the_keystore(adapter: RedisAdapter, run: TaskRun) -> None:
    await adapter.set_keystore("k", "secret")
    assert await adapter.get_keystore("k") == "secret"
    assert await adapter.delete_keystore("k") is True
    assert await adapter.delete_keystore("k") is False


async def use_documents(adapter: RedisAdapter, run: TaskRun) -> None:
    one = await adapter.put_document("tokens", "a", 1, if_version=0)
    two = await adapter.put_document("tokens", "a", 2)
    three = await adapter.put_document("tokens", "a", 3, if_version=2)
    assert [one.version, two.version, three.version] == [1, 2, 3]
    with pytest.raises(DocumentChangedError, match="tokens/a has version 3 now"):
        await adapter.put_document("tokens", "a", 4, if_version=2)
    assert await adapter.list_documents("tokens") == [three]
    assert await adapter.delete_document("tokens", "a") is True
    assert await adapter.delete_document("tokens", "a") is False
    await adapter.put_document("tokens", "b", 1)
    assert await adapter.prune_documents("tokens", "z") == 1
    assert await adapter.prune_documents("tokens", "z") == 0


STEPS: list[Step] = [
    *(commit, commit_the_end, claim, claim_due, create_run, amend, renew, delete_run),
    *(delete_task, store_task, append_log, use_the_keystore, use_documents),
]


@pytest.mark.parametrize("what", ["lose_answers", "lose_requests"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_what_is_sent_again_is_done_once(
    adapter: RedisAdapter, proxy: FaultProxy, step: Step, what: str
) -> None:
    made = await adapter.create_task_run(new_run())
    run = await adapter.claim(made.id, "token", NOW, SOON)
    client = adapter._server.connections
    for path in resources.files("sequential.storage").joinpath("lua").iterdir():
        await client.script_load(script(path.name.removesuffix(".lua")).text)
    real, lost = adapter._server._send, 0  # each command is lost twice

    async def lossy(*items: Any) -> Any:
        nonlocal lost
        lost += 1
        if lost % 3:
            setattr(proxy, what, 1)
        return await real(*items)

    adapter._server._send = lossy  # type: ignore[method-assign]
    await step(adapter, run)
    assert lost >= 3


async def test_a_server_that_is_away_for_a_moment_is_waited_for(
    adapter: RedisAdapter, proxy: FaultProxy
) -> None:
    run = await adapter.create_task_run(new_run())
    proxy.is_refusing = True
    proxy.cut()
    claiming = asyncio.ensure_future(adapter.claim(run.id, "token", NOW, SOON))
    await asyncio.sleep(0.2)
    assert not claiming.done()
    proxy.is_refusing = False
    assert (await claiming).lease_token == "token"


async def test_a_server_that_stays_away_is_given_up(proxy: FaultProxy) -> None:
    adapter = create(f"redis://:secret@127.0.0.1:{proxy.port}", patience=0.2)
    with pytest.raises(StorageError, match="password") as refused:  # it has no password
        await adapter.init()
    assert "secret" not in str(refused.value)
    adapter = create(f"redis://127.0.0.1:{proxy.port}?prefix=away:", patience=0.2)
    await adapter.init()
    proxy.is_refusing = True
    proxy.cut()
    with pytest.raises(StorageError, match=r"cannot be reached: .*: start the server") as lost:
        await adapter.get_keystore("k")
    assert "\n" not in str(lost.value)
    await adapter.close()


async def test_a_silent_server_is_given_up(proxy: FaultProxy) -> None:
    url = f"redis://127.0.0.1:{proxy.port}?prefix=silent:&socket_timeout=0.1"
    adapter = create(url, patience=0.3)
    await adapter.init()
    proxy.is_silent = True
    with pytest.raises(StorageError, match="does not answer"):
        await adapter.get_keystore("k")
    proxy.is_silent = False
    assert await adapter.get_keystore("k") is None
    await adapter.close()


async def test_who_cancels_a_claim_leaves_no_lease(adapter: RedisAdapter) -> None:
    run = await adapter.create_task_run(new_run())
    for wait in (0.0, 0.0005, 0.001, 0.002):
        claiming = asyncio.ensure_future(adapter.claim(run.id, f"t{wait}", NOW, LATER))
        await asyncio.sleep(wait)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        if not claiming.cancelled():
            await adapter.release(run.id, f"t{wait}")
        async with asyncio.timeout(5):
            while (await adapter._get(run.id)).lease_token or adapter._returns:
                await asyncio.sleep(0.001)


async def test_closing_gives_leases_back(adapter: RedisAdapter, proxy: FaultProxy) -> None:
    run = await adapter.create_task_run(new_run())
    prefix = adapter._address.prefix
    other = create(f"redis://127.0.0.1:{proxy.port}", prefix=prefix)
    await other.init()
    claimed = await other.claim(run.id, "token", NOW, LATER)
    await adapter.answer(run.id, RunEvent("e", "x", NOW), NOW)
    await other.commit(Commit(evolve(claimed, turn=1), "token"))
    await other.close()
    assert (await adapter._get(run.id)).lease_token is None
    with pytest.raises(StorageError, match="not open"):
        await other.get_task_run(run.id)


async def test_a_forked_process_is_refused(adapter: RedisAdapter) -> None:
    adapter._server._process = os.getpid() + 1
    with pytest.raises(StorageError, match="forked"):
        await adapter.get_keystore("k")
    adapter._server._process = os.getpid()


# --- being told ----------------------------------------------------------------------------------


async def test_who_watches_is_told_of_a_gap(adapter: RedisAdapter, proxy: FaultProxy) -> None:
    told: list[str] = []
    await adapter.watch(told.append)
    assert told == []
    proxy.cut()
    await until(lambda: "" in told)
    other = create(f"redis://127.0.0.1:{proxy.port}", prefix=adapter._address.prefix)
    await other.init()
    run = await other.create_task_run(new_run())
    await until(lambda: run.id in told)
    await other.close()


async def test_who_watches_notices_that_the_server_is_silent(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sequential.storage.redis_watch.SILENCE", 0.05)
    prefix = f"test-{secrets.token_hex(4)}:"
    url = f"redis://127.0.0.1:{proxy.port}?prefix={prefix}&socket_timeout=0.1"
    adapter = create(url)
    await adapter.init()
    told: list[str] = []
    await adapter.watch(told.append)
    await asyncio.sleep(0.3)  # a server that is quiet, yet answers, is none that is silent
    assert told == []
    proxy.is_silent = True
    await asyncio.sleep(0.2)
    proxy.is_silent = False
    await until(lambda: "" in told)
    await adapter.close()


async def test_who_watches_is_told_once_of_his_own(adapter: RedisAdapter) -> None:
    told: list[str] = []
    await adapter.watch(told.append)
    runs = [await adapter.create_task_run(new_run(i)) for i in range(5)]
    client = adapter._server.connections
    channel = f"{adapter._address.prefix}changes"
    assert await client.publish(channel, "somebody last") == 1
    await until(lambda: "last" in told)
    assert told == [*(run.id for run in runs), "last"]


# --- what servers refuse -------------------------------------------------------------------------


async def test_a_wrong_password_is_said_without_it() -> None:
    with valkey(requirepass="right-password", appendonly="no") as server:
        for user in ("", ":wrong-password@"):
            url = f"unix://{user}{server.socket}"
            with pytest.raises(StorageError, match="refuses the password") as refused:
                await create_adapter(f"redis:{url}")
            assert "wrong-password" not in str(refused.value)
            assert "\n" not in str(refused.value)
        adapter = await create_adapter(f"redis:unix://:right-password@{server.socket}")
        assert await adapter.query_task_runs() == []
        await adapter.close()


async def test_a_full_memory_writes_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with valkey(appendonly="no") as server:
        adapter = create(server.url.partition(":")[2])
        await adapter.init()
        run = await adapter.create_task_run(new_run())
        run = await adapter.claim(run.id, "token", NOW, SOON)
        client = adapter._server.connections
        await client.config_set("maxmemory", "1")
        step = Commit(evolve(run, turn=1), "token", (new_call(run, 0),), log="x")
        with pytest.raises(StorageFullError, match="more memory"):
            await adapter.commit(step)
        assert await adapter.get_task_run(run.id) == run
        assert await adapter.load_calls(run.id) == []
        await client.config_set("maxmemory", "0")
        await adapter.commit(step)
        await adapter.close()


async def test_a_disk_that_fails_writes_nothing_and_says_so() -> None:
    with valkey(appendonly="no", save="3600 1") as server:
        adapter = create(server.url.partition(":")[2])
        await adapter.init()
        (server.folder / "dump.rdb").mkdir()  # it cannot be replaced by a file
        client = adapter._server.connections
        await client.bgsave()
        async with asyncio.timeout(10):
            while (await client.info("persistence"))["rdb_last_bgsave_status"] == "ok":
                await asyncio.sleep(0.02)
        run = new_run()
        with pytest.raises(StorageFullError, match="MISCONF"):
            await adapter.create_task_run(run)
        assert await adapter.query_task_runs() == []
        await adapter.close()


async def test_a_replica_is_refused_and_a_failover_is_followed() -> None:
    with valkey(appendonly="no") as server:
        adapter, operator = [create(server.url.partition(":")[2], patience=10) for _ in range(2)]
        await adapter.init()
        await operator.init()
        client = operator._server.connections
        await client.replicaof("127.0.0.1", "1")
        with pytest.raises(StorageReadOnlyError, match="replica"):
            await create_adapter(server.url)
        creating = asyncio.ensure_future(adapter.create_task_run(new_run()))
        await asyncio.sleep(0.1)
        assert not creating.done()
        await client.replicaof("NO", "ONE")
        assert await creating in await adapter.query_task_runs()
        await adapter.close()
        await operator.close()


async def test_a_server_that_loads_its_data_is_waited_for() -> None:
    with valkey(appendonly="no", save="") as server:
        adapter = create(server.url.partition(":")[2])
        await adapter.init()
        client = adapter._server.connections
        for number in range(1000):
            await client.set(f"other:{number}", "x")
        run = await adapter.create_task_run(new_run())
        await client.save()
        await adapter.close()
        server.kill()
        server.options |= {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
        server.start(is_ready=False)
        adapter = create(server.url.partition(":")[2])
        await adapter.init()
        assert await adapter.query_task_runs() == [run]
        await adapter.close()


async def test_a_cluster_is_refused() -> None:
    options = {"appendonly": "no", "cluster-enabled": "yes"}
    with valkey(**options) as server, pytest.raises(StorageError, match="cluster"):
        await create_adapter(server.url)


async def test_a_newer_layout_is_refused(adapter: RedisAdapter, proxy: FaultProxy) -> None:
    prefix = adapter._address.prefix
    await adapter._server.connections.set(f"{prefix}version", "2")
    with pytest.raises(StorageError, match="newer version"):
        await create_adapter(f"redis://127.0.0.1:{proxy.port}", prefix=prefix)


async def test_who_may_not_write_is_told() -> None:
    with valkey(appendonly="no") as server:
        adapter = create(server.url.partition(":")[2])
        await adapter.init()
        client: Any = adapter._server.connections
        await client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@read")
        with pytest.raises(StorageError, match="forbids it"):
            await create_adapter(f"redis:unix://reader:pw@{server.socket}")
        rules = ("on", ">pw", "~sequential:*", "+@all", "-config", "-@pubsub", "resetchannels")
        await client.execute_command("ACL", "SETUSER", "writer", *rules)
        other = await create_adapter(f"redis:unix://writer:pw@{server.socket}")
        assert isinstance(other, RedisAdapter)
        assert other.durability.startswith("unknown")
        run = await other.create_task_run(new_run())  # which nobody can be told of
        assert await adapter.query_task_runs() == [run]
        await other.close()
        await adapter.close()


async def test_the_rights_that_the_page_names_are_enough() -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    rights = re.search(r"`(~sequential:[^`]*)`", page)
    assert rights
    with valkey(appendonly="no") as server:
        adapter = create(server.url.partition(":")[2])
        await adapter.init()
        client: Any = adapter._server.connections
        rules = ("on", ">pw", *rights[1].split())
        await client.execute_command("ACL", "SETUSER", "worker", *rules)
        worker = create(f"unix://worker:pw@{server.socket}")
        await worker.init()
        told: list[str] = []
        await worker.watch(told.append)
        run = await adapter.create_task_run(new_run())
        await until(lambda: run.id in told)
        (claimed,) = await worker.claim_due("token", NOW, LATER, 5)
        await commit(worker, claimed)
        assert await worker.next_wakeup(NOW) is None
        end = evolve(claimed, status=Status.FAILED, lease_token=None, lease_until=None)
        await worker.commit(Commit(end, "token"))
        await worker.delete_task_run(run.id)
        assert await worker.query_task_runs() == []
        assert await worker.query_stack_runs() == []
        assert await worker.get_pending_stack_runs() == []
        await worker.close()
        await adapter.close()


# --- durability ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "durability", "warning"),
    [
        ({}, "survives a power cut", ""),
        ({"appendfsync": "everysec"}, "loses up to a second", ""),
        ({"appendonly": "no"}, "a restart", "set `appendonly yes`"),
        (
            {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            "survives a power cut",
            "allkeys-lru",
        ),
    ],
)
async def test_what_the_server_promises_is_said(
    options: dict[str, str], durability: str, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with valkey(**options) as server, caplog.at_level(logging.WARNING):
        adapter = create(server.url.partition(":")[2])
        await adapter.init()
        assert durability in adapter.durability
        assert len(caplog.records) == bool(warning)
        assert warning in caplog.text
        await adapter.close()


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://localhost", "no address of a Redis server"),
        ("redis://:secret@host:badport/0", "no usable port"),
        ("redis://:secret@host:6379/zero", "number of the database"),
        ("redis://host?prefx=a", "'prefx' is no option"),
        ("redis://host?ssl_ca_certs=a", "'ssl_ca_certs' is no option"),
        ("redis://host?ttl=soon", "ttl is 'soon'"),
        ("redis://host?ttl=-1", "ttl is '-1'"),
        ("redis://host?prefix=", "prefix"),
        ("redis://host?prefix=a%20b", "prefix"),
        ("redis://host?password=secret&socket_timeout=x", "socket_timeout"),
    ],
)
async def test_a_wrong_address_is_refused_without_its_password(location: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        await create(location).init()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("location", "url", "shown"),
    [
        ("", "redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("host:1/2", "redis://host:1/2", "redis://host:1/2"),
        ("valkey://u:p%40@h", "redis://u:p%40@h", "valkey://h"),
        ("valkeys://h?prefix=a:", "rediss://h", "valkeys://h"),
        ("unix:///s?db=3&ttl=0", "unix:///s?db=3", "unix:///s"),
        ("/run/s", "unix:///run/s", "unix:///run/s"),
        ("redis://h?password=p", "redis://h?password=p", "redis://h"),
    ],
)
def test_an_address_is_read_and_shown(location: str, url: str, shown: str) -> None:
    adapter = create(location)
    assert adapter._address.url == url
    assert adapter._address.shown == shown


async def test_stores_of_several_prefixes_share_a_server(shared_valkey: ValkeyServer) -> None:
    prefixes = [f"test-{secrets.token_hex(4)}:" for _ in range(2)]
    one, two = [await create_adapter(f"{shared_valkey.url}?prefix={p}") for p in prefixes]
    run = await one.create_task_run(new_run())
    assert await two.query_task_runs() == []
    with pytest.raises(LeaseLostError):
        await one.renew(run.id, "token", SOON)
    await one.close()
    await two.close()
