"""The engine: what the command line, the web server and Python programs call.

async with Engine("sqlite:./workflow.db") as engine:
    run = await engine.start("my-emails", {"userId": "123"})
    await run.wait()
    print(run.status, run.result)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self, cast

from sequential.config import Settings
from sequential.core import ids, times
from sequential.core.model import (
    Status,
    TaskRun,
)
from sequential.core.transitions import Event
from sequential.errors import (
    ConfigError,
    InvalidNameError,
    InvalidTransitionError,
    RunNotFoundError,
)
from sequential.runner.accepted_events import accepted_events
from sequential.runner.approvals import Approvals, LinkService, own_url, told_url
from sequential.runner.audit import Audit
from sequential.runner.catalogue import Catalogue
from sequential.runner.child_runs import ChildRuns
from sequential.runner.clock import Clock, SystemClock
from sequential.runner.decorated import task_of
from sequential.runner.following import Following
from sequential.runner.keystore import Keystore
from sequential.runner.links import Links
from sequential.runner.news import News
from sequential.runner.opening import Parts, open_parts
from sequential.runner.operations import FINAL, Operations
from sequential.runner.progress import Observer, Progress, nobody
from sequential.runner.run_handle import Run
from sequential.runner.schedules import Schedules
from sequential.runner.task_executor import TaskExecutor
from sequential.runner.tokens import Tokens
from sequential.runner.webhooks import Webhooks
from sequential.runtimes.registry import Runtimes
from sequential.services.base import Service
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import registered_adapters

_PARTS = ("_runtimes", "_news", "_executor", "_following")


class Engine(Catalogue):
    """Creates, drives and looks up runs of tasks in one store. To be used with `async with`.

    `storage` is a name or URL as in `DATABASE_URL`, or an adapter; without one it is what the
    `project` folder has chosen. `settings` are the project's unless given, `services` are added to
    its own, taking the place of any of the same name. `observer` is told of every step, `clock`
    tells the time. When the block ends, runs in progress are parked and the store is closed.
    """

    keys: Keystore
    tokens: Tokens
    audit: Audit
    services: Services
    approvals: Approvals
    webhooks: Webhooks

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
        if name in {**Catalogue.__annotations__, **Engine.__annotations__} or name in _PARTS:
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
        self.webhooks = Webhooks(self)
        lasting = parts.lasting or (lambda: parts.secret)
        self.approvals = Approvals(
            parts.storage,
            lambda: Links(lasting()),
            told_url(parts.settings),
            own_url(parts.settings),
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

    def adopt(self, settings: Settings) -> None:
        """Use other settings from the next run on.

        Which store it has, how much it does at a time and what the server does stay as they are.
        """
        self.settings = settings
        self._executor.adopt(settings.runner)
        self.schedules.adopt(settings)

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

    # --- runs ------------------------------------------------------------------------------------

    async def _stored(self, function: Callable[..., Any]) -> str:
        """The name of the task that a decorated function is, stored if it is not there as it is."""
        task = task_of(function)
        return (await self.store_task(task.identifier, task.code, task.config)).identifier

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

    async def pause_for(self, event: asyncio.Event, seconds: float) -> None:
        """Wait on the engine's clock until `event` is set or the time has passed."""
        await self._clock.wait(event, seconds)
