"""Hearing what others did: one connection that listens to the channel of the schema.

Behind a pooler that lends a connection for one transaction, LISTEN succeeds and nothing is heard;
nobody relies on it, so nothing breaks. When the connection is lost, it is made again, and as
nobody knows what was said meanwhile, an empty id says that anything may have happened.
"""

import asyncio
import contextlib
from collections.abc import Callable

import psycopg
from psycopg import sql

from sequential.errors import StorageError
from sequential.storage.postgres_address import Address
from sequential.storage.postgres_line import Line, connect

_SILENCE = 60.0  # seconds without news after which the connection is tried
_FIRST = 5.0  # seconds to wait for the first connection
_LONGEST_PAUSE = 30.0  # seconds between attempts to connect


class Listener:
    """Calls `heard(run_id)` for the news of others; those of `origin` are known already."""

    def __init__(self, address: Address, origin: str, heard: Callable[[str], None]) -> None:
        self._address = address
        self._origin = origin
        self._heard = heard
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen from now on; returns when it does, or when that takes long."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._listen())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST):
                await self._listening.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        pause = 0.1
        while True:
            try:
                connection = await connect(self._address)
                try:
                    await self._hear(connection)
                finally:
                    await connection.close()
            except (psycopg.Error, StorageError):
                pass  # it comes back, or the store's own calls tell why it does not
            if self._listening.is_set():
                self._listening.clear()
                pause = 0.1
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _hear(self, connection: Line) -> None:
        channel = sql.Identifier(self._address.options.schema)
        await connection.execute(sql.SQL("listen {}").format(channel))
        self._listening.set()
        self._heard("")
        while True:
            async for notice in connection.notifies(timeout=_SILENCE):
                run_id, _, origin = notice.payload.partition(" ")
                if origin != self._origin:
                    self._heard(run_id)
            await connection.execute("select 1")
