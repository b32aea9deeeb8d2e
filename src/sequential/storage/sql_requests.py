"""Requests to SQL functions: sent again when their answer was lost, and never carried out twice.

A request carries an id of its own. When its answer is lost with the connection, nobody knows
whether it was carried out; it is sent again with the same id, for as long as `patience` seconds,
and the database knows whether it is done already.
"""

import abc
import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any

from sequential.errors import StorageUnreachableError
from sequential.storage import sql_arguments
from sequential.storage.base import StorageAdapter
from sequential.storage.sql_arguments import Arguments
from sequential.storage.sql_refusals import Refused, explained

PATIENCE = 30.0  # seconds in which a lost connection may come back


def request_id() -> str:
    """What a request is known by, however often it is sent."""
    return secrets.token_urlsafe(9)


class SqlRequests(StorageAdapter):
    """What calls functions, and tells other processes of what it did."""

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__()
        self.patience = patience
        self._tells = False  # whether others can hear of what we did
        self._origin = secrets.token_hex(4)  # marks our own news
        self._news: set[str] = set()
        self._is_telling = False
        self._errands: set[asyncio.Task[None]] = set()

    @abc.abstractmethod
    async def _send(self, function: str, arguments: bytes) -> bytes | str | None:
        """Call a function once with this JSON; returns its JSON, None for SQL's NULL.

        Raises `Refused` for what the function raises, `StorageUnreachableError` when it is worth
        trying again, and another `StorageError` when it is not.
        """

    async def _call(
        self, function: str, arguments: Arguments, subject: str = "", request: str = ""
    ) -> Any:
        """The answer of a function; `subject` is what an error is about."""
        arguments = {**arguments, "request": request or request_id()}
        give_up: float | None = None
        pause = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            try:
                answer = await self._send(function, sql_arguments.encode(arguments))
                return None if answer is None else sql_arguments.decode(answer)
            except Refused as refused:
                raise explained(refused, subject) from None
            except StorageUnreachableError:
                give_up = give_up or clock() + self.patience
                if clock() + pause >= give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2 or 0.05, 1.0)
            arguments["repeated"] = True

    def _send_off(self, errand: Coroutine[Any, Any, None]) -> None:
        """Do something beside; if it fails, time will do it."""
        task = asyncio.ensure_future(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _announce(self, run_id: str) -> None:
        super()._announce(run_id)
        if self._tells:
            self._news.add(run_id)
            if not self._is_telling:
                self._is_telling = True
                self._send_off(self._tell())

    async def _tell(self) -> None:
        """Pass our news on to other processes; what comes meanwhile is told together."""
        try:
            while self._news:
                news, self._news = self._news, set()
                await self._call("tell", {"runs": list(news), "origin": self._origin})
        finally:
            self._is_telling = False
