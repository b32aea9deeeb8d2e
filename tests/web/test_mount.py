"""The server inside of another application, which need not tell it when it begins."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService
from sequential.web.app import create_app

HELLO = "async def hello():\n    return await services.tool.echo('hello')"


def under_starlette(app: Any) -> Any:
    async def home(_: Any) -> PlainTextResponse:
        return PlainTextResponse("the other application")

    return Starlette(routes=[Route("/", home), Mount("/seq", app)])


def under_litestar(app: Any) -> Any:
    return Litestar([asgi("/seq", is_mount=True, copy_scope=True)(app)], openapi_config=None)


@pytest.fixture(params=[under_starlette, under_litestar])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    mount: Callable[[Any], Any] = request.param
    async with Engine("memory:", [FakeService("tool", {"echo": lambda value: value})]) as engine:
        await engine.store_task("hello", HELLO, TaskConfig("hello"))
        app = create_app(engine)
        # No lifespan: the first request opens what is needed.
        transport = httpx.ASGITransport(cast("Any", mount(app)), client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as made:
            yield made
        await app.state.house.close()


async def test_runs_are_driven_without_a_lifespan(client: httpx.AsyncClient) -> None:
    run = (await client.post("/seq/api/v1/runs", json={"task": "hello"})).json()
    ended = (await client.get(f"/seq/api/v1/runs/{run['id']}/wait")).json()

    assert (ended["status"], ended["result"]) == ("completed", "hello")


async def test_paths_are_those_below_the_mount(client: httpx.AsyncClient) -> None:
    assert (await client.get("/seq/health")).json()["status"] == "ok"
    assert (await client.get("/seq/")).json()["name"] == "sequential-ecosystem"
    assert (await client.get("/api/v1/tasks")).status_code == 404
    assert (await client.get("/seq/seq/health")).status_code == 404


async def test_the_document_says_where_it_is(client: httpx.AsyncClient) -> None:
    document = (await client.get("/seq/api/v1/openapi.json")).json()

    assert document["servers"] == [{"url": "/seq"}]
    assert "/api/v1/runs" in document["paths"]


async def test_runs_are_followed_live(client: httpx.AsyncClient) -> None:
    run = (await client.post("/seq/api/v1/runs", json={"task": "hello"})).json()
    async with asyncio.timeout(20):
        live = await client.get(f"/seq/api/v1/runs/{run['id']}/events")

    assert live.headers["content-type"].startswith("text/event-stream")
    assert 'event: end\ndata: {"status":"completed"}' in live.text


async def test_by_itself_it_is_at_the_root() -> None:
    app = create_app("memory:")
    transport = httpx.ASGITransport(cast("Any", app), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        document = (await client.get("/api/v1/openapi.json")).json()
    await app.state.house.close()

    assert document["servers"] == [{"url": "/"}]
