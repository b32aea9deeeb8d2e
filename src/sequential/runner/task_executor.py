"""Executes runs: claims one, drives it to rest while holding its lease, and lets it go."""

import asyncio
import secrets

from sequential.core import times
from sequential.core.model import Status, TaskRun
from sequential.errors import LeaseLostError, SequentialError
from sequential.runner.clock import Clock
from sequential.runner.drive import Drive
from sequential.runner.live_program import LiveProgram
from sequential.runner.progress import Observer, nobody
from sequential.runner.settings import RunnerSettings
from sequential.runner.slots import Slots
from sequential.runner.stack_processor import StackProcessor
from sequential.runtimes.registry import Runtimes
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter


class TaskExecutor:
    """Drives any number of runs at the same time, each of them alone."""

    def __init__(
        self,
        storage: StorageAdapter,
        services: Services,
        runtimes: Runtimes,
        *,
        secret: bytes,
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
        self._processor = StackProcessor(services, clock, settings.calls)
        self._drives: set[Drive] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    async def execute(self, run_id: str) -> TaskRun:
        """Drive a run until it ends or is parked.

        Raises `RunBusyError` when another worker has it, `InvalidTransitionError` when it is over
        or paused, `LeaseLostError` when another worker took it over meanwhile, and
        `StorageError` when a commit failed; then nothing of the last step was written.
        """
        token = secrets.token_hex(8)
        run = await self._storage.claim(run_id, token, self._now(), self._lease_end())
        program = LiveProgram(
            self._storage, self._runtimes, self._services, self._slots, self._secret
        )
        drive = Drive(
            run,
            program,
            storage=self._storage,
            processor=self._processor,
            clock=self._clock,
            settings=self._settings,
            observer=self._observer,
        )
        if self._stopping:
            drive.stop()
        self._drives.add(drive)
        self._idle.clear()
        renewal = asyncio.create_task(self._renew(drive, token))
        try:
            return await drive.to_rest()
        finally:
            self._drives.discard(drive)
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
            if drive.run.status is Status.RUNNING:
                await self._release(run_id, token)
            if not self._drives:
                self._idle.set()

    def stop(self) -> None:
        """Park every run as soon as possible; runs claimed later are parked at once."""
        self._stopping = True
        for drive in self._drives:
            drive.stop()

    async def wait_until_idle(self) -> None:
        """Return when nothing is being driven any more."""
        await self._idle.wait()

    async def _renew(self, drive: Drive, token: str) -> None:
        never = asyncio.Event()
        while True:
            await self._clock.wait(never, self._settings.lease / 3)
            try:
                await self._storage.renew(drive.run.id, token, self._lease_end())
            except LeaseLostError as error:
                drive.stop(error)
                return
            except SequentialError:
                continue  # the next commit meets the same trouble and reports it

    async def _release(self, run_id: str, token: str) -> None:
        try:
            await self._storage.release(run_id, token)
        except SequentialError:
            pass  # the store is in trouble, which the caller learns already; the lease runs out

    def _now(self) -> str:
        return times.to_text(self._clock.now())

    def _lease_end(self) -> str:
        return times.after(self._now(), self._settings.lease)
