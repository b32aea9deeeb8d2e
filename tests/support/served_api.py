"""The real server in a thread of its own, for clients that are not asynchronous."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping

from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine
from sequential.web.app import create_app
from sequential.web.server import Server, address_of, listening
from sequential.web.settings import ServerSettings


@contextlib.contextmanager
def served(tasks: Mapping[str, str], settings: ServerSettings | None = None) -> Iterator[str]:
    """The address of a server that has these tasks: code by name."""
    listener = listening("127.0.0.1", 0)
    begun: list[tuple[asyncio.AbstractEventLoop, Server]] = []
    ready = threading.Event()

    async def serve() -> None:
        async with Engine("memory:") as engine:
            for name, code in tasks.items():
                await engine.store_task(name, code, TaskConfig(name))
            server = Server(create_app(engine, settings))
            begun.append((asyncio.get_running_loop(), server))
            ready.set()
            await server.run_on(listener)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield address_of(listener)
    finally:
        for loop, server in begun:
            loop.call_soon_threadsafe(server.stop)
        thread.join()
