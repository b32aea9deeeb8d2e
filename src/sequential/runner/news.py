"""News about runs: who waits for one is woken when something may have happened to it.

What wakes is the store's word, which may be lost, so nobody waits for it alone: every wait ends
after some time as well, and whoever waits looks at the store then.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from sequential.runner.clock import Clock
from sequential.storage.base import StorageAdapter

CROWD = 50  # runs that may be waited for with a look at each after the store's `sweep`


class News:
    """Passes on what a store tells about its runs."""

    def __init__(self, storage: StorageAdapter, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._watching = False
        self._stopped = False

    async def watch(self) -> None:
        """Begin to listen to the store; doing it again changes nothing."""
        if not self._watching:
            self._watching = True
            try:
                await self._storage.watch(self.tell)
            except BaseException:
                self._watching = False
                raise

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener(run_id)` called for every piece of news; an empty id means any run.

        Doing it again with the same changes nothing.
        """
        if listener not in self._listeners:
            self._listeners.append(listener)

    def tell(self, run_id: str) -> None:
        """Something may have happened to this run, or to any if the id is empty."""
        for listener in self._listeners:
            listener(run_id)
        every = [run_id] if run_id else list(self._waiting)
        for event in (event for one in every for event in self._waiting.get(one, ())):
            event.set()

    def stop(self) -> None:
        """Wake everybody, now and from now on."""
        self._stopped = True
        self.tell("")

    @contextlib.contextmanager
    def about(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is news about a run."""
        event = asyncio.Event()
        self._waiting.setdefault(run_id, []).append(event)
        try:
            yield event
        finally:
            self._waiting[run_id].remove(event)
            if not self._waiting[run_id]:
                del self._waiting[run_id]

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Wait for news, at most `seconds` on the engine's clock, and never long without a look."""
        if self._stopped:
            return
        # Real time, whatever the engine's clock says. Many who wait look less often, each of them.
        sweep = self._storage.sweep * max(1.0, len(self._waiting) / CROWD)
        timer = asyncio.get_running_loop().call_later(sweep, event.set)
        try:
            await self._clock.wait(event, seconds)
        finally:
            timer.cancel()
