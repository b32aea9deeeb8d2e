"""A worker: takes runs that are due out of the store and drives them, many at a time.

It also creates the runs that schedules ask for.

Any number of workers may share a store that more than one process can open. They need not know of
each other: a run belongs to whoever gets its lease, and the others look for another one.
"""

import asyncio
from collections.abc import Callable, Sequence

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

# Under which troubles with schedules are told: with all of them, and with one of a name.
SCHEDULES, SCHEDULE = "schedules", "schedule"

# Somebody else was quicker, or an operator stepped in: nothing went wrong.
_TAKEN = (RunBusyError, LeaseLostError, InvalidTransitionError, RunNotFoundError)


def _nothing(run_id: str, error: SequentialError | None) -> None:
    """Tell nobody."""


class Worker:
    """Drives due runs until it is stopped.

    `concurrency` is how many runs it drives at a time, `tasks` the names of those it takes (None:
    all), `sweep` after how many seconds it looks into the store again at the latest (None: as the
    settings say); the store's word that something happened comes earlier. `schedules` says whether
    it begins the runs that they ask for.

    `troubles` has the last error of each run it could not drive because of trouble with the store,
    under "" that of looking for runs, under `schedules` that of looking for schedules, and under
    `schedule <task>/<name>` why one of them cannot be kept to. `on_trouble(run_id, error)` is
    called when such trouble begins, and without an error when it is over.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        concurrency: int = 50,
        tasks: Sequence[str] | None = None,
        sweep: float | None = None,
        schedules: bool = True,
        on_trouble: Callable[[str, SequentialError | None], None] = _nothing,
    ) -> None:
        self._engine = engine
        self._concurrency = concurrency
        self._tasks = tasks
        self._sweep = sweep or engine.settings.runner.sweep or engine.storage.sweep
        self._keeps_schedules = schedules
        self._on_trouble = on_trouble
        self._driving: set[asyncio.Task[None]] = set()
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
            while not (self._stopping or self._engine.is_stopped):
                self._changed.clear()
                failed = await self._fire_schedules()
                found = await self._take_due()
                self._tell_of_schedules(failed)
                if until_idle and not found and not self._driving:
                    return
                if not self._changed.is_set():
                    await self._engine.pause_for(self._changed, await self._until_next())
        finally:
            self._engine.stop()
            await asyncio.gather(*self._driving)

    async def _fire_schedules(self) -> SequentialError | None:
        """Create the runs that schedules ask for now; returns what went wrong with the store."""
        if not self._keeps_schedules:
            return None
        try:
            await self._engine.schedules.fire_due(self._tasks)
        except SequentialError as error:
            return error
        return None

    def _tell_of_schedules(self, failed: SequentialError | None) -> None:
        """Tell once what keeps schedules, unless the store is not there for runs either."""
        if failed is None:
            self._is_well(SCHEDULES)
        elif "" not in self.troubles:
            self._has_trouble(SCHEDULES, failed)
        told = {key for key in self.troubles if key.startswith(f"{SCHEDULE} ")}
        troubles = self._engine.schedules.troubles
        kept = {f"{SCHEDULE} {key}": error for key, error in troubles.items()}
        for subject in told - kept.keys():
            self._is_well(subject)
        for subject, problem in kept.items():
            self._has_trouble(subject, problem)

    def _hear(self, run_id: str) -> None:
        self._changed.set()

    async def _take_due(self) -> int:
        """Begin to drive what is due, as far as there is room; returns how many were begun."""
        room = self._concurrency - len(self._driving)
        if room <= 0:
            return 0
        try:
            await self._engine.listen(self._hear)
            claimed = await self._engine.claim_due(room, self._tasks)
        except SequentialError as error:
            self._has_trouble("", error)
            return 0
        self._is_well("")
        for run in claimed:
            driving = asyncio.create_task(self._drive(run))
            self._driving.add(driving)
            driving.add_done_callback(self._done)
        return len(claimed)

    async def _drive(self, run: TaskRun) -> None:
        try:
            await self._engine.drive_claimed(run)
        except _TAKEN:
            pass
        except SequentialError as error:
            self._has_trouble(run.id, error)
        else:
            self._is_well(run.id)

    def _done(self, driving: asyncio.Task[None]) -> None:
        self._driving.discard(driving)
        self._changed.set()

    def _has_trouble(self, run_id: str, error: SequentialError) -> None:
        is_new = run_id not in self.troubles
        self.troubles[run_id] = error
        if is_new:
            self._on_trouble(run_id, error)

    def _is_well(self, run_id: str) -> None:
        if self.troubles.pop(run_id, None):
            self._on_trouble(run_id, None)

    async def _until_next(self) -> float:
        """Seconds to the next look: what waits for a time is not kept waiting longer."""
        moments = [self._engine.schedules.next_due(self._tasks)]
        if len(self._driving) < self._concurrency:
            try:
                moments.append(await self._engine.next_due(self._tasks))
            except SequentialError:
                pass
        now = self._engine.now()
        seconds = [max(0.0, times.seconds_between(now, moment)) for moment in moments if moment]
        return min([self._sweep, *seconds])
