"""The real HTTP server on a socket of this machine, in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from sequential.core.model import RetryPolicy
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService
from sequential.web.app import create_app
from sequential.web.server import Server, address_of, listening

QUICK = RetryPolicy(delay=0.01, max_delay=0.05)


class ServerThread:
    """It can be stopped, and started again on the same port; `tool.echo` is its service."""

    def __init__(self, storage: str) -> None:
        self._storage = storage
        self._listener = listening("127.0.0.1", 0)
        self.url = address_of(self._listener)
        self.port: int = self._listener.getsockname()[1]

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
def live(storage: str = "memory:") -> Iterator[ServerThread]:
    server = ServerThread(storage)
    server.start()
    try:
        yield server
    finally:
        server.stop()
