"""What all parts of the Redis store share: it is open, and runs scripts."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sequential.core.model import TaskRun
from sequential.errors import LeaseLostError, RunChangedError, RunNotFoundError, StorageError
from sequential.storage.base import StorageAdapter
from sequential.storage.redis_address import Address
from sequential.storage.redis_durability import durability
from sequential.storage.redis_reader import Reader, is_run_id
from sequential.storage.redis_records import Item, utf8
from sequential.storage.redis_server import Server
from sequential.storage.redis_watch import Listener

PATIENCE = 20.0  # seconds for which a server that was lost is waited for
VERSION = 1  # of the layout of keys
_RUN_KEYS = ("run", "calls", "turns", "log", "snapshot")
_logger = logging.getLogger("sequential.storage.redis")


class Held(NamedTuple):
    """A lease of this process, and the run as it is stored, if that is certain."""

    token: str
    run: TaskRun | None = None


class OpenStore(StorageAdapter):
    """A connection, the leases of this process, and being told."""

    def __init__(self, where: Address, patience: float = PATIENCE) -> None:
        super().__init__()
        self.durability = "unknown: the store is not open"
        self._address = where
        self._patience = patience
        self._origin = secrets.token_hex(8)
        self._open: tuple[Server, Reader] | None = None
        self._listener: Listener | None = None
        self._held: dict[str, Held] = {}
        self._returns: set[asyncio.Task[None]] = set()

    async def init(self) -> None:
        if self._open is not None:
            return
        server = Server(self._address, self._patience)
        try:
            key = f"{self._address.prefix}version"
            await server.command("SET", key, VERSION, "NX", patience=0)
            version = (await server.command("GET", key)).decode(errors="replace")
            if version != str(VERSION):
                raise StorageError(
                    f"{self._address.shown} was written by a newer version of this program (its "
                    f"layout is version {version[:20]}, this program knows {VERSION}): update it"
                )
            self.durability, warning = await durability(server)
        except BaseException:
            await server.close()
            raise
        if warning:
            _logger.warning("%s", warning)
        self._open = server, Reader(server)

    async def close(self) -> None:
        if self._open is None:
            return
        server = self._open[0]
        if self._listener:
            await self._listener.close()
            self._listener = None
        server.patience = min(server.patience, 1.0)  # a lease that stays runs out
        releases = [self.release(run_id, held.token) for run_id, held in self._held.items()]
        await asyncio.gather(*releases, *self._returns, return_exceptions=True)
        self._open = None
        await server.close()

    async def watch(self, changed: Callable[[str], None]) -> None:
        await super().watch(changed)
        if self._listener is None:
            self._listener = Listener(self._server, self._origin, self._announce)
            await self._listener.start()

    # --- inside ----------------------------------------------------------------------------------

    async def _run(self, name: str, run_id: str, items: Sequence[Item]) -> list[Any]:
        """Run a script for a run; raises what its answer means, whatever the operation."""
        if not is_run_id(run_id):
            raise RunNotFoundError(f"there is no run {run_id[:80]}")
        keys = [f"{self._address.prefix}{kind}:{run_id}" for kind in _RUN_KEYS]
        answer = await self._call(name, keys, [run_id, *items])
        match answer[0]:
            case b"gone":
                raise RunNotFoundError(f"there is no run {run_id}")
            case b"lost":
                raise LeaseLostError
            case b"changed":
                raise RunChangedError
            case b"missing":
                raise StorageError(f"there is no call {run_id}:{answer[1].decode()}")
        return answer

    async def _call(self, name: str, keys: Sequence[str], items: Sequence[Item]) -> list[Any]:
        operation = secrets.token_hex(12)  # the same if it has to be sent again
        return await self._server.run(name, keys, [operation, self._origin, *items])

    async def _swap(self, name: str, field: str, old: bytes | None, new: bytes | None) -> bool:
        """Change a field of a hash, None for none; False if it is not `old` any more."""
        pairs: list[Item] = []
        for value in (old, new):
            pairs += [0, b""] if value is None else [1, value]
        return bool((await self._call("swap", [], [name, utf8(field), *pairs]))[0] == b"ok")

    @property
    def _server(self) -> Server:
        return self._opened()[0]

    @property
    def _reader(self) -> Reader:
        return self._opened()[1]

    def _opened(self) -> tuple[Server, Reader]:
        if self._open is None:
            raise StorageError("the store is not open: call init() first, or use create_adapter()")
        return self._open

    @property
    def _ttl(self) -> int:
        return round(self._address.ttl * 1000)
