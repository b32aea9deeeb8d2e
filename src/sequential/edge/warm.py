"""What stays in a process from one invocation to the next: an engine, and a thread for it.

Nothing here has to stay. A process that was frozen for hours goes on with connections that are
dead and leases that others have taken; the store connects again, and what was driven is known to
be lost at its next commit.
"""

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from sequential.runner.engine import Engine

Result = TypeVar("Result")
OpenEngine = Callable[[], AbstractAsyncContextManager[Engine]]


class _Kept:
    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = asyncio.Lock()
        self.open_until = contextlib.AsyncExitStack()
        self.engine: Engine | None = None


class WarmEngine:
    """One engine for each event loop, opened when it is first needed."""

    def __init__(self, open_engine: OpenEngine) -> None:
        self._open = open_engine
        self._kept: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = (
            weakref.WeakKeyDictionary()
        )

    async def get(self) -> Engine:
        """The engine of the running loop; raises what opening it raises, and tries again later."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None or kept.process != os.getpid():
            kept = self._kept[loop] = _Kept()
        async with kept.lock:
            if kept.engine is None:
                kept.engine = await kept.open_until.enter_async_context(self._open())
        return kept.engine

    async def close(self) -> None:
        """Close the engine of the running loop; the next `get` opens another one."""
        kept = self._kept.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept.open_until.aclose()


class Bridge:
    """An event loop in a thread of its own, for callers that have none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`; from any number of threads at the same time."""
        return asyncio.run_coroutine_threadsafe(work, self._running()).result()

    def close(self) -> None:
        """End the thread; it is begun again when it is needed."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._process == os.getpid():
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._process != os.getpid():  # a fork has no thread
                self._loop, self._process = asyncio.new_event_loop(), os.getpid()
                name = "sequential-edge"
                threading.Thread(target=_serve, args=(self._loop,), name=name, daemon=True).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
