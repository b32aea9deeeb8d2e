"""The writer of the SQLite store: one thread that owns the connection, and commits in groups.

A commit costs as much as the disk takes to make it durable, whatever is in it. So what queues up
while one transaction is committed goes into the next one together: a hundred runs that step at the
same time wait for one sync, not for a hundred.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sequential.errors import StorageError
from sequential.storage.sqlite_schema import PATIENCE, is_busy

T = TypeVar("T")
LARGEST_GROUP = 256
# SQLite waits ever longer between looks, up to 100 ms, and whoever looks more often gets the lock.
# Short waits begun anew keep several processes about equal.
_SHORT_WAIT = 20  # milliseconds
# A commit that is all there is to do need not go to another thread and back, if it is quick.
QUICK = 0.002  # seconds
_SLOW_FOR = 20  # commits that go to the thread after one that was not quick


class _Item(NamedTuple):
    future: "asyncio.Future[Any]"
    work: Callable[[sqlite3.Connection], Any]
    writes: bool = True


class _Settled(NamedTuple):
    future: "asyncio.Future[Any]"
    value: Any
    error: BaseException | None


class Writer:
    """Performs writes one after the other; each is in the database when its future is done."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._open = open_connection
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._in_use = threading.Lock()  # the connection
        self._waiting = 0  # futures that are not done
        self._slow = 0
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(target=self._main, name="sequential-sqlite", daemon=True)

    async def start(self) -> None:
        """Open the database; raises what went wrong with it."""
        self._thread.start()
        try:
            await asyncio.shield(self._ready)
        except asyncio.CancelledError:
            self._closed = True
            self._queue.put(None)
            raise

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Perform `work` in a transaction, all or nothing; its result comes after the commit."""
        return self._put(work, writes=True)

    def submit_alone(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """The same for a caller who knows that nothing else is going on.

        It is done when this returns, if the database is free and the disk quick.
        """
        if self._waiting or self._slow or self._connection is None or self._closed:
            self._slow = max(0, self._slow - 1)
            return self.submit(work)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._in_use:
            begun = time.monotonic()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if is_busy(error):
                    return self.submit(work)
                future.set_exception(error)
                return future
            _tell(_committed(self._connection, [_Item(future, work)]))
        if time.monotonic() - begun > QUICK:
            self._slow = _SLOW_FOR
        return future

    def look(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Perform `work` outside of any transaction: it changes nothing and locks nothing."""
        return self._put(work, writes=False)

    def _put(self, work: Callable[[sqlite3.Connection], T], *, writes: bool) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closed:
            raise StorageError("the store is closed")
        self._waiting += 1
        future.add_done_callback(self._has_ended)
        self._queue.put(_Item(future, work, writes))
        return future

    def _has_ended(self, future: "asyncio.Future[Any]") -> None:
        self._waiting -= 1

    async def close(self) -> None:
        """Finish what is queued, then close the connection."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        try:
            connection = self._open()
            connection.execute(f"PRAGMA busy_timeout = {_SHORT_WAIT}")
        except BaseException as error:
            _settle([_Settled(self._ready, None, error)])
            return
        self._connection = connection
        _settle([_Settled(self._ready, None, None)])
        try:
            while group := self._next_group():
                with self._in_use:
                    settled = _perform(connection, group)
                _settle(settled)
        finally:
            self._connection = None
            connection.close()

    def _next_group(self) -> list[_Item]:
        """All that is queued; an empty list when there will be no more."""
        group: list[_Item] = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) == LARGEST_GROUP or self._queue.empty():
                return group
            item = self._queue.get()
        if group:
            self._queue.put(None)  # it was the end: to be met again after these
        return group


def _perform(connection: sqlite3.Connection, group: list[_Item]) -> list[_Settled]:
    looked = [_look(connection, item) for item in group if not item.writes]
    writes = [item for item in group if item.writes]
    return looked + (_transaction(connection, writes) if writes else [])


def _look(connection: sqlite3.Connection, item: _Item) -> _Settled:
    try:
        return _Settled(item.future, item.work(connection), None)
    except BaseException as error:
        return _Settled(item.future, None, error)


def _transaction(connection: sqlite3.Connection, group: list[_Item]) -> list[_Settled]:
    """One transaction. What fails by itself fails alone; a failing commit fails them all."""
    try:
        _begin(connection)
    except BaseException as error:
        return [_Settled(item.future, None, error) for item in group]
    return _committed(connection, group)


def _committed(connection: sqlite3.Connection, group: list[_Item]) -> list[_Settled]:
    """What comes of a group in the transaction that was begun."""
    try:
        if len(group) == 1:
            settled = [_Settled(group[0].future, group[0].work(connection), None)]
        else:
            settled = [_one(connection, item) for item in group]
        connection.execute("COMMIT")
        return settled
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return [_Settled(item.future, None, error) for item in group]


def _begin(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > end:
                raise


def _one(connection: sqlite3.Connection, item: _Item) -> _Settled:
    connection.execute("SAVEPOINT item")
    try:
        value, failure = item.work(connection), None
    except BaseException as error:
        if not connection.in_transaction:
            raise  # a full disk, for one, ends the whole transaction
        connection.execute("ROLLBACK TO item")
        value, failure = None, error
    connection.execute("RELEASE item")
    return _Settled(item.future, value, failure)


def _settle(settled: list[_Settled]) -> None:
    """Tell those who wait, in their event loops: one call each, however many they are."""
    loops: dict[asyncio.AbstractEventLoop, list[_Settled]] = {}
    for one in settled:
        loops.setdefault(one.future.get_loop(), []).append(one)
    for loop, ours in loops.items():
        try:
            loop.call_soon_threadsafe(_tell, ours)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def _tell(settled: list[_Settled]) -> None:
    for future, value, error in settled:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
