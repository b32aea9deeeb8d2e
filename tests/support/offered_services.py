"""Services of an engine behind a real server on this machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self

from sequential.runner.engine import Engine
from sequential.web.door import Door
from sequential.web.services_server import ServicesServer


@contextlib.asynccontextmanager
async def offered(
    engine: Engine, *names: str, token: str = "", separate: bool = False
) -> AsyncIterator[ServicesServer]:
    """A server of these services on a free port, or one for each of them."""
    server = ServicesServer(names, "127.0.0.1", 0, separate=separate)
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(engine, Door(token), stop))
    try:
        yield server
    finally:
        stop.set()
        await running
        server.close()


def base_of(server: ServicesServer) -> str:
    """The URL of a server for all."""
    return f"http://127.0.0.1:{server.served[0].port}"


class Scripted:
    """A server that answers each POST with the next of these bytes, and then hangs up.

    It says of the service `crm` what a real one says. None closes the connection without an answer.
    """

    def __init__(self, *answers: bytes | None, description: bytes | None = None) -> None:
        self.asked: list[bytes] = []
        self.url = ""
        self._answers = list(answers)
        self._description = description

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.partition(b":")[2])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            body = await reader.readexactly(length)
            if head.startswith(b"GET"):
                answer = self._description or reply(404, b"{}")
            else:
                self.asked.append(head + body)
                answer = self._answers.pop(0) or b""
            writer.write(answer)
            await writer.drain()
        finally:
            writer.close()


def reply(status: int, body: bytes, *headers: str) -> bytes:
    """An HTTP answer that is the last one of its connection."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def describing(*methods: str) -> bytes:
    """What a server says of a service whose methods are these, as in `find:safe`."""
    told = ",".join(
        f'{{"name": "{name}", "retry": "{retry}"}}'
        for name, _, retry in (method.partition(":") for method in methods)
    )
    return reply(200, f'{{"name": "crm", "methods": [{told}]}}'.encode())
