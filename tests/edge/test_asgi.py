"""Behind a real ASGI server, and behind what Vercel calls."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
import uvicorn

from edge.conftest import SECRET, TOKEN, Cloud
from sequential.core.model import Status
from sequential.edge import Edge, asgi, vercel
from sequential.runner.links import Links
from sequential.testing.services import FakeService

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@contextlib.asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[int]:
    """The port of a server that runs `app` on this event loop."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(app, log_level="error", ws="none", **options)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@contextlib.contextmanager
def handled(edge: Edge) -> Iterator[int]:
    """The port of a server of the standard library that uses Vercel's kind of handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), vercel.handler(edge))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        edge.close_sync()


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] = AUTHORIZED
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        return response.status, json.loads(response.read())


async def test_a_run_goes_from_request_to_request(cloud: Cloud) -> None:
    edge = cloud.function(budget=0, fire=None, base_url="")
    async with served(asgi.application(edge)) as port:
        body = b'{"input": {"n": 5}}'
        status, run = await asyncio.to_thread(ask, port, "POST", "/tasks/steps", body)
        assert status == 202
        assert edge.base_url == f"http://127.0.0.1:{port}"
        async with cloud.engine() as engine:
            assert (await engine.wait(run["id"], 20)).value == [0, 1, 2, 3, 4]
        status, done = await asyncio.to_thread(ask, port, "GET", f"/runs/{run['id']}")
        assert (status, done["result"]) == (200, [0, 1, 2, 3, 4])


async def test_requests_that_are_wrong(cloud: Cloud) -> None:
    edge = cloud.function(largest_body=1000)
    async with served(asgi.application(edge), root_path="/under") as port:
        for method, path, body, status in (
            ("GET", "/health", b"", 200),
            ("GET", "/health?" + "a=1&" * 1000, b"", 400),
            ("GET", "/health?%ff=%ff", b"", 200),
            ("POST", "/tasks/steps", b"x" * 1_000_000, 413),
            ("POST", "/tasks/%2e%2e", b"{}", 400),
            ("PUT", "/tasks/steps", b"{}", 405),
        ):
            assert (await asyncio.to_thread(ask, port, method, path, body))[0] == status, path


async def test_who_hangs_up_in_the_middle_of_a_body_is_forgotten(cloud: Cloud) -> None:
    edge = cloud.function()
    async with served(asgi.application(edge)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /tasks/steps HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await asyncio.to_thread(ask, port, "GET", "/health"))[0] == 200
    async with cloud.engine() as engine:
        assert await engine.list_runs() == []


async def test_who_does_not_wait_for_the_answer_loses_nothing(cloud: Cloud) -> None:
    """As the request for the next hop does: it is sent, and the sender is gone."""
    edge = cloud.function(fire=None, base_url="")
    async with served(asgi.application(edge)) as port:
        body = b'{"input": {"n": 3}, "id": "019cab0e-97eb-7000-8000-000000000001"}'
        head = f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /tasks/steps HTTP/1.1\r\nHost: x\r\n" + head.encode() + body)
        await writer.drain()
        writer.close()
        async with cloud.engine() as engine:
            while not await engine.list_runs():
                await asyncio.sleep(0.01)
            run = await engine.wait("019cab0e-97eb-7000-8000-000000000001", 20)
    assert run.status is Status.COMPLETED


def scope(path: str, **headers: str) -> dict[str, Any]:
    sent = {"authorization": f"Bearer {TOKEN}", **headers}
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), v.encode()) for name, v in sent.items()],
    }


async def ignore(message: Any) -> None:
    """A sender who does not listen."""


async def test_a_request_counts_although_its_sender_is_gone(cloud: Cloud) -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async with cloud.engine() as engine:
        run = await engine.create_run("steps", {"n": 1})
    async with cloud.invoked() as edge:
        app = asgi.application(edge)
        await app(scope("/sweep", content_length="0"), gone, ignore)
        assert cloud.fired == [run.id]
        cloud.fired.clear()
        await app(scope("/sweep", content_length="2"), gone, ignore)
        await app(scope("/sweep", transfer_encoding="chunked"), gone, ignore)
        assert cloud.fired == []


async def test_a_server_that_cancels_a_request_stops_no_run(cloud: Cloud) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def echo(x: int) -> int:
        inside.set()
        await go_on.wait()
        return x

    cloud.tool = FakeService("tool", {"echo": echo})
    async with cloud.engine() as engine:
        run = await engine.create_run("steps", {"n": 1})
    path = Links(SECRET.encode()).resume(run.id)
    asked = scope(path.partition("?")[0]) | {"query_string": path.partition("?")[2].encode()}
    async with cloud.invoked() as edge, cloud.engine() as engine:
        serving = asyncio.ensure_future(asgi.application(edge)(asked, never, ignore))
        await inside.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        go_on.set()
        assert (await engine.wait(run.id, 20)).value == [0]


async def never() -> Any:
    raise AssertionError("nobody asks for a body that is not there")


async def test_vercel_runs_a_handler_class(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = cloud.function(budget=0, fire=None, base_url="")
    with handled(edge) as port:
        body = b'{"input": {"n": 3}}'
        status, run = await asyncio.to_thread(ask, port, "POST", "/tasks/steps", body)
        assert status == 202
        async with cloud.engine() as engine:
            assert (await engine.wait(run["id"], 20)).value == [0, 1, 2]
        for method, path, headers, status in (
            ("GET", "/health?a=1", {}, 200),
            ("GET", "/health?" + "a=1&" * 1000, {}, 400),
            ("POST", "/tasks/steps", {"Content-Length": "-1"}, 400),
            ("GET", "/sweep", AUTHORIZED, 200),
            ("GET", "/sweep", {}, 401),
        ):
            found = await asyncio.to_thread(ask, port, method, path, b"", headers)
            assert found[0] == status, path


async def test_vercel_says_where_the_function_is(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQUENTIAL_PUBLIC_URL", raising=False)
    monkeypatch.setenv("VERCEL_URL", "one-of-many.vercel.example")
    assert vercel.deployment_url() == "https://one-of-many.vercel.example"
    monkeypatch.setenv("VERCEL_ENV", "production")
    monkeypatch.setenv("VERCEL_PROJECT_PRODUCTION_URL", "the-one.vercel.example")
    edge = cloud.function(base_url="")
    async with served(vercel.application(edge)) as port:
        assert (await asyncio.to_thread(ask, port, "POST", "/sweep"))[0] == 200
    assert edge.base_url == "https://the-one.vercel.example"
