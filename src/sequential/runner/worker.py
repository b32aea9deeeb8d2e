"""A worker: takes runs that are due out of the store and drives them, many at a time.

Any number of workers may share a store that more than one process can open. They need not know of
each other: a run belongs to whoever gets its lease, and the others look for another one.
"""

import asyncio
from collections.abc import Sequence

from sequential.core import times
from sequential.core.model import TaskRun
from sequential.errors import (
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
    RunNotFoundError,
    SequentialError,
)
from sequential.runner.engine import Engine

# Somebody else was quicker, or an operator stepped in: nothing went wrong.
_TAKEN = (RunBusyError, LeaseLostError, InvalidTransitionError, RunNotFoundError)


class Worker:
    """Drives due runs until it is stopped.

    `concurrency` is how many runs it drives at a time, `tasks` the names of those it takes (None:
    all), `sweep` how many seconds it waits before it looks into the store again when it has found
    nothing. A run it could not drive because of trouble with the store is left alone for
    `rest` seconds and then tried again; `troubles` has the last error of each.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        concurrency: int = 50,
        tasks: Sequence[str] | None = None,
        sweep: float = 1.0,
        rest: float = 10.0,
    ) -> None:
        self._engine = engine
        self._concurrency = concurrency
        self._tasks = tasks
        self._sweep = sweep
        self._rest = rest
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, str] = {}  # parked by this worker -> when they are due
        self._changed = asyncio.Event()
        self._stopping = False
        self.troubles: dict[str, SequentialError] = {}

    @property
    def driving(self) -> int:
        """How many runs it drives at the moment."""
        return len(self._driving)

    def stop(self) -> None:
        """Take no more runs, park those in progress, then return from `run`."""
        self._stopping = True
        self._engine.stop()
        self._changed.set()

    async def run(self, *, until_idle: bool = False) -> None:
        """Work until stopped; with `until_idle`, until nothing is due and nothing is driven."""
        try:
            while not self._stopping:
                self._changed.clear()
                found = await self._take_due()
                if until_idle and not found and not self._driving:
                    return
                if not self._changed.is_set():
                    await self._engine.pause_for(self._changed, self._until_next())
        finally:
            self._engine.stop()
            await asyncio.gather(*self._driving.values())

    async def _take_due(self) -> int:
        """Begin to drive what is due, as far as there is room; returns how many were begun."""
        room = self._concurrency - len(self._driving)
        if room <= 0:
            return 0
        busy = len(self._driving) + len(self.troubles)
        due = await self._engine.due_runs(room + busy, self._tasks)
        fresh = [run for run in due if run not in self._driving and run not in self.troubles]
        for run_id in fresh[:room]:
            self._wakes.pop(run_id, None)
            self._driving[run_id] = asyncio.create_task(self._drive(run_id))
        return len(fresh[:room])

    async def _drive(self, run_id: str) -> None:
        try:
            self._note(await self._engine.drive(run_id))
        except _TAKEN:
            pass
        except SequentialError as error:
            self.troubles[run_id] = error
            loop = asyncio.get_running_loop()
            loop.call_later(self._rest, self.troubles.pop, run_id, None)
        finally:
            del self._driving[run_id]
            self._changed.set()

    def _note(self, run: TaskRun) -> None:
        if run.wake_at and not run.status.is_final:
            self._wakes[run.id] = run.wake_at

    def _until_next(self) -> float:
        """Seconds to the next look: a run parked here is not kept waiting for the sweep."""
        if not self._wakes or len(self._driving) >= self._concurrency:
            return self._sweep
        now = self._engine.now()
        earliest = min(self._wakes.values())
        self._wakes = {run: at for run, at in self._wakes.items() if at > now}
        return min(self._sweep, max(0.0, times.seconds_between(now, earliest)))
