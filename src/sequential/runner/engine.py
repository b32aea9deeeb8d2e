"""The engine: what the command line, the web server and Python programs call.

async with Engine.open("my-project") as engine:
    run = await engine.run("my-emails", {"userId": "123"})
    print(run.status, run.value)
"""

import asyncio
import contextlib
import difflib
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sequential.config import Settings, load_secret, load_settings
from sequential.core import ids, names, times, values
from sequential.core.inputs import check_input
from sequential.core.model import (
    LogLine,
    StackRun,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.core.policy import check_config
from sequential.errors import AmbiguousRunError, RunNotFoundError, TaskNotFoundError
from sequential.runner.clock import Clock, SystemClock
from sequential.runner.progress import Observer, nobody
from sequential.runner.task_executor import TaskExecutor
from sequential.runtimes.registry import Runtimes
from sequential.services.base import Service
from sequential.services.registry import Services, standard_services
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter, registered_adapters

POLL = 0.2  # seconds between two looks at a run that others drive
UNFINISHED = [Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.PAUSED]


class Engine:
    """Creates, drives and looks up runs of tasks in one store."""

    def __init__(
        self,
        storage: StorageAdapter,
        services: Services,
        settings: Settings,
        *,
        secret: bytes,
        clock: Clock | None = None,
        observer: Observer = nobody,
    ) -> None:
        self.storage = storage
        self.services = services
        self.settings = settings
        self._clock = clock or SystemClock()
        self._runtimes = Runtimes(settings.runner.live_programs)
        self._stopped = asyncio.Event()
        self._executor = TaskExecutor(
            storage,
            services,
            self._runtimes,
            secret=secret,
            clock=self._clock,
            settings=settings.runner,
            observer=observer,
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        project: str | Path = ".",
        *,
        settings: Settings | None = None,
        services: Iterable[Service] = (),
        observer: Observer = nobody,
        clock: Clock | None = None,
    ) -> AsyncIterator["Engine"]:
        """An engine on a project's store, closed at the end; runs in progress are parked then.

        `services` are added to those of the project, taking the place of any of the same name.
        """
        settings = settings or load_settings(Path(project))
        available = standard_services(settings.http, settings.project, services)
        storage = await create_adapter(settings.storage)
        in_memory = settings.adaptor.startswith("memory")
        secret = secrets.token_bytes(32) if in_memory else load_secret(settings.project)
        engine = cls(storage, available, settings, secret=secret, clock=clock, observer=observer)
        try:
            yield engine
        finally:
            await engine.close()

    @staticmethod
    def adapters() -> list[str]:
        """The names of the storage adapters there are."""
        return registered_adapters()

    async def close(self) -> None:
        """Park what is being driven, end the sandbox processes, close services and store."""
        self.stop()
        await self._executor.wait_until_idle()
        await self._runtimes.close()
        await self.services.close()
        await self.storage.close()

    def stop(self) -> None:
        """Park every run as soon as possible; `run` and `resume` then return the suspended run."""
        self._stopped.set()
        self._executor.stop()

    # --- tasks -----------------------------------------------------------------------------------

    async def store_task(self, name: str, code: str, config: TaskConfig) -> TaskFunction:
        """Create a task or replace its code and policy; runs in flight keep what they have."""
        names.check_task_name(name)
        now = times.to_text(self._clock.now())
        config = evolve(config, name=name)
        check_config(config)
        function = TaskFunction(name, code, config, created_at=now, updated_at=now)
        return await self.storage.store_task_function(function)

    async def get_task(self, name: str) -> TaskFunction:
        """A task by name; raises `TaskNotFoundError` with the nearest name there is."""
        names.check_task_name(name)
        function = await self.storage.get_task_function(name)
        if function is None:
            known = [task.identifier for task in await self.storage.list_task_functions()]
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `sequential-ecosystem list`"
            raise TaskNotFoundError(f"there is no task {name}: {hint}")
        return function

    async def list_tasks(self) -> list[TaskFunction]:
        """All tasks, by name."""
        return await self.storage.list_task_functions()

    async def delete_task(self, name: str) -> int:
        """Remove a task with all its runs; returns how many runs there were."""
        await self.get_task(name)
        return await self.storage.delete_task(name)

    # --- runs ------------------------------------------------------------------------------------

    async def create_run(self, task: str, input: Mapping[str, Any] | None = None) -> TaskRun:
        """Write a new run without driving it.

        Raises `TaskNotFoundError`, `ConfigError` when the task's policy cannot be used, and
        `InvalidInputError` that lists all that is wrong with the input; then nothing was written.
        """
        function = await self.get_task(task)
        check_config(function.config)
        given = {} if input is None else input
        complete = check_input(function.config, given, self.settings.defaults)
        now = self._clock.now()
        runner = self.settings.runner
        config = evolve(function.config, retry=function.config.retry or runner.retry)
        if config.timeout is None:
            config = evolve(config, timeout=runner.timeout)
        created = times.to_text(now)
        run = TaskRun(
            id=ids.run_id(int(now.timestamp() * 1000), secrets.token_bytes(10)),
            task_identifier=task,
            status=Status.PENDING,
            input=values.to_json(complete, "the input"),
            created_at=created,
            updated_at=created,
            deadline=times.after(created, config.timeout) if config.timeout else None,
            filename=f"{self.settings.tasks.name}/{task}/{function.filename}",
            config=config,
            code=function.code,
        )
        return await self.storage.create_task_run(run)

    async def run(self, task: str, input: Mapping[str, Any] | None = None) -> TaskRun:
        """Run a task to its end, waiting as long as it takes.

        A task that fails is no exception here: look at `status` and `error` of what comes back.
        """
        run = await self.create_run(task, input)
        return await self.resume(run.id)

    async def resume(self, run_id: str) -> TaskRun:
        """Go on with a run to its end; one that has ended comes back as it is.

        Raises `RunNotFoundError`, and `RunBusyError` when another process drives it.
        """
        run = await self.get_run(run_id)
        while not run.status.is_final:
            run = await self._executor.execute(run_id)
            if run.status.is_final or run.status is Status.PAUSED or self._stopped.is_set():
                break
            await self._until(run.wake_at)
            if self._stopped.is_set():
                break
        return run

    async def wait(self, run_id: str, timeout: float | None = None) -> TaskRun:
        """A run that others drive, when it has ended, or as it is after `timeout` seconds."""
        run = await self.get_run(run_id)
        end = None if timeout is None else times.after(self.now(), timeout)
        while not (run.status.is_final or self._stopped.is_set()):
            if end is not None and self.now() >= end:
                break
            await self._clock.wait(self._stopped, POLL)
            run = await self.get_run(run_id)
        return run

    async def drive(self, run_id: str) -> TaskRun:
        """Drive a run until it ends or is parked; what a worker does with each of its runs.

        Raises what `TaskExecutor.execute` raises.
        """
        return await self._executor.execute(run_id)

    async def due_runs(self, limit: int, tasks: Sequence[str] | None = None) -> list[str]:
        """Ids of runs that nobody drives and that could go on now, the longest waiting first."""
        now = times.to_text(self._clock.now())
        return await self.storage.wakeups(now, limit, tasks)

    def now(self) -> str:
        """The time on the engine's clock, as records have it."""
        return times.to_text(self._clock.now())

    async def pause_for(self, event: asyncio.Event, seconds: float) -> None:
        """Wait on the engine's clock until `event` is set or the time has passed."""
        await self._clock.wait(event, seconds)

    async def get_run(self, run_id: str) -> TaskRun:
        """A run by its full id; raises `RunNotFoundError`."""
        names.check_run_id(run_id)
        run = await self.storage.get_task_run(run_id)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id}")
        return run

    async def find_run(self, prefix: str, task: str | None = None) -> TaskRun:
        """The run whose id begins with `prefix`, among those of `task` if one is given.

        Raises `RunNotFoundError`, and `AmbiguousRunError` that lists the runs it could be.
        """
        names.check_run_prefix(prefix)
        if task is not None:
            await self.get_task(task)
        found = await self.storage.find_run_ids(prefix, task)
        of_task = f" of {task}" if task else ""
        if not found:
            raise RunNotFoundError(f"there is no run{of_task} that begins with {prefix}")
        if len(found) > 1:
            listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            raise AmbiguousRunError(f"{len(found)} runs{of_task} begin with {prefix}: {listed}")
        return await self.get_run(found[0])

    async def list_runs(
        self, task: str | None = None, *, limit: int | None = None, unfinished: bool = False
    ) -> list[TaskRun]:
        """Runs, newest first. Large inputs and results are left out."""
        filters: dict[str, Any] = {}
        if task is not None:
            await self.get_task(task)
            filters["task_identifier"] = task
        if unfinished:
            filters["status"] = UNFINISHED
        return await self.storage.query_task_runs(limit=limit, **filters)

    async def list_damaged(self) -> list[str]:
        """One line for each run that is left out of lists because its files are damaged."""
        return await self.storage.damaged()

    async def is_driven(self, run: TaskRun) -> bool:
        """Whether some process drives this run at the moment."""
        return await self.storage.is_leased(run, times.to_text(self._clock.now()))

    async def list_calls(self, run_id: str) -> list[StackRun]:
        """All calls of a run, in order."""
        return await self.storage.query_stack_runs(task_run_id=run_id)

    async def get_log(self, run_id: str) -> list[LogLine]:
        """What a run has printed."""
        return await self.storage.get_log(run_id)

    async def _until(self, moment: str | None) -> None:
        while not self._stopped.is_set():
            now = times.to_text(self._clock.now())
            seconds = times.seconds_between(now, moment) if moment else None
            if seconds is not None and seconds <= 0:
                return
            await self._clock.wait(self._stopped, seconds)
