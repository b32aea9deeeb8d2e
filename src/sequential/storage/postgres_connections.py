"""Connections to a PostgreSQL server: opened when they are needed, kept, and closed when broken."""

import asyncio
from contextlib import AbstractAsyncContextManager

from psycopg.pq import TransactionStatus

from sequential.storage.postgres_address import Address
from sequential.storage.postgres_line import Line, connect


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

    def use(self) -> AbstractAsyncContextManager[Line]:
        """A connection for one statement."""
        return _Use(self)

    async def take(self) -> Line:
        """A connection, to be given back."""
        await self._permits.acquire()
        try:
            return self._free.pop() if self._free else await connect(self._address)
        except BaseException:
            self._permits.release()
            raise

    async def give_back(self, connection: Line) -> None:
        """Keep a connection for others, or close it."""
        try:
            if _is_idle(connection) and not self._closed:
                self._free.append(connection)
            else:
                await connection.close()
        finally:
            self._permits.release()

    async def forget(self) -> None:
        """Close those that nobody uses: the server they were connected to is gone."""
        free, self._free = self._free, []
        for connection in free:
            await connection.close()

    async def close(self) -> None:
        """Close all, those in use when they are given back."""
        self._closed = True
        await self.forget()


class _Use:
    """What `contextlib` would make of a generator, for a tenth of the time."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def __aenter__(self) -> Line:
        self._line = await self._connections.take()
        return self._line

    async def __aexit__(self, *_: object) -> None:
        await self._connections.give_back(self._line)


def _is_idle(connection: Line) -> bool:
    return not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE
