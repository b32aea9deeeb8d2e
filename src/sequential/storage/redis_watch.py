"""Being told by a Redis server what other processes did."""

import asyncio
from collections.abc import Callable

from redis import exceptions
from redis.asyncio.client import PubSub

from sequential.storage.redis_server import SILENCE, Server

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before the next attempt to connect


class Listener:
    """Calls `changed` with the ids of runs that others changed, with "" after a gap."""

    def __init__(self, server: Server, origin: str, changed: Callable[[str], None]) -> None:
        self._server = server
        self._origin = origin.encode()
        self._changed = changed
        self._is_listening = asyncio.Event()
        self._is_first = True
        self._pause = _FIRST_PAUSE
        self._task: asyncio.Task[None] | None = None

    async def start(self, patience: float = 2.0) -> None:
        """Listen from now on; if the server is away, as soon as it is back."""
        self._task = asyncio.create_task(self._listen())
        try:
            await asyncio.wait_for(self._is_listening.wait(), patience)
        except TimeoutError:
            pass

    async def close(self) -> None:
        # The client may lose a cancellation that comes together with an answer.
        while self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.5)

    async def _listen(self) -> None:
        while True:
            channel = self._server.connections.pubsub()
            try:
                await channel.subscribe(f"{self._server.address.prefix}changes")
                while True:
                    await self._hear(channel)
            except (exceptions.RedisError, OSError):
                pass  # whoever listens looks for himself from time to time
            finally:
                await channel.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _hear(self, channel: PubSub) -> None:
        message = await channel.get_message(timeout=SILENCE)
        if message is None:  # it is quiet, or the connection is dead: an answer tells
            await channel.ping()
            message = await channel.get_message(timeout=SILENCE)
            if message is None:
                raise exceptions.ConnectionError("the server is silent")
        if message["type"] == "subscribe":
            self._pause = _FIRST_PAUSE
            self._is_listening.set()
            if not self._is_first:
                self._changed("")
            self._is_first = False
        elif message["type"] == "message":
            origin, _, run_id = message["data"].partition(b" ")
            if origin != self._origin:
                self._changed(run_id.decode(errors="replace"))
