"""A TCP proxy in front of a server that breaks connections where it is told to."""

import asyncio
import contextlib
from pathlib import Path
from typing import Self


class FaultProxy:
    """What is set holds from the next bytes on.

    `lose_requests` and `lose_answers` count down: so many times a connection is cut instead of
    handing over what came, upwards or downwards. `is_refusing`: new connections are cut at once.
    `is_silent`: nothing is handed over, nothing is cut.
    """

    def __init__(self, upstream: Path | int) -> None:
        """`upstream` is a Unix socket, or a port of this machine."""
        self.lose_requests = 0
        self.lose_answers = 0
        self.is_refusing = False
        self.is_silent = False
        self.port = 0
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Every open connection, now."""
        for writer in [*self._writers]:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            writer.transport.abort()
            return
        above = await self._connected()
        pair = {writer, above[1]}
        self._writers |= pair
        with contextlib.suppress(OSError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hand_over(reader, above[1], pair, "lose_requests"))
                group.create_task(self._hand_over(above[0], writer, pair, "lose_answers"))
        self._writers -= pair

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, int):
            return await asyncio.open_connection("127.0.0.1", self._upstream)
        return await asyncio.open_unix_connection(self._upstream)

    async def _hand_over(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: set[asyncio.StreamWriter],
        counter: str,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.is_silent:
                    continue
                if left := getattr(self, counter):
                    setattr(self, counter, left - 1)
                    break
                writer.write(data)
                await writer.drain()
        for one in pair:
            one.transport.abort()
