"""Headers of every answer: those of all endpoints are looked at in test_every_endpoint."""

import asyncio
from typing import Any

from sequential.runner.engine import Engine
from sequential.web.app import create_app
from sequential.web.headers import secure


def headers_after(*given: tuple[bytes, bytes]) -> dict[str, str]:
    message: Any = {"type": "http.response.start", "status": 200, "headers": list(given)}
    secure(message)
    return {name.decode(): value.decode() for name, value in message["headers"]}


def test_a_page_may_use_what_is_of_its_own_site() -> None:
    page = headers_after((b"content-type", b"text/html; charset=utf-8"))
    data = headers_after((b"content-type", b"application/json"))

    assert page["content-security-policy"].startswith("default-src 'self'; ")
    assert data["content-security-policy"].startswith("default-src 'none'; ")
    for headers in (page, data):
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"


def test_what_a_handler_says_stays() -> None:
    headers = headers_after(
        (b"cache-control", b"max-age=60"), (b"content-security-policy", b"default-src 'self'")
    )

    assert headers["cache-control"] == "max-age=60"
    assert headers["content-security-policy"] == "default-src 'self'"


async def test_streams_have_them_too(engine: Engine) -> None:
    app = create_app(engine)
    begun: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            begun.set_result(message)

    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/api/v1/events",
        "raw_path": b"/api/v1/events",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 3000),
        "client": ("127.0.0.1", 5000),
        "headers": [(b"host", b"127.0.0.1:3000")],
    }
    streaming = asyncio.create_task(app(scope, receive, send))
    message = await asyncio.wait_for(begun, 10)
    headers = {name.decode(): value.decode() for name, value in message["headers"]}
    left.set()
    streaming.cancel()
    await asyncio.wait([streaming], timeout=10)
    await app.state.house.close()

    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
