"""Servers for clients: the real one on a socket of this machine, and one that does as told."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest

from sequential.client import Client
from sequential.core.model import RetryPolicy
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService
from sequential.web.app import create_app
from sequential.web.server import Server, address_of, listening

QUICK = RetryPolicy(delay=0.01, max_delay=0.05)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEQUENTIAL_URL", "SEQUENTIAL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TYPE", "BASE_URL", "AUTH_TOKEN"):
        monkeypatch.delenv(f"SERVICE_CLIENT_{name}", raising=False)


class LiveServer:
    """The real server, in a thread of its own; it can be stopped and started on its port."""

    def __init__(self, storage: str) -> None:
        self._storage = storage
        self._listener = listening("127.0.0.1", 0)
        self.url = address_of(self._listener)
        self.port = self._listener.getsockname()[1]

    def start(self) -> None:
        self._server: Server | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()))
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        assert self._server is not None
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join()

    def again(self) -> None:
        """Start on the same port, after `stop`."""
        self._listener = listening("127.0.0.1", self.port)
        self.start()

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        tool = FakeService("tool", {"echo": lambda x=None: x})
        async with Engine(self._storage, [tool]) as engine:
            self._server = Server(create_app(engine))
            serving = asyncio.create_task(self._serve(self._server))
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.005)
            self._ready.set()
            await serving

    async def _serve(self, server: Server) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await server.run_on(self._listener)


@contextlib.contextmanager
def live(storage: str = "memory:") -> Iterator[LiveServer]:
    server = LiveServer(storage)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    monkeypatch.chdir(tmp_path)
    with live() as running:
        yield running


@pytest.fixture
async def client(server: LiveServer) -> AsyncIterator[Client]:
    async with Client(server.url, retry=QUICK) as made:
        yield made
