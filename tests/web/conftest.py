"""A server in the process of the test, on a store that it can look into."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from sequential.core.model import InputField, TaskConfig
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService
from sequential.web.app import create_app
from sequential.web.settings import ServerSettings

HELLO = "async def hello(name):\n    return {'hello': await services.tool.echo(name)}"
APPROVAL = "async def approval():\n    return await wait_for_event('word')"
FAILING = "async def failing():\n    return 1 / 0"


@pytest.fixture
def tool() -> FakeService:
    return FakeService("tool", {"echo": lambda value: value})


@pytest.fixture
async def engine(tool: FakeService) -> AsyncIterator[Engine]:
    async with Engine("memory:", [tool]) as made:
        config = TaskConfig("hello", inputs=(InputField("name"),))
        await made.store_task("hello", HELLO, config)
        await made.store_task("approval", APPROVAL, TaskConfig("approval"))
        await made.store_task("failing", FAILING, TaskConfig("failing"))
        yield made


@contextlib.asynccontextmanager
async def serving(
    engine: Engine, settings: ServerSettings | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that speaks to it without a socket."""
    app = create_app(engine, settings, **options)
    transport = httpx.ASGITransport(cast("Any", app), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000") as made:
        try:
            yield made
        finally:
            await app.state.house.close()


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(engine) as made:
        yield made
