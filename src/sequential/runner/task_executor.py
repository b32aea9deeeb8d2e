"""Executes runs: claims one, drives it to rest while holding its lease, and lets it go."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sequential.config import load_secret
from sequential.core import times
from sequential.core.model import Status, TaskRun, evolve
from sequential.core.transitions import Event, Happening
from sequential.errors import (
    InvalidTaskError,
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    SequentialError,
    StorageError,
    TaskLimitError,
)
from sequential.runner.aside import Aside
from sequential.runner.cancelling import cancel
from sequential.runner.clock import Clock, SystemClock
from sequential.runner.drive import Drive
from sequential.runner.family import Family
from sequential.runner.holder import has_died, new_token
from sequential.runner.keystore import Keystore
from sequential.runner.live_program import LiveProgram
from sequential.runner.new_run import new_run
from sequential.runner.progress import Observer, nobody
from sequential.runner.service_client import ServiceClient, keystore_of, services_of
from sequential.runner.settings import RunnerSettings
from sequential.runner.slots import Slots
from sequential.runner.steps import Steps
from sequential.runtimes.registry import Runtimes
from sequential.services.base import Service
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter

BURIAL = 5.0  # seconds between two looks for leases of processes that have died here
MOST_LEFT_OFF = 1_000  # runs of which it is known where they were parked
REST = 10.0  # seconds that a run is left alone after trouble with the store


class TaskExecutor:
    """Drives any number of runs at the same time, each of them alone.

    Only the store is needed. What is not given is made as for an `Engine` in this folder, and
    closed with the executor. An executor by itself has no `run_task`: an `Engine` and a
    `StackProcessor` have it.
    """

    def __init__(
        self,
        storage: StorageAdapter,
        services: Services | Iterable[Service] | None = None,
        runtimes: Runtimes | None = None,
        *,
        secret: bytes | None = None,
        keys: Keystore | None = None,
        clock: Clock | None = None,
        settings: RunnerSettings | None = None,
        observer: Observer = nobody,
    ) -> None:
        given = services, runtimes
        settings = settings or RunnerSettings()
        clock = clock or SystemClock()
        services = services_of(services)
        runtimes = runtimes or Runtimes(settings.live_programs, native=settings.native)
        self._own = [own for own in (services, runtimes) if own not in given]
        keys = keys or keystore_of(storage, secret)
        secret = load_secret(Path()) if secret is None else secret
        self._storage = storage
        self._services = services
        self._runtimes = runtimes
        self._secret = secret
        self._clock = clock
        self._settings = settings
        self._observer = observer
        self._slots = Slots(settings.live_programs)
        self._client = ServiceClient(storage, services, keys=keys, clock=clock, settings=settings)
        self._steps = Steps()
        services.add(self._steps)
        self._aside = Aside()
        self._left_off: dict[str, int] = {}  # run -> the turn at which it was parked here
        self._drives: dict[str, Drive] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self.family = Family(storage, clock, self._tell_here)
        self._in_trouble: set[str] = set()
        self._resting: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._next_look = 0.0
        self._executing = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def adopt(self, settings: RunnerSettings) -> None:
        """Drive by other settings from the next run on; how many at a time stays."""
        self._settings = settings

    async def execute(
        self, task_run: str | TaskRun, task_code: str | None = None, *, budget: float | None = None
    ) -> TaskRun:
        """Drive a run until it ends or is parked.

        It is named by its id. A `TaskRun` that the store does not have is written first, with
        `task_code`; one that it has goes on with the code it has. It needs an id, the name of its
        task and its input, and may have a policy.

        With a `budget` it is parked after the first turn that ends later than so many seconds from
        now: 0 takes one turn. Calls in progress are not cut short.

        Raises `RunBusyError` when another worker has it, `InvalidTransitionError` when it is over
        or paused, `LeaseLostError` when another worker took it over meanwhile, and
        `StorageError` when a commit failed; then nothing of the last step was written.
        """
        token = new_token()
        with self._busy():
            if isinstance(task_run, TaskRun):
                await self._write(task_run, task_code)
                task_run = task_run.id
            run = await self._claim(task_run, token)
            return await self._execute_claimed(run, budget)

    async def _claim(self, run_id: str, token: str) -> TaskRun:
        try:
            return await self._storage.claim(run_id, token, self._now(), self._lease_end())
        except TaskLimitError:
            raise
        except RunBusyError:
            run = await self._storage.get_task_run(run_id)
            if run is None or not await self._is_freed(run):
                raise
            return await self._storage.claim(run_id, token, self._now(), self._lease_end())

    async def _is_freed(self, run: TaskRun) -> bool:
        """Give back a lease whose process has died on this machine; False if there is none."""
        if run.lease_token is None or not has_died(run.lease_token):
            return False
        if not await self._storage.is_leased(run, self._now()):
            return False  # anybody may claim it already
        await self._storage.release(run.id, run.lease_token)
        return True

    async def _free_the_dead(self) -> None:
        """Give back all such leases, now and then."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + BURIAL
        for run in await self._storage.query_task_runs(status=Status.RUNNING):
            await self._is_freed(run)

    async def _write(self, run: TaskRun, code: str | None) -> None:
        """Have a run in the store."""
        if await self._storage.get_task_run(run.id) is not None:
            return
        run = new_run(run, self._settings, self._now())
        if not (code or run.code):
            raise InvalidTaskError(f"run {run.id} has no code: give that of {run.task_identifier}")
        try:
            await self._storage.create_task_run(evolve(run, code=code or run.code))
        except RunExistsError:
            pass

    async def claim_due(
        self, limit: int, tasks: Sequence[str] | None, without: Collection[str] = ()
    ) -> list[TaskRun]:
        """Take the leases of runs that are due; each is to be given to `execute_claimed`."""
        token = new_token()
        await self._free_the_dead()
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
            client=self._client,
            clock=self._clock,
            settings=self._settings,
            observer=self._observer,
            abandon=self.family.cancel_runs,
            until=None if budget is None else time.monotonic() + budget,
            left_off_at=self._left_off.pop(run.id, None),
        )
        if self._stopping:
            drive.stop()
        self._drives[run.id] = drive
        renewal = asyncio.create_task(self._renew(drive, token))
        try:
            run = await drive.to_rest()
            if run.status is Status.SUSPENDED and not drive.has_left_children:
                self._note_left_off(run)
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

    def _note_left_off(self, run: TaskRun) -> None:
        self._left_off[run.id] = run.turn
        if len(self._left_off) > MOST_LEFT_OFF:
            del self._left_off[next(iter(self._left_off))]

    def _tell_here(self, child: TaskRun) -> bool:
        """Tell the drive of a run's parent that it has ended; False if that is not to be found.

        Should the drive come to nothing, who takes over looks at all children. One whose lease may
        be over, since this process was frozen for instance, does not count: another may have it.
        """
        drive = self._drives.get(child.parent_run_id or "")
        if drive is None or drive.held_until <= self._now():
            return False
        return drive.child_has_ended(child.id)

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

    async def close(self) -> None:
        """Park what is being driven, and close what was made for this executor."""
        self.stop()
        await self.wait_until_idle()
        for own in self._own:
            await own.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

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
                end = self._lease_end()
                answers = await self._storage.renew(drive.run.id, token, end)
                drive.held_until = end
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
