"""The engine: what the command line, the web server and Python programs call.

async with Engine("sqlite:./workflow.db") as engine:
    run = await engine.start("my-emails", {"userId": "123"})
    await run.wait()
    print(run.status, run.result)
"""

import asyncio
import difflib
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self, cast

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
from sequential.core.transitions import Event
from sequential.errors import (
    ConfigError,
    InvalidNameError,
    InvalidTransitionError,
    RunExistsError,
    RunNotFoundError,
    TaskNotFoundError,
)
from sequential.runner.accepted_events import accepted_events
from sequential.runner.approvals import Approvals, LinkService, reached_at
from sequential.runner.audit import Audit
from sequential.runner.child_runs import ChildRuns
from sequential.runner.clock import Clock, SystemClock
from sequential.runner.decorated import task_of
from sequential.runner.following import Following
from sequential.runner.keystore import Keystore
from sequential.runner.links import Links
from sequential.runner.new_run import new_run
from sequential.runner.news import News
from sequential.runner.opening import Parts, open_parts
from sequential.runner.operations import FINAL, Operations
from sequential.runner.prefix import id_with_prefix
from sequential.runner.progress import Observer, Progress, nobody
from sequential.runner.run_handle import Run
from sequential.runner.schedules import Schedules
from sequential.runner.task_executor import TaskExecutor
from sequential.runner.tokens import Tokens
from sequential.runner.webhooks import forget_webhooks
from sequential.runtimes.registry import NATIVE_REFUSED, Runtimes
from sequential.services.base import Service
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import registered_adapters

_PARTS = ("_runtimes", "_news", "_executor", "_following", "_operations")
UNFINISHED = [Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.PAUSED]


class Engine:
    """Creates, drives and looks up runs of tasks in one store. To be used with `async with`.

    `storage` is a name or URL as in `DATABASE_URL`, or an adapter; without one it is what the
    `project` folder has chosen. `settings` are the project's unless given, `services` are added to
    its own, taking the place of any of the same name. `observer` is told of every step, `clock`
    tells the time. When the block ends, runs in progress are parked and the store is closed.
    """

    storage: StorageAdapter
    keys: Keystore
    tokens: Tokens
    audit: Audit
    services: Services
    settings: Settings
    schedules: Schedules
    approvals: Approvals

    def __init__(
        self,
        storage: StorageAdapter | str | None = None,
        services: Services | Iterable[Service] = (),
        settings: Settings | None = None,
        *,
        project: str | Path = ".",
        secret: bytes | None = None,
        keys: Keystore | None = None,
        clock: Clock | None = None,
        observer: Observer = nobody,
    ) -> None:
        self._clock = clock or SystemClock()
        self._observers = [observer]
        if isinstance(services, Services):
            # The parts are there, so there is nothing to be opened: for who puts them together.
            assert settings is not None
            assert secret is not None
            adapter = cast("StorageAdapter", storage)
            self._assemble(Parts(adapter, services, settings, secret, keys))
        else:
            self._wanted = (storage, project, settings, services)

    async def __aenter__(self) -> Self:
        if not self.is_open:
            self._assemble(await open_parts(*self._wanted))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name in type(self).__annotations__ or name in _PARTS:
            raise ConfigError("this engine is not open: use `async with Engine(...) as engine:`")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _assemble(self, parts: Parts) -> None:
        self.storage, self.services, self.settings = parts[:3]
        self.keys = parts.keys or Keystore(parts.storage, lambda: parts.secret)
        self.tokens = Tokens(parts.storage, self._clock)
        self.audit = Audit(parts.storage, self._clock, parts.settings.server.audit_days)
        runner = parts.settings.runner
        self._runtimes = Runtimes(runner.live_programs, native=runner.native)
        self._news = News(parts.storage, self._clock)
        self._executor = TaskExecutor(
            parts.storage,
            parts.services,
            self._runtimes,
            secret=parts.secret,
            keys=self.keys,
            clock=self._clock,
            settings=runner,
            observer=self._tell,
        )
        self._following = Following(self._executor, self._news, self._clock, self.get_run)
        self._operations = Operations(parts.storage, self._executor, self._clock)
        self._news.listen(self._executor.look)
        self.schedules = Schedules(
            parts.storage, parts.settings, self.create_run, self.get_task, self.now
        )
        lasting = parts.lasting or (lambda: parts.secret)
        self.approvals = Approvals(
            parts.storage, lambda: Links(lasting()), reached_at(parts.settings)
        )
        if LinkService.name not in parts.services.names():  # short-lived functions have their own
            parts.services.add(LinkService(self.approvals.link))
        parts.services.add(
            ChildRuns(
                parts.storage,
                self._create_child,
                self._operations.retry,
                self._following.child,
                self.now,
            )
        )

    @staticmethod
    def adapters() -> list[str]:
        """The names of the storage adapters there are."""
        return registered_adapters()

    @property
    def backend(self) -> str:
        """What kind of store this is, as in `sqlite`."""
        return type(self.storage).__name__.removesuffix("Adapter").removesuffix("Storage").lower()

    @property
    def is_open(self) -> bool:
        """Whether it has its parts: inside of `async with`."""
        return "storage" in vars(self)

    async def close(self) -> None:
        """Park what is being driven, end the sandbox processes, close services and store."""
        await self.end()
        await self.services.close()
        await self.storage.close()

    async def end(self) -> None:
        """Park what is being driven and end the sandbox processes; all else may still be used."""
        self.stop()
        await self._executor.wait_until_idle()
        await self._following.end()
        await self._runtimes.close()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called: this engine drives nothing any more."""
        return self._following.is_stopped

    def stop(self) -> None:
        """Park every run as soon as possible; `run` and `resume` then return the suspended run."""
        self._following.stop()
        self._executor.stop()
        self._news.stop()

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

    async def _stored(self, function: Callable[..., Any]) -> str:
        """The name of the task that a decorated function is, stored if it is not there as it is."""
        task = task_of(function)
        return (await self.store_task(task.identifier, task.code, task.config)).identifier

    # --- runs ------------------------------------------------------------------------------------

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

    async def start(
        self,
        task: str | Callable[..., Any],
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        priority: int = 0,
        delay: float = 0.0,
    ) -> Run:
        """Create a run and drive it in the background, as long as this engine is open.

        `task` is a name, or a function with the decorator `sequential.task.task`. With an `id`, any
        text of yours such as an order's number, the run is started once: starting it again, also
        after a crash and in another process, goes on with the one there is. Raises what
        `create_run` raises, and `RunExistsError` when that one has another task or input.
        """
        name = task if isinstance(task, str) else await self._stored(task)
        record, _ = await self.create_once(name, input, id=id, priority=priority, delay=delay)
        self.drive_on(record.id)
        return Run(self, record)

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

    async def get(self, run_id: str) -> Run:
        """A run that exists, to be waited for, answered and so on; `id` of `start` is fine too."""
        try:
            return Run(self, await self.get_run(run_id))
        except (InvalidNameError, RunNotFoundError):
            named = await self.storage.get_task_run(ids.named_run_id(run_id))
            if named is None:
                raise RunNotFoundError(f"there is no run {run_id}") from None
            return Run(self, named)

    async def run(self, task: str, input: Mapping[str, Any] | None = None) -> TaskRun:
        """Run a task to its end, waiting as long as it takes.

        A task that fails is no exception here: look at `status` and `error` of what comes back.
        """
        run = await self.create_run(task, input)
        return await self.resume(run.id)

    async def resume(self, run_id: str) -> TaskRun:
        """Go on with a run, and with the child runs it waits for, to its end.

        One that has ended, or that is paused, comes back as it is. Raises `RunNotFoundError`, and
        `RunBusyError` when another process drives it.
        """
        return await self._following.to_end(run_id)

    def drive_on(self, run_id: str) -> None:
        """Drive a run in the background, through all its waits, as long as this engine is open."""
        self._following.beside(run_id)

    async def wait(self, run_id: str, timeout: float | None = None) -> TaskRun:
        """A run, whoever drives it, when it has ended, or as it is after `timeout` seconds."""
        return await self._following.wait(run_id, timeout)

    # --- operating -------------------------------------------------------------------------------

    async def answer(
        self, run_id: str, name: str, data: Any = None, *, id: str | None = None
    ) -> TaskRun:
        """Give a run what its task waits for with `wait_for_event(name)`, now or later.

        With an `id`, any text, an answer counts once however often it is given. Raises
        `RunNotFoundError`, `InvalidTransitionError` when the run is over, and
        `InvalidInputError` or `ValueNotSupportedError` when the data cannot be sent. Of a run that
        follows a graph it does what `send` does.
        """
        return await self._operations.answer(await self.get_run(run_id), name, data, id)

    async def send(
        self, run_id: str, event: str, data: Any = None, *, id: str | None = None
    ) -> TaskRun:
        """Send an event to a run that follows a graph; the fields of `data` become the event's.

        An event that no active state takes is refused with `InvalidTransitionError`, which lists
        those that are accepted; nothing is changed then. Of a run that has not begun, all events of
        its graph are accepted. With an `id`, any text, it counts once however often it is sent.
        Raises `InvalidInputError` for a run without a graph, and all that `answer` raises.
        """
        return await self._operations.send(await self.get_run(run_id), event, data, id)

    async def accepted_events(self, run_id: str) -> list[str]:
        """Names of the events that a run's graph accepts now, guards aside, sorted."""
        return await accepted_events(self.storage, await self.get_run(run_id))

    async def wake(self, run_id: str) -> TaskRun:
        """Have whoever drives a run look at it now; this changes nothing that it has to do."""
        await self.get_run(run_id)
        return await self.storage.answer(run_id, None, self.now())

    async def cancel(self, run_id: str) -> TaskRun:
        """End a run and its child runs, wherever they are driven; their calls are given up."""
        return await self._operations.cancel((await self.get_run(run_id)).id)

    async def pause(self, run_id: str) -> TaskRun:
        """Stop a run, wherever it is driven, until it is unpaused; nothing of it is lost."""
        return await self._operations.pause((await self.get_run(run_id)).id)

    async def unpause(self, run_id: str) -> TaskRun:
        """Let a paused run go on: a worker takes it, or `resume`."""
        return await self._operations.unpause((await self.get_run(run_id)).id)

    async def retry(self, run_id: str) -> TaskRun:
        """Make a failed or cancelled run go on from the call that failed, which is made again.

        Calls that succeeded are not. A worker takes the run, or `resume`.
        """
        return await self._operations.retry((await self.get_run(run_id)).id)

    async def check(self, run: TaskRun, event: Event) -> None:
        """Raise `InvalidTransitionError` unless an operator can do this to a run, as it is now."""
        await self._operations.check(run, event)

    async def delete_run(self, run_id: str) -> None:
        """Remove a run that is over; raises `InvalidTransitionError` for one that is not."""
        run = await self.get_run(run_id)
        if not run.status.is_final:
            raise InvalidTransitionError(f"run {run.id} is {run.status.value}: cancel it first")
        if await self._operations.is_needed(run):
            if run.config.handler is not None:
                raise InvalidTransitionError(
                    f"run {run.id} is a part of run {run.parent_run_id}: delete that one"
                )
            raise InvalidTransitionError(
                f"run {run.id} was started by run {run.parent_run_id}, which would start it again: "
                "let that one end first"
            )
        await self._operations.delete(run.id)

    async def prune(
        self,
        older_than: float,
        *,
        task: str | None = None,
        statuses: Collection[Status] = FINAL,
        dry_run: bool = False,
    ) -> list[str]:
        """Remove runs that ended more than `older_than` seconds ago; returns their ids.

        With `dry_run` nothing is removed. Entries of the audit log that are too old go as well.
        """
        ended = self.ended_runs(older_than, task=task, statuses=statuses)
        old = [run.id async for run in ended]
        if not dry_run:
            await self.audit.prune()
        return [run_id for run_id in old if dry_run or await self._operations.delete(run_id)]

    async def ended_runs(
        self, older_than: float, *, task: str | None = None, statuses: Collection[Status] = FINAL
    ) -> AsyncIterator[TaskRun]:
        """Runs that ended more than `older_than` seconds ago, newest first; what `prune` removes.

        Child runs are not among them while their parent may still ask for their results.
        """
        if task is not None:
            await self.get_task(task)
        moment = times.after(self.now(), -older_than)
        async for run in self._operations.ended_before(moment, task, statuses):
            yield run

    # --- for workers -----------------------------------------------------------------------------

    async def claim_due(
        self, limit: int, tasks: Sequence[str] | None = None, without: Collection[str] = ()
    ) -> list[TaskRun]:
        """Take the leases of up to `limit` runs that are due; each goes to `drive_claimed`."""
        return await self._executor.claim_due(limit, tasks, without)

    async def drive_claimed(self, run: TaskRun) -> TaskRun:
        """Drive a run until it ends or is parked; raises what `drive` raises."""
        return await self._executor.execute_claimed(run)

    async def next_due(self, tasks: Sequence[str] | None = None) -> str | None:
        """When the next run that waits for a time becomes due."""
        return await self.storage.next_wakeup(self.now(), tasks)

    async def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener(run_id)` called when something may have happened to a run.

        An empty id means any run. Word may be lost, so look yourself from time to time.
        """
        self._news.listen(listener)
        await self._news.watch()

    def observe(self, observer: Observer) -> None:
        """Have `observer(progress)` told of every step of what is driven here, too."""
        self._observers.append(observer)

    def _tell(self, progress: Progress) -> None:
        for observer in self._observers:
            observer(progress)

    async def drive(self, run_id: str, budget: float | None = None) -> TaskRun:
        """Drive a run until it ends or is parked; what a worker does with each of its runs.

        With a `budget` in seconds it is parked after the first turn that ends later, and is due at
        once; 0 takes one turn. Raises what `TaskExecutor.execute` raises.
        """
        return await self._executor.execute(run_id, budget=budget)

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
