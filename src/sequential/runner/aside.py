"""Programs that stay in memory while their runs are parked: what goes on here is not replayed.

A cache like a snapshot: a program is used again only for the very turn in which it was put aside,
and may be dropped at any time.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from sequential.core.model import TaskRun
from sequential.runtimes.base import Runtime

MOST = 100  # programs; the one that has waited longest leaves first


class Resting(NamedTuple):
    """A program after a turn, and the calls it waits for."""

    turn: int
    code: str
    created_at: str
    runtime: Runtime
    waiting: tuple[int, ...]

    def fits(self, run: TaskRun) -> bool:
        """Whether this is what the program of a run is now, and not of another with its id."""
        return (self.turn, self.code, self.created_at) == (run.turn, run.code, run.created_at)


class Aside:
    """Programs by run."""

    def __init__(self) -> None:
        self._resting: OrderedDict[str, Resting] = OrderedDict()

    async def put(self, run: TaskRun, runtime: Runtime, waiting: tuple[int, ...]) -> None:
        """Keep the program of a run that was parked."""
        known = self._resting.pop(run.id, None)
        self._resting[run.id] = Resting(run.turn, run.code, run.created_at, runtime, waiting)
        if known is not None:
            await known.runtime.close()
        while len(self._resting) > MOST:
            _, oldest = self._resting.popitem(last=False)
            await oldest.runtime.close()

    async def take(self, run: TaskRun) -> Resting | None:
        """The program of a run, if it is where the run is."""
        resting = self._resting.pop(run.id, None)
        if resting is None:
            return None
        if resting.fits(run):
            return resting
        await resting.runtime.close()
        return None

    async def close(self) -> None:
        """Drop them all."""
        resting = [one.runtime.close() for one in self._resting.values()]
        self._resting.clear()
        await asyncio.gather(*resting)
