"""Between the store and those who follow runs live: looks at what changed, once for all of them.

The store and the runs that are driven here say that something happened; then there is one look at
the store, at most ten times a second for a run, however many follow it. Behind that is a slow
sweep, since word may be lost, and other processes do not tell of every step. Where nobody follows,
nobody looks.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator

from sequential.errors import StorageError
from sequential.runner.engine import Engine
from sequential.runner.progress import Progress
from sequential.web.channel import Channel
from sequential.web.followed import AllRuns, FollowedRun

log = logging.getLogger("sequential.web")

PACE = 0.1  # seconds between two looks at a run
REST = 5.0  # times as long as a look has taken, if that is more: a slow store is not pressed
TROUBLE = 1.0  # seconds until the next look at a store that cannot be used
CROWD = 50  # runs that are looked at with every sweep of the store; more of them less often
AROUND = 5  # sweeps for each look at the list of all runs
KEPT = 60.0  # seconds for which news of all runs is kept when nobody follows, to come back to
TOGETHER = 8  # looks at a time


class Hub:
    """Knows who follows what. `listeners` counts them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._runs: dict[str, FollowedRun] = {}
        self._all: AllRuns | None = None
        self._readers: dict[Channel, int] = {}
        self._changed: set[str] = set()
        self._look_around = False
        self._wanted = asyncio.Event()
        self._beginning = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._forgetting: asyncio.TimerHandle | None = None
        self._swept = self._looked_around = 0.0
        self._hears = False
        self.is_draining = False

    @property
    def listeners(self) -> int:
        """How many follow something now."""
        return sum(self._readers.values())

    @contextlib.asynccontextmanager
    async def following(self, run_id: str) -> AsyncIterator[FollowedRun]:
        """The news of a run, which has been looked at; raises what the store does."""
        await self._begin()
        channel = self._runs.get(run_id)
        if channel is None or channel.is_over:  # one that is over may have been retried
            channel = self._runs[run_id] = FollowedRun(self._engine, run_id)
        with self._reading(channel):
            try:
                await channel.begin()
                self._wanted.set()
                yield channel
            finally:
                if self._readers[channel] == 1 and self._runs.get(run_id) is channel:
                    del self._runs[run_id]

    @contextlib.asynccontextmanager
    async def following_all(self) -> AsyncIterator[AllRuns]:
        """The news of all runs, from now on."""
        await self._begin()
        async with self._beginning:
            if self._forgetting is not None:
                self._forgetting.cancel()
            if self._all is None:
                made = AllRuns(self._engine)
                await made.look_around()
                self._all = made
            channel = self._all
        with self._reading(channel):
            self._wanted.set()
            try:
                yield channel
            finally:
                if self._readers[channel] == 1:
                    loop = asyncio.get_running_loop()
                    self._forgetting = loop.call_later(KEPT, self._forget_all)

    def drain(self) -> None:
        """Send everybody away; who comes back to this server goes at once."""
        self.is_draining = True
        for channel in self._readers:
            channel.tell()

    async def close(self) -> None:
        """Look no more."""
        self.drain()
        if self._forgetting is not None:
            self._forgetting.cancel()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    @contextlib.contextmanager
    def _reading(self, channel: Channel) -> Iterator[None]:
        self._readers[channel] = self._readers.get(channel, 0) + 1
        try:
            yield
        finally:
            self._readers[channel] -= 1
            if not self._readers[channel]:
                del self._readers[channel]

    async def _begin(self) -> None:
        async with self._beginning:
            if not self._hears:
                await self._engine.listen(self._hear)
                self._engine.observe(self._see)
                self._hears = True
            if self._looking is None and not self.is_draining:
                self._looking = asyncio.create_task(self._look_on())

    def _forget_all(self) -> None:
        if self._all is not None and self._all not in self._readers:
            self._all = None

    # --- what happens ----------------------------------------------------------------------------

    def _hear(self, run_id: str) -> None:
        if self._all is None and run_id and run_id not in self._runs:
            return
        if run_id:
            self._changed.add(run_id)
        else:
            self._changed.update(self._runs)
            self._look_around = self._all is not None
        self._wanted.set()

    def _see(self, progress: Progress) -> None:
        self._hear(progress.run.id)

    # --- looking ---------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        while True:
            await self._until_wanted()
            self._wanted.clear()
            begun = time.monotonic()
            try:
                await self._look()
                rest = (time.monotonic() - begun) * REST
                await asyncio.sleep(max(PACE, min(rest, TROUBLE)))
            except StorageError as error:
                log.warning("live: %s", error)
                self._hear("")
                await asyncio.sleep(TROUBLE)

    async def _until_wanted(self) -> None:
        """Wait for word, at most until a sweep is due; then all is to be looked at."""
        if not self._runs and self._all is None:
            await self._wanted.wait()
        sweep = self._engine.storage.sweep * max(1.0, len(self._runs) / CROWD)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._swept + sweep - time.monotonic()):
                await self._wanted.wait()
        now = time.monotonic()
        if now >= self._swept + sweep:
            self._swept = now
            self._changed.update(self._runs)
            self._look_around |= now >= self._looked_around + sweep * AROUND

    async def _look(self) -> None:
        """Look once at everything that has changed."""
        changed, self._changed = self._changed, set()
        looks: list[Awaitable[None]] = []
        if self._all is not None and (self._look_around or len(changed) > CROWD):
            self._look_around, self._looked_around = False, time.monotonic()
            looks.append(self._all.look_around())
            changed &= self._runs.keys()
        await _all_of([*looks, *(self._look_at(run_id) for run_id in changed)])

    async def _look_at(self, run_id: str) -> None:
        channel = self._runs.get(run_id)
        if channel is not None:
            run = await channel.look()
        elif self._all is not None:
            run = await self._engine.storage.get_task_run(run_id)
        else:
            return
        if self._all is not None:
            self._all.see(run_id, run)


async def _all_of(looks: list[Awaitable[None]]) -> None:
    """Take these looks, some at a time; raises the first trouble with the store, at the end."""
    room = asyncio.Semaphore(TOGETHER)

    async def take(look: Awaitable[None]) -> None:
        async with room:
            await look

    done = await asyncio.gather(*(take(look) for look in looks), return_exceptions=True)
    troubles = [e for e in done if isinstance(e, StorageError) and e.code != "damaged_run"]
    for error in done:
        if isinstance(error, Exception) and error not in troubles:
            log.error("live: %s", error, exc_info=error)
    if troubles:
        raise troubles[0]
