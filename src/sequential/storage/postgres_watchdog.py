"""What ends statements that a PostgreSQL server does not answer within a time."""

import asyncio
import contextlib
import os
import socket
from typing import Any

import psycopg

_LAST_WORD = 1.0  # seconds for the server to take note that we give up


class Watchdog:
    """Watches one connection; a statement may take some seconds.

    It has one timer for all statements, which looks again when the one that is under way by then
    has had its time: to begin and to end a statement costs nothing.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], seconds: float = 60.0) -> None:
        self._connection = connection
        self.seconds = seconds
        self._end: float | None = None  # on the clock of the loop; None: nothing is under way
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def has_bitten(self) -> bool:
        """Whether the time of the statement was over."""
        return self._ending is not None

    def watch(self) -> None:
        """A statement begins."""
        loop = asyncio.get_running_loop()
        self._ending = None
        self._end = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(self._end, self._look, loop)

    async def leave(self) -> None:
        """The statement has ended, one way or the other."""
        self._end = None
        if self._ending:
            await self._ending

    def stop(self) -> None:
        """The connection is closed."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._end is None:
            return
        if loop.time() < self._end:
            self._timer = loop.call_at(self._end, self._look, loop)
        else:
            self._ending = asyncio.ensure_future(self._bite())

    async def _bite(self) -> None:
        """Ask the server to stop; if it does not hear that either, hang up."""
        with contextlib.suppress(psycopg.Error, OSError):
            await self._connection.cancel_safe(timeout=_LAST_WORD)
            return
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(self._connection.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)
