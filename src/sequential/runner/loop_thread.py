"""An event loop in a thread of its own, for programs that are not asynchronous."""

import asyncio
import atexit
import concurrent.futures
import concurrent.futures.thread  # so that its end comes after ours
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from sequential.errors import ConfigError

T = TypeVar("T")

LOOK = 0.5  # seconds after which who waits looks whether Ctrl-C was pressed
PATIENCE = 10.0  # seconds for what is left to do when a program ends without closing


Last = Callable[[], Coroutine[Any, Any, None]]


class LoopThread:
    """Carries out coroutines, many at a time, whatever thread asks; in the end it does `last`.

    `owner` is the class that offers this to users, as errors name it.
    """

    def __init__(self, last: Last, owner: str = "SyncEngine") -> None:
        self._last = last
        self._owner = owner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; the thread keeps no program from ending."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="sequential", daemon=True)
        self._thread.start()
        _open.add(self)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises. Interrupted by Ctrl-C, it is cancelled."""
        if self._loop is None or threading.current_thread() is self._thread:
            work.close()
            kind = self._owner.removeprefix("Sync")
            name = kind.lower()
            raise ConfigError(
                f"this {name} is not open: use `with {self._owner}(...) as {name}:`"
                if self._loop is None
                else f"a synchronous {name} cannot be used by its own services and observers: "
                f"use {kind}"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            # Ctrl-C may be told to another thread, and wakes nobody who waits without an end.
            while not future.done():
                concurrent.futures.wait([future], LOOK)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """What an asynchronous generator gives, one by one."""
        end: Any = object()

        async def one() -> T:
            return await anext(items, end)

        try:
            while (item := self.call(one())) is not end:
                yield item
        finally:
            if self._loop is not None:
                self.call(items.aclose())

    def do(self, deed: Callable[[], T]) -> T:
        """What a function returns that has to be called in the thread of the loop."""

        async def work() -> T:
            return deed()

        return self.call(work())

    def close(self) -> None:
        """Do the last thing and end the thread; raises what that thing raises."""
        try:
            self.call(self._last())
        finally:
            self.end()

    def end(self) -> None:
        """End the thread as it is."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def abandon(self) -> None:
        """`close` for a program that forgot it, or that ends: whatever happens, it does not hang.

        It may be called in any thread, as the garbage collector does.
        """
        loop, self._loop = self._loop, None
        if loop is None or loop.is_closed():
            return

        async def work() -> None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._last(), PATIENCE)
            loop.call_soon(loop.stop)

        done: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(work(), loop)
        if threading.current_thread() is not self._thread and self._thread is not None:
            concurrent.futures.wait([done], PATIENCE)
            self._thread.join(PATIENCE)

    def _work(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            with contextlib.suppress(RuntimeError):  # the interpreter ends
                loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


_open: "weakref.WeakSet[LoopThread]" = weakref.WeakSet()


def _abandon_all() -> None:
    for one in [*_open]:
        one.abandon()


# Functions of `atexit` come too late: by then no work can be given to threads any more.
getattr(threading, "_register_atexit", atexit.register)(_abandon_all)
