"""The server on a socket in the process of the test, and a client that follows runs."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx

from sequential.runner.engine import Engine
from sequential.web.app import create_app
from sequential.web.hub import Hub
from sequential.web.server import Server, address_of, listening
from sequential.web.settings import ServerSettings

API = "/api/v1"
PATIENCE = 20.0  # seconds to wait for something that happens soon


class Event(NamedTuple):
    """One event as a browser would see it."""

    name: str
    data: Any
    id: str  # the last one that was seen until then


class Follower:
    """A client that reads events; `last` is the id to come back with."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last = ""
        self.comments: list[str] = []

    async def next(self) -> Event | None:
        """The next event; None when the server has ended the stream."""
        name, data = "message", ""
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if field == "":
                    self.comments.append(value)
                if field == "id":
                    self.last = value
                if field == "event":
                    name = value
                if field == "data":
                    data = value
                if not line and data:
                    return Event(name, json.loads(data), self.last)
        return None

    async def until(self, name: str, **fields: Any) -> list[Event]:
        """All events up to the first one of this name with these values."""
        seen: list[Event] = []
        while (event := await self.next()) is not None:
            seen.append(event)
            if event.name == name and all(event.data.get(k) == v for k, v in fields.items()):
                return seen
        raise AssertionError(f"no {name} with {fields} among {seen}")

    async def rest(self) -> list[Event]:
        seen: list[Event] = []
        while (event := await self.next()) is not None:
            seen.append(event)
        return seen


class Live(NamedTuple):
    """A server on a socket, and how to talk to it."""

    client: httpx.AsyncClient
    port: int
    engine: Engine
    hub: Hub
    server: Server

    @contextlib.asynccontextmanager
    async def follow(self, path: str, **options: Any) -> AsyncIterator[Follower]:
        async with self.client.stream("GET", f"{API}{path}", **options) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-accel-buffering"] == "no"
            yield Follower(answer.aiter_lines())

    async def nobody_follows(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.hub.listeners:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(
    engine: Engine,
    settings: ServerSettings = ServerSettings(),
    *,
    drive: bool = True,
    listener: socket.socket | None = None,
) -> AsyncIterator[Live]:
    """Serve an engine that is open, on a free port."""
    listener = listener or listening("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = create_app(engine, settings, drive=drive)
    server = Server(app, settings)
    task = asyncio.create_task(server.run_on(listener))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address_of(listener), limits=limits, timeout=30) as made:
        try:
            yield Live(made, port, engine, app.state.house.hub, server)
        finally:
            server.stop()
            await task
