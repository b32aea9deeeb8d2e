"""Connections to a PostgreSQL server: opened when they are needed, kept, and closed when broken."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.pq import TransactionStatus

from sequential.storage.postgres_address import Address
from sequential.storage.postgres_line import Line, connect

_LAST_WORD = 1.0  # seconds for the server to take note that we give up


class Connections:
    """As many connections as are used at the same time, up to `pool`.

    The error of a connection that cannot be made goes to whoever needs it, at once: that is why
    this is not a pool that opens connections by itself in the background.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._permits = asyncio.Semaphore(address.options.pool)
        self._free: list[Line] = []
        self._closed = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Line]:
        """A connection for one statement."""
        async with self._permits:
            connection = self._free.pop() if self._free else await connect(self._address)
            try:
                yield connection
            finally:
                if _is_idle(connection) and not self._closed:
                    self._free.append(connection)
                else:
                    await connection.close()

    async def forget(self) -> None:
        """Close those that nobody uses: the server they were connected to is gone."""
        free, self._free = self._free, []
        for connection in free:
            await connection.close()

    async def close(self) -> None:
        """Close all, those in use when they are given back."""
        self._closed = True
        await self.forget()


class Watchdog:
    """Ends a statement that the server does not answer within a time, in seconds."""

    def __init__(self, connection: Line, seconds: float) -> None:
        self._connection = connection
        self._timer = asyncio.get_running_loop().call_later(seconds, self._bite)
        self._ending: asyncio.Task[None] | None = None

    @property
    def has_bitten(self) -> bool:
        """Whether the time was over."""
        return self._ending is not None

    async def leave(self) -> None:
        """The statement has ended, one way or the other."""
        self._timer.cancel()
        if self._ending:
            await self._ending

    def _bite(self) -> None:
        self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        """Ask the server to stop; if it does not hear that either, hang up."""
        with contextlib.suppress(psycopg.Error, OSError):
            await self._connection.cancel_safe(timeout=_LAST_WORD)
            return
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)


def _is_idle(connection: Line) -> bool:
    return not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE
