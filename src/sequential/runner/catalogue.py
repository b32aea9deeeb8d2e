"""What is in a store: its tasks, and its runs as they are written down and looked up."""

import difflib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sequential.config import Settings
from sequential.core import ids, names, times, values
from sequential.core.bounds import least, narrowed
from sequential.core.inputs import check_input
from sequential.core.model import (
    Bounds,
    LogLine,
    StackRun,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.core.policy import check_config
from sequential.core.task_graph import machine_of
from sequential.errors import ConfigError, RunExistsError, RunNotFoundError, TaskNotFoundError
from sequential.runner.clock import Clock
from sequential.runner.new_run import new_run
from sequential.runner.operations import Operations
from sequential.runner.prefix import id_with_prefix
from sequential.runner.schedules import Schedules
from sequential.runner.webhooks import forget_webhooks
from sequential.runtimes.registry import NATIVE_REFUSED
from sequential.storage.base import StorageAdapter

UNFINISHED = [Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.PAUSED]


class Catalogue:
    """The part of an engine that drives nothing."""

    storage: StorageAdapter
    settings: Settings
    schedules: Schedules
    _clock: Clock
    _operations: Operations

    # --- tasks -----------------------------------------------------------------------------------

    async def store_task(self, name: str, code: str, config: TaskConfig) -> TaskFunction:
        """Create a task or replace its code and policy; runs in flight keep what they have."""
        names.check_task_name(name)
        now = times.to_text(self._clock.now())
        config = evolve(config, name=name)
        check_config(config)
        function = TaskFunction(name, code, config, created_at=now, updated_at=now)
        stored = await self.storage.store_task_function(function)
        await self.schedules.note_stored(stored, now)
        return stored

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
        """Remove a task with its schedules and runs; returns how many runs there were."""
        function = await self.get_task(name)
        count = await self.storage.delete_task(name)
        await self.schedules.forget(function)
        await forget_webhooks(self.storage, name)
        return count

    # --- writing runs down -----------------------------------------------------------------------

    async def create_run(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        delay: float = 0.0,
        id: str | None = None,
        within: Sequence[Bounds] = (),
    ) -> TaskRun:
        """Write a new run without driving it.

        Of the runs that are due, workers take those with more `priority` first; they begin no
        earlier than `delay` seconds from now. Who may have to ask again because an answer was lost
        gives an `id`, a UUID of its own: the second time raises `RunExistsError`. `within` are
        bounds for it and its child runs, besides those of its task. Raises
        `TaskNotFoundError`, `ConfigError` when the task's policy cannot be used, and
        `InvalidInputError` that lists all that is wrong with the input; then nothing was written.
        """
        now = self._clock.now()
        if id is None:
            run_id = ids.run_id(int(now.timestamp() * 1000), secrets.token_bytes(10))
        else:
            run_id = names.check_run_id(id)
        wake_at = times.after(times.to_text(now), delay) if delay > 0 else None
        return await self._create(
            task, input, None, within, id=run_id, wake_at=wake_at, priority=priority
        )

    async def create_once(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        priority: int = 0,
        delay: float = 0.0,
        within: Sequence[Bounds] = (),
    ) -> tuple[TaskRun, bool]:
        """Write a run without driving it, and say whether it is new; `id` is as for `start`."""
        run_id = None if id is None else ids.named_run_id(id)
        try:
            options: dict[str, Any] = {"priority": priority, "delay": delay, "within": within}
            run = await self.create_run(task, input, id=run_id, **options)
        except RunExistsError:
            run = await self.get_run(run_id or "")
            given = check_input(run.config, input or {}, self.settings.defaults)
            if run.task_identifier != task or run.input != values.to_json(given, "the input"):
                raise RunExistsError(
                    f"the run {id!r} exists already, with another task or another input"
                ) from None
            return run, False
        return run, True

    async def _create_child(
        self,
        task: str,
        input: Mapping[str, Any],
        *,
        run_id: str,
        parent_run_id: str,
        timeout: float | None,
    ) -> TaskRun:
        parent = await self.get_run(parent_run_id)
        fields = {"id": run_id, "parent_run_id": parent_run_id, "priority": parent.priority}
        return await self._create(task, input, timeout, parent.config.allow.within, **fields)

    async def _create(
        self,
        task: str,
        input: Mapping[str, Any] | None,
        timeout: float | None = None,
        within: Sequence[Bounds] = (),
        **fields: Any,
    ) -> TaskRun:
        """Write a run; `timeout` seconds are all that it may take if its task allows more."""
        function = await self.get_task(task)
        check_config(function.config)
        if function.config.runtime == "native" and not self.settings.runner.native:
            raise ConfigError(NATIVE_REFUSED)
        if function.config.graph is not None:
            machine_of(function.config.graph, function.code, task)  # raises what is wrong with it
        given = {} if input is None else input
        complete = check_input(function.config, given, self.settings.defaults)
        config = narrowed(function.config, *within)
        run = TaskRun(
            task_identifier=task,
            status=Status.PENDING,
            input=values.to_json(complete, "the input"),
            filename=f"{self.settings.tasks.name}/{task}/{function.filename}",
            config=evolve(config, timeout=least(config.timeout, timeout)),
            code=function.code,
            **fields,
        )
        return await self.storage.create_task_run(new_run(run, self.settings.runner, self.now()))

    # --- looking ---------------------------------------------------------------------------------

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
        return await self.get_run(await id_with_prefix(self.storage, self.get_run, prefix, task))

    async def list_runs(
        self,
        task: str | None = None,
        *,
        limit: int | None = None,
        before: str | None = None,
        status: Status | Sequence[Status] | None = None,
        parent: str | None = None,
        unfinished: bool = False,
    ) -> list[TaskRun]:
        """Runs, newest first, from behind the id `before` on; without large inputs and results.

        The runs of a graph's handlers are parts of its run, and are not listed here.
        """
        filters: dict[str, Any] = {}
        if task is not None:
            await self.get_task(task)
            filters["task_identifier"] = task
        if parent is not None:
            filters["parent_run_id"] = parent
        if unfinished or status is not None:
            filters["status"] = UNFINISHED if unfinished else status
        return await self._operations.listed(limit, filters, before)

    async def list_children(self, run_id: str) -> list[TaskRun]:
        """The runs that a run's `run_task` or its graph's states have started, oldest first."""
        return (await self.storage.query_task_runs(parent_run_id=run_id))[::-1]

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

    def now(self) -> str:
        """The time on the engine's clock, as records have it."""
        return times.to_text(self._clock.now())
