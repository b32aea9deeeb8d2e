"""The connection to a Redis server: it outlasts restarts, and says what is wrong in one line.

A command whose answer was lost is sent again, for `patience` seconds: every operation recognises
its own repetition, so that it is done once. The first connection is not waited for.
"""

import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import redis.asyncio as client
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sequential.errors import (
    ConfigError,
    DamagedRunError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from sequential.storage.redis_address import Address
from sequential.storage.redis_records import Item
from sequential.storage.redis_scripts import script

T = TypeVar("T")
CONNECTIONS = 50
SILENCE = 15.0  # seconds without an answer after which a connection counts as lost
LONGEST_PAUSE = 1.0  # seconds between two attempts

_LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_REFUSED = (exceptions.AuthenticationError, exceptions.AuthorizationError)
_CHANGING = (
    *(exceptions.BusyLoadingError, exceptions.ReadOnlyError, exceptions.MasterDownError),
    *(exceptions.ClusterDownError, exceptions.TryAgainError),
)
_PASSING = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")


class Server:
    """Where commands go; `patience` is how many seconds a lost connection is waited for."""

    def __init__(self, address: Address, patience: float) -> None:
        self.address = address
        self.patience = patience
        self._process = os.getpid()
        try:
            pool: Any = client.BlockingConnectionPool.from_url(
                address.url,  # its options go before these
                max_connections=CONNECTIONS,
                timeout=None,  # for a connection to become free
                socket_timeout=SILENCE,
                socket_connect_timeout=5.0,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise ConfigError(f"{address.shown}: {error}") from error
        self.connections: client.Redis = client.Redis.from_pool(pool)

    async def close(self) -> None:
        if self._process == os.getpid():
            await self.connections.aclose()

    async def command(self, *items: Item, patience: float | None = None) -> Any:
        """The answer to a command; raises `StorageError` and its kinds."""
        return await self._patiently(lambda: self._send(*items), patience)

    async def run(self, name: str, keys: Sequence[str], items: Sequence[Item]) -> list[Any]:
        """What a script returned: a word, and what belongs to it. `items` begin with an id."""
        wanted = script(name)
        rest = (len(keys), *keys, self.address.prefix, *items)

        async def attempt() -> Any:
            try:
                return await self._send("EVALSHA", wanted.digest, *rest)
            except exceptions.NoScriptError:
                pass  # the first one since the server was started
            return await self._send("EVAL", wanted.text, *rest)

        answer: list[Any] = await self._patiently(attempt, None)
        return answer

    async def _send(self, *items: Item) -> Any:
        if self._process != os.getpid():
            raise StorageError(
                "the store was opened by the process that this one was forked from: open it again"
            )
        return await self.connections.execute_command(*items)  # type: ignore[no-untyped-call]

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], patience: float | None) -> T:
        patience = self.patience if patience is None else patience
        clock = asyncio.get_running_loop().time
        end: float | None = None
        pause = 0.02
        while True:
            try:
                return await attempt()
            except (exceptions.RedisError, OSError) as raised:
                error = _meant(raised)
                is_loading = isinstance(error, exceptions.BusyLoadingError)
                end = end or clock() + (self.patience if is_loading else patience)
                if not is_passing(error) or clock() + pause > end:
                    raise explain(error, self.address) from raised
                if isinstance(error, exceptions.ReadOnlyError):  # another one is in charge now
                    await self.connections.connection_pool.disconnect(inuse_connections=False)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE)


def is_passing(error: Exception) -> bool:
    """Whether it may be better soon: the connection is lost, the server starts or changes roles."""
    if isinstance(error, _REFUSED):
        return False
    if isinstance(error, _CHANGING):
        return True
    if isinstance(error, exceptions.ResponseError):
        return str(error).startswith(_PASSING)
    return isinstance(error, _LOST)


def _meant(error: Exception) -> Exception:
    """The refusal that the client has wrapped into the loss of the connection it was given on."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (*_REFUSED, exceptions.ResponseError, exceptions.BusyLoadingError)):
            return cause
        cause = cause.__cause__
    return error


def explain(error: Exception, address: Address) -> StorageError:
    """The error to show for one of the server's: what is the matter, and what to do."""
    text = " ".join(str(error).split())[:300]
    shown = address.shown
    if damaged := re.search(r"DAMAGED (.*?)(?: script: |$)", text):
        return DamagedRunError(
            f"{shown}: {damaged[1]}; nothing was written: another program uses this prefix; "
            "remove that key, or choose a prefix of your own with ?prefix="
        )
    if "WRONGTYPE" in text:
        return DamagedRunError(
            f"{shown}: a key holds something else than this store keeps there; nothing was "
            "written: choose a prefix of your own with ?prefix="
        )
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith(("OOM", "MISCONF")):
        return StorageFullError(
            f"{shown}: {text}: give the server more memory or disk, then go on with "
            "`sequential-ecosystem resume`"
        )
    if isinstance(error, exceptions.ReadOnlyError) or text.startswith("READONLY"):
        return StorageReadOnlyError(
            f"{shown} is a replica, which cannot be written: give the address of the primary"
        )
    if isinstance(error, _REFUSED) or re.match("NOAUTH|WRONGPASS|invalid username", text):
        return StorageError(
            f"{shown} refuses the password: give the right one, as in "
            "redis://user:password@host:6379/0"
        )
    if isinstance(error, exceptions.NoPermissionError) or text.startswith("NOPERM"):
        return StorageError(f"{shown} forbids it to this user: {text}: permit it with ACL SETUSER")
    if isinstance(error, exceptions.ClusterError | exceptions.AskError) or re.match(
        "MOVED|ASK|CROSSSLOT|CLUSTERDOWN", text
    ):
        return StorageError(
            f"{shown} is part of a cluster, on which this store cannot work: give the address of "
            "a server that is none"
        )
    if isinstance(error, exceptions.BusyLoadingError) or text.startswith("LOADING"):
        return StorageUnreachableError(
            f"{shown} is still loading its data: try again when it is done"
        )
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return StorageUnreachableError(
            f"{shown} does not answer: see whether the server is overloaded"
        )
    if isinstance(error, _LOST):
        return StorageUnreachableError(
            f"{shown} cannot be reached: {_reason(error)}: start the server, or correct the address"
        )
    return StorageError(f"{shown}: {text}")


def _reason(error: Exception) -> str:
    """Of what the client says, the part that tells more than the address."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno) if cause.errno > 0 else "no such host"
    return " ".join(str(cause).split())[:200] or "the connection was lost"
