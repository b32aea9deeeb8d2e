"""Executes runs: claims one, drives it to rest while holding its lease, and lets it go."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Collection, Iterator, Sequence

from sequential.core import times
from sequential.core.model import Status, TaskRun
from sequential.core.transitions import Event, Happening
from sequential.errors import LeaseLostError, SequentialError, StorageError
from sequential.runner.aside import Aside
from sequential.runner.cancelling import cancel
from sequential.runner.clock import Clock
from sequential.runner.drive import Drive
from sequential.runner.family import Family
from sequential.runner.keystore import Keystore
from sequential.runner.live_program import LiveProgram
from sequential.runner.progress import Observer, nobody
from sequential.runner.settings import RunnerSettings
from sequential.runner.slots import Slots
from sequential.runner.stack_processor import StackProcessor
from sequential.runner.steps import Steps
from sequential.runtimes.registry import Runtimes
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter

REST = 10.0  # seconds that a run is left alone after trouble with the store


class TaskExecutor:
    """Drives any number of runs at the same time, each of them alone."""

    def __init__(
        self,
        storage: StorageAdapter,
        services: Services,
        runtimes: Runtimes,
        *,
        secret: bytes,
        keys: Keystore | None = None,
        clock: Clock,
        settings: RunnerSettings,
        observer: Observer = nobody,
    ) -> None:
        self._storage = storage
        self._services = services
        self._runtimes = runtimes
        self._secret = secret
        self._clock = clock
        self._settings = settings
        self._observer = observer
        self._slots = Slots(settings.live_programs)
        self._processor = StackProcessor(
            services, clock, settings.calls, keys or Keystore(storage, lambda: secret)
        )
        self._steps = Steps()
        services.add(self._steps)
        self._aside = Aside()
        self._drives: dict[str, Drive] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self.family = Family(storage, clock)
        self._in_trouble: set[str] = set()
        self._resting: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._executing = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    async def execute(self, run_id: str, budget: float | None = None) -> TaskRun:
        """Drive a run until it ends or is parked.

        With a `budget` it is parked after the first turn that ends later than so many seconds from
        now: 0 takes one turn. Calls in progress are not cut short.

        Raises `RunBusyError` when another worker has it, `InvalidTransitionError` when it is over
        or paused, `LeaseLostError` when another worker took it over meanwhile, and
        `StorageError` when a commit failed; then nothing of the last step was written.
        """
        token = secrets.token_hex(8)
        with self._busy():
            run = await self._storage.claim(run_id, token, self._now(), self._lease_end())
            return await self._execute_claimed(run, budget)

    async def claim_due(
        self, limit: int, tasks: Sequence[str] | None, without: Collection[str] = ()
    ) -> list[TaskRun]:
        """Take the leases of runs that are due; each is to be given to `execute_claimed`."""
        token = secrets.token_hex(8)
        now, end = self._now(), self._lease_end()
        return await self._storage.claim_due(token, now, end, limit, tasks, without)

    async def execute_claimed(self, run: TaskRun) -> TaskRun:
        """What `execute` does, for a run whose lease was taken already."""
        with self._busy():
            return await self._execute_claimed(run)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._executing += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._executing -= 1
            if not self._executing:
                self._idle.set()

    async def _execute_claimed(self, run: TaskRun, budget: float | None = None) -> TaskRun:
        assert run.lease_token
        token = run.lease_token
        if await self._is_orphan(run):
            return await self._end_orphan(run)
        program = LiveProgram(
            self._storage, self._runtimes, self._services, self._slots, self._aside, self._secret
        )
        self._steps.attach(run.id, program)
        drive = Drive(
            run,
            program,
            storage=self._storage,
            processor=self._processor,
            clock=self._clock,
            settings=self._settings,
            observer=self._observer,
            until=None if budget is None else time.monotonic() + budget,
        )
        if self._stopping:
            drive.stop()
        self._drives[run.id] = drive
        renewal = asyncio.create_task(self._renew(drive, token))
        try:
            run = await drive.to_rest()
            await self.family.has_ended(run, has_children=drive.has_children)
            return run
        except LeaseLostError:
            raise
        except StorageError:
            self._in_trouble.add(run.id)
            raise
        finally:
            self._steps.detach(run.id, program)
            if self._drives.get(run.id) is drive:
                del self._drives[run.id]
            await cancel([renewal])
            if drive.run.status is Status.RUNNING:
                await self._give_back(run.id, token)

    async def _is_orphan(self, run: TaskRun) -> bool:
        try:
            return await self.family.is_orphan(run)
        except BaseException:
            await self._release(run.id, run.lease_token or "")
            raise

    async def _end_orphan(self, run: TaskRun) -> TaskRun:
        cancelled = await self._storage.change(run.id, Happening(Event.CANCEL), self._now())
        await self.family.cancel_children(run.id)
        return cancelled

    def look(self, run_id: str) -> None:
        """Something may have happened to a run, or to any if the id is empty: take it in."""
        drives = [self._drives.get(run_id)] if run_id else self._drives.values()
        for drive in drives:
            if drive is not None:
                looking = asyncio.create_task(self._look(drive))
                self._looking.add(looking)
                looking.add_done_callback(self._looking.discard)

    async def _look(self, drive: Drive) -> None:
        try:
            await drive.look()
        except SequentialError:
            pass  # the next renewal looks again

    def stop(self) -> None:
        """Park every run as soon as possible; runs claimed later are parked at once."""
        self._stopping = True
        self._stopped.set()
        for drive in self._drives.values():
            drive.stop()

    async def wait_until_idle(self) -> None:
        """Return when nothing is being driven any more; what rests is released once stopped."""
        await self._idle.wait()
        await asyncio.gather(*self._resting, *self._looking, return_exceptions=True)
        if self._stopping:
            await self._aside.close()

    async def _renew(self, drive: Drive, token: str) -> None:
        never = asyncio.Event()
        while True:
            await self._clock.wait(never, self._settings.lease / 3)
            try:
                answers = await self._storage.renew(drive.run.id, token, self._lease_end())
                if answers != drive.answers:
                    await drive.look()
            except LeaseLostError as error:
                drive.stop(error)
                return
            except SequentialError:
                continue  # the next commit meets the same trouble and reports it

    async def _give_back(self, run_id: str, token: str) -> None:
        """Release a run; one that met trouble in the store rests first, or is met again at once."""
        if run_id not in self._in_trouble or self._stopping:
            await self._release(run_id, token)
            return
        resting = asyncio.create_task(self._rest(run_id, token))
        self._resting.add(resting)
        resting.add_done_callback(self._resting.discard)

    async def _rest(self, run_id: str, token: str) -> None:
        await self._clock.wait(self._stopped, REST)
        self._in_trouble.discard(run_id)
        await self._release(run_id, token)

    async def _release(self, run_id: str, token: str) -> None:
        try:
            await self._storage.release(run_id, token)
        except SequentialError:
            pass  # the store is in trouble, which the caller learns already; the lease runs out

    def _now(self) -> str:
        return times.to_text(self._clock.now())

    def _lease_end(self) -> str:
        return times.after(self._now(), self._settings.lease)
