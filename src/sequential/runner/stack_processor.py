"""One pass over a store: everything that is due is driven until it rests."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sequential.config import Settings, load_secret
from sequential.runner.clock import Clock
from sequential.runner.engine import Engine
from sequential.runner.keystore import Keystore
from sequential.runner.progress import Observer, Progress, Step, nobody
from sequential.runner.service_client import keystore_of, services_of
from sequential.runner.settings import RunnerSettings
from sequential.runner.worker import Worker
from sequential.services.base import Service
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter


class StackProcessor:
    """Drives the runs of a store from time to time, as a cron job does.

    `services` are added to those that are built in or installed. What else is not given is as for
    an `Engine` in this folder. The store and the services belong to the caller.
    """

    def __init__(
        self,
        storage: StorageAdapter,
        services: Services | Iterable[Service] | None = None,
        *,
        secret: bytes | None = None,
        keys: Keystore | None = None,
        clock: Clock | None = None,
        settings: RunnerSettings | None = None,
        observer: Observer = nobody,
    ) -> None:
        self._storage = storage
        self._services = services_of(services)
        self._secret = load_secret(Path()) if secret is None else secret
        self._keys = keys or keystore_of(storage, secret)
        self._clock = clock
        self._settings = Settings(project=Path(), runner=settings or RunnerSettings())
        self._observer = observer
        self._performed = 0

    async def process(self, *, concurrency: int = 50, tasks: Sequence[str] | None = None) -> int:
        """Claim what is due and drive it until it rests, until nothing is due.

        Returns how many calls were performed. So many runs are driven at a time; `tasks` are the
        names of the tasks to take care of (None: all). Raises the first error of the store, when
        all other runs have been driven.
        """
        engine = Engine(
            self._storage,
            self._services,
            self._settings,
            secret=self._secret,
            keys=self._keys,
            clock=self._clock,
            observer=self._see,
        )
        before = self._performed
        try:
            worker = Worker(engine, concurrency=concurrency, tasks=tasks, schedules=False)
            await worker.run(until_idle=True)
        finally:
            await engine.end()
        for error in worker.troubles.values():
            raise error
        return self._performed - before

    def _see(self, progress: Progress) -> None:
        if progress.step is Step.CALL_SETTLED:
            self._performed += 1
        self._observer(progress)
