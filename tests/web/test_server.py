"""The server as a process sees it: sockets, time limits, and how it ends."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from sequential.core.model import TaskConfig
from sequential.errors import ConfigError, StorageUnreachableError
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker
from sequential.testing.services import FakeService
from sequential.web import original
from sequential.web.server import address_of, listening
from sequential.web.settings import ServerSettings
from support.live_server import API, PATIENCE, serving
from support.postgres_server import PostgresServer, postgres_server

APPROVAL = "async def approval():\n    return await wait_for_event('word')"
HURRIED = ServerSettings(head_timeout=0.3, body_timeout=0.3)
REQUEST = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /tasks/approval HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory:", [FakeService("tool", {})]) as made:
        await made.store_task("approval", APPROVAL, TaskConfig("approval"))
        yield made


class Wire:
    """A connection that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """The status and the body of the next answer."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return int(head.split()[1]), await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", b"GET /hea", REQUEST[:-2]])
async def test_the_head_of_a_request_has_to_arrive_in_time(engine: Engine, sent: bytes) -> None:
    async with serving(engine, HURRIED) as live, connected(live.port) as wire:
        await wire.send(sent)
        assert await wire.rest() == b""


async def test_bytes_now_and_then_do_not_prolong_it(engine: Engine) -> None:
    async with serving(engine, HURRIED) as live, connected(live.port) as wire:

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                for byte in REQUEST * 100:
                    await wire.send(bytes([byte]))
                    await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert await wire.rest() == b""
        trickling.cancel()


async def test_the_next_head_has_to_arrive_in_time_as_well(engine: Engine) -> None:
    async with serving(engine, HURRIED) as live, connected(live.port) as wire:
        for _ in range(2):
            await wire.send(REQUEST)
            assert (await wire.answer())[0] == 200
        await wire.send(b"GET /")
        assert await wire.rest() == b""


async def test_a_body_has_to_arrive_in_time(engine: Engine) -> None:
    async with serving(engine, HURRIED) as live, connected(live.port) as wire:
        await wire.send(POST + b"Content-Length: 10\r\n\r\n{")
        status, body = await wire.answer()

        assert status == 408
        assert json.loads(body)["error"]["code"] == "too_slow"
        assert await wire.rest() == b""
        assert (await live.client.get("/health")).status_code == 200
    assert await engine.list_runs() == []


async def test_an_answer_may_take_longer_than_a_request(engine: Engine) -> None:
    async with serving(engine, HURRIED) as live:
        answer = await live.client.post("/tasks/approval", params={"timeout": 0.8})
        idle = await live.client.get("/health")

    assert answer.status_code == 202
    assert idle.status_code == 200


async def test_requests_may_come_one_behind_the_other(engine: Engine) -> None:
    async with serving(engine, HURRIED) as live, connected(live.port) as wire:
        await wire.send(REQUEST * 3)
        assert [(await wire.answer())[0] for _ in range(3)] == [200] * 3


async def test_nonsense_is_refused_and_hurts_nobody(engine: Engine) -> None:
    async with serving(engine) as live:
        for nonsense in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"A" * 70_000):
            async with connected(live.port) as wire:
                with contextlib.suppress(ConnectionError):
                    await wire.send(nonsense)
                assert b" 400 " in (await wire.rest())[:20]
        assert (await live.client.get("/health")).status_code == 200


async def test_too_many_connections_are_told_so(engine: Engine) -> None:
    async with (
        serving(engine, ServerSettings(most_connections=3)) as live,
        connected(live.port) as first,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(3):
            await stack.enter_async_context(connected(live.port))
        await first.send(REQUEST)
        status, body = await first.answer()
        assert status == 503
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        assert await first.rest() == b""

        async with connected(live.port) as next_one:  # the first has made room
            await stack.aclose()
            async with asyncio.timeout(PATIENCE):
                while len(live.server.server_state.connections) > 3:
                    await asyncio.sleep(0.01)
            await next_one.send(REQUEST)
            assert (await next_one.answer())[0] == 200


async def test_what_waits_is_ended_when_the_server_stops(engine: Engine) -> None:
    async with serving(engine) as live:
        run = await engine.create_run("approval")
        path = f"{API}/runs/{run.id}/wait"
        waiting = asyncio.create_task(live.client.get(path, params={"timeout": 60}))
        async with asyncio.timeout(PATIENCE):
            while (await engine.get_run(run.id)).status != "suspended":
                await asyncio.sleep(0.01)
        begun = asyncio.get_running_loop().time()
        live.server.stop()
        answer = await waiting

    assert answer.status_code == 200
    assert answer.json()["status"] == "suspended"
    assert asyncio.get_running_loop().time() - begun < 5


async def test_a_request_in_progress_is_answered_when_the_server_stops(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, real = asyncio.Event(), asyncio.Event(), engine.storage.create_task_run

    async def slow(run: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await real(run)

    monkeypatch.setattr(engine.storage, "create_task_run", slow)
    async with serving(engine) as live:
        posting = asyncio.create_task(live.client.post(f"{API}/runs", json={"task": "approval"}))
        await begun.wait()
        live.server.stop()
        asyncio.get_running_loop().call_later(0.3, go_on.set)
        answer = await posting
        with pytest.raises(httpx.ConnectError):
            await live.client.get("/health")

    assert answer.status_code == 201
    assert (await engine.get_run(answer.json()["id"])).status == "pending"


async def test_a_slow_store_keeps_only_those_waiting_who_ask_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = [await engine.create_run("approval", delay=60) for _ in range(2)]
    real = engine.storage.get_task_run
    go_on = asyncio.Event()

    async def get(run_id: str) -> Any:
        if run_id == slow.id:
            await go_on.wait()
        return await real(run_id)

    monkeypatch.setattr(engine.storage, "get_task_run", get)
    async with serving(engine, drive=False) as live:
        asking = asyncio.create_task(live.client.get(f"{API}/runs/{slow.id}"))
        others = [await live.client.get(f"{API}/runs/{fast.id}") for _ in range(20)]
        assert not asking.done()
        go_on.set()
        assert (await asking).status_code == 200

    assert {answer.status_code for answer in others} == {200}


async def test_a_store_that_cannot_be_reached_is_told_and_comes_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise StorageUnreachableError("no route to db.internal.example")

    async with serving(engine, drive=False) as live:
        with monkeypatch.context() as patched:
            patched.setattr(engine.storage, "get_task_function", away)
            troubled = [
                await live.client.get("/health"),
                await live.client.post(f"{API}/runs", json={"task": "approval"}),
            ]
        well = await live.client.get("/health")

    for answer in troubled:
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["code"] == "storage_unreachable"
        assert "db.internal" not in answer.text
    assert well.json()["status"] == "ok"


async def test_a_store_that_hangs_is_not_well(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: str) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(original, "SOON_ENOUGH", 0.05)
    async with serving(engine, drive=False) as live:
        with monkeypatch.context() as patched:
            patched.setattr(engine.storage, "get_task_function", hang)
            assert (await live.client.get("/health")).status_code == 503
        assert (await live.client.get("/health")).status_code == 200


async def test_a_worker_that_breaks_is_told_of(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Worker) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Worker, "run", broken)
    async with serving(engine) as live:
        assert (await live.client.get("/health")).status_code == 200

    assert "the worker of this server has broken" in caplog.text
    assert "nobody foresaw this" in caplog.text


async def test_trouble_of_the_worker_is_in_the_log(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    troubles, real = 2, engine.storage.claim_due

    async def claim_due(*arguments: Any, **options: Any) -> Any:
        nonlocal troubles
        troubles -= 1
        if troubles >= 0:
            raise StorageUnreachableError("no route")
        return await real(*arguments, **options)

    monkeypatch.setattr(engine.storage, "claim_due", claim_due)
    monkeypatch.setattr(engine.storage, "sweep", 0.02)
    async with serving(engine), asyncio.timeout(PATIENCE):
        while "well again" not in caplog.text:
            await asyncio.sleep(0.01)

    assert caplog.text.count("no route; trying again") == 1


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except LookupError as error:
        pytest.skip(str(error))


async def test_postgresql_may_be_restarted(postgres: PostgresServer) -> None:
    async with Engine(f"{postgres.url}&patience=1") as engine:
        await engine.store_task("approval", APPROVAL, TaskConfig("approval"))
        async with serving(engine) as live:
            run = (await live.client.post(f"{API}/runs", json={"task": "approval"})).json()
            async with live.follow(f"/runs/{run['id']}/events") as follower:
                await follower.until("run", status="suspended")
                postgres.stop()
                down = await live.client.get("/health")
                postgres.start()
                async with asyncio.timeout(PATIENCE):
                    while (await live.client.get("/health")).status_code != 200:
                        await asyncio.sleep(0.05)
                path, answer = f"{API}/runs/{run['id']}/answer", {"name": "word", "data": 1}
                answered = await live.client.post(path, json=answer)
                end = await follower.until("end")

    assert down.status_code == 503
    assert answered.status_code == 200
    assert end[-1].data == {"status": "completed"}


def test_a_port_that_is_taken_is_named() -> None:
    with (
        contextlib.closing(listening("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match=r"port \d+: .*in use; choose another one with --port"),
    ):
        listening("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["256.1.1.1", "no such host", "192.0.2.1"])
def test_an_address_that_is_not_here_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on") as caught:
        listening(host, 0)

    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_an_address_of_ipv6(engine: Engine) -> None:
    try:
        listener = listening("::1", 0)
    except ConfigError as error:
        pytest.skip(str(error))
    async with serving(engine, listener=listener) as live:
        assert address_of(listener).startswith("http://[::1]:")
        assert (await live.client.get("/health")).status_code == 200
