"""The real server of services on a socket of this machine, in a thread of its own."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

from sequential.core.model import Failure, Outcome
from sequential.runner.engine import Engine
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.local import LocalService
from sequential.web.door import Door
from sequential.web.services_server import ServicesServer

TOKEN = "s3cret"


def crm_service() -> LocalService:
    """Customers, errors of all kinds, and a counter of attempts."""
    crm = LocalService("crm")
    keys: list[str] = []

    @crm.method("users.list")
    def users(customer: str, limit: int = 1) -> list[str]:
        return [customer] * limit

    @crm.method()
    def echo(*values: Any, **named: Any) -> Any:
        return [*values, named]

    @crm.method("import")
    def take_in(day: date) -> Any:
        return (day, b"\x00")

    @crm.method()
    def chain(steps: list[dict[str, Any]]) -> Any:
        return steps

    @crm.method()
    def refuse() -> None:
        raise CallError("LookupError", "no such customer", "gone")

    @crm.method()
    def wobble(times: int, context: CallContext) -> list[str]:
        keys.append(context.idempotency_key)
        if keys.count(keys[-1]) <= times:
            raise TryAgain(Outcome(error=Failure("OSError", "busy", "busy")))
        return keys

    @crm.method()
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    return crm


@contextlib.contextmanager
def live_services(token: str = TOKEN) -> Iterator[str]:
    """The address of a server with the service `crm`."""
    server = ServicesServer(["crm"], "127.0.0.1", 0)
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def work() -> None:
        async with Engine("memory:", [crm_service()]) as engine:
            ended = asyncio.Event()
            stop.append((asyncio.get_running_loop(), ended))
            await server.run(engine, Door(token), ended)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    while not stop and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.served[0].port}"
    finally:
        loop, ended = stop[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        server.close()
