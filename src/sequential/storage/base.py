"""What a storage adapter is.

An adapter starts with the simple methods, those of the original: create, get, update, query and
delete of task runs and stack runs, task functions, the keystore, logs and snapshots. The atomic
ones, which the runner needs, are built here from the simple ones under a lock, which is enough for
one process. An adapter that several processes share overrides them (`claim`, `renew`, `release`,
`commit`, `amend`) with operations that its store performs as one, and those that search
(`load_calls`, `wakeups`, `next_wakeup`) with queries whose cost does not grow with what is stored.
"""

import abc
import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sequential.core.journal import committed
from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    RunEvent,
    Snapshot,
    StackRun,
    Status,
    TaskFunction,
    TaskRun,
)
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    DamagedRunError,
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
    RunChangedError,
    RunNotFoundError,
    TaskLimitError,
)
from sequential.storage.documents import DocumentStore
from sequential.storage.outside import answered, operated

CLAIMABLE = (Status.PENDING, Status.RUNNING, Status.SUSPENDED)


class StorageAdapter(DocumentStore):
    """A store. Records go in and out whole; a filter is equality on fields, a list means IN.

    The methods of the keystore and of documents are those of `DocumentStore`.
    """

    tasks_are_files = False  # which people edit, so that nobody is told when a task has changed
    sweep = 1.0  # seconds between two looks for work that nothing announced, where a look is cheap

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._watchers: list[Callable[[str], None]] = []

    async def init(self) -> None:
        """Open the store, creating what it needs. May be called by several processes at once."""

    async def close(self) -> None:
        """Give back files and connections, and any lease still held."""

    # --- task runs -------------------------------------------------------------------------------

    @abc.abstractmethod
    async def create_task_run(self, run: TaskRun) -> TaskRun:
        """Write a new run; raises `RunExistsError`."""

    @abc.abstractmethod
    async def get_task_run(self, run_id: str) -> TaskRun | None: ...

    @abc.abstractmethod
    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        """Change fields of a run that nobody drives; raises `RunNotFoundError`."""

    @abc.abstractmethod
    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        """Runs, newest first, from behind the id `before` on.

        Large inputs and results may be left out (`$payload`).
        """

    @abc.abstractmethod
    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        """Ids of the runs that begin with `prefix`, sorted."""

    @abc.abstractmethod
    async def delete_task_run(self, run_id: str) -> None:
        """Remove a run with all that belongs to it.

        Raises `RunNotFoundError`, and `RunBusyError` when it is being driven.
        """

    async def damaged(self) -> list[str]:
        """What the lists leave out because it cannot be read: a line for each, with the remedy."""
        return []

    # --- stack runs ------------------------------------------------------------------------------

    @abc.abstractmethod
    async def create_stack_run(self, call: StackRun) -> StackRun: ...

    @abc.abstractmethod
    async def get_stack_run(self, call_id: str) -> StackRun | None: ...

    @abc.abstractmethod
    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun: ...

    @abc.abstractmethod
    async def delete_stack_run(self, call_id: str) -> None:
        """Remove a call; one that is not there is no error."""

    @abc.abstractmethod
    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        """Calls, in the order of their numbers."""

    async def get_pending_stack_runs(self) -> list[StackRun]:
        """The calls that wait to be performed, oldest first."""
        calls = await self.query_stack_runs(status="pending")
        return sorted(calls, key=lambda call: (call.created_at, call.sequence))

    # --- task functions --------------------------------------------------------------------------

    @abc.abstractmethod
    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        """Create or replace a task; returns it with its new version and times."""

    @abc.abstractmethod
    async def get_task_function(self, identifier: str) -> TaskFunction | None: ...

    @abc.abstractmethod
    async def list_task_functions(self) -> list[TaskFunction]:
        """All tasks, by name."""

    @abc.abstractmethod
    async def delete_task(self, identifier: str) -> int:
        """Remove a task with all its runs; returns how many runs there were.

        Raises `TaskNotFoundError`, and `RunBusyError` when one of them is being driven.
        """

    # --- snapshots and logs ----------------------------------------------------------------------

    @abc.abstractmethod
    async def store_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the newest snapshot of a run; a loss is no harm."""

    @abc.abstractmethod
    async def get_snapshot(self, run_id: str) -> Snapshot | None: ...

    @abc.abstractmethod
    async def append_log(self, run_id: str, line: LogLine) -> None: ...

    @abc.abstractmethod
    async def get_log(self, run_id: str) -> list[LogLine]:
        """What the run has printed, in order."""

    # --- the atomic ones -------------------------------------------------------------------------

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        """Take the lease of a run until `until`; every later commit must carry `token`.

        Raises `RunNotFoundError`, `RunBusyError` when another lease lasts, `TaskLimitError` when
        `config.concurrency` other runs of the task are driven, and `InvalidTransitionError` when
        the run's status forbids it.
        """
        async with self._lock:
            run = await self._get(run_id)
            if run.lease_token and await self.is_leased(run, now):
                raise RunBusyError
            happening = Happening(Event.CLAIM, token=token, until=until)
            claimed, _ = apply(run, happening, now)
            if (most := run.config.concurrency) is not None:
                running = await self.query_task_runs(
                    task_identifier=run.task_identifier, status=Status.RUNNING
                )
                others = [r for r in running if r.id != run_id and await self.is_leased(r, now)]
                if len(others) >= most:
                    raise TaskLimitError
            return await self._put(claimed)

    async def claim_due(
        self,
        token: str,
        now: str,
        until: str,
        limit: int,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[TaskRun]:
        """Claim up to `limit` of the runs that `wakeups` names; others may claim some meanwhile.

        Runs of tasks that have reached their limit do not keep those of other tasks waiting.
        """
        claimed: list[TaskRun] = []
        full = set(without)
        while len(claimed) < limit:
            progress = len(claimed), len(full)
            for run_id in await self.wakeups(now, limit - len(claimed), tasks, full):
                try:
                    claimed.append(await self.claim(run_id, token, now, until))
                except TaskLimitError:
                    if run := await self.get_task_run(run_id):
                        full.add(run.task_identifier)
                        break  # the others of this task need not be tried
                except (RunBusyError, RunNotFoundError, InvalidTransitionError, DamagedRunError):
                    continue  # others are not kept waiting; `damaged` tells
            if progress == (len(claimed), len(full)):
                break
        return claimed

    async def renew(self, run_id: str, token: str, until: str) -> int:
        """Prolong a lease; returns how many answers have come to the run from outside by now.

        Raises `LeaseLostError` when the lease is not ours any more.
        """
        async with self._lock:
            run = await self._get(run_id)
            if run.lease_token != token:
                raise LeaseLostError
            await self.update_task_run(run_id, lease_until=until)
            return run.answers

    async def release(self, run_id: str, token: str) -> None:
        """Give a lease back without writing anything else; the run may be claimed at once."""
        async with self._lock:
            run = await self.get_task_run(run_id)
            if run and run.lease_token == token:
                await self.update_task_run(run_id, lease_token=None, lease_until=None)

    async def commit(self, commit: Commit) -> None:
        """Write one step, all or nothing; raises `LeaseLostError` when the token is stale."""
        async with self._lock:
            run = await self._get(commit.run.id)
            if run.lease_token != commit.token:
                raise LeaseLostError
            for call in commit.requested:
                await self.create_stack_run(call)
            for call in commit.updated:
                await self.update_stack_run(call.id, **fields(call))
            if commit.log:
                await self.append_log(run.id, LogLine(commit.run.updated_at, commit.log))
            if commit.snapshot:
                await self.store_snapshot(commit.snapshot)
            await self._put(committed(run, commit))
        if commit.run.status is not Status.RUNNING:
            self._announce(run.id)

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        """Change a run from outside, whoever drives it, if it still is what the caller has seen.

        Raises `RunChangedError`, writing nothing, unless the stored run has the status, the turn,
        the lease token and the number of answers of `old`. Only the fields in which
        `amendment.run` differs from `old` are written. Taking the lease token away makes the next
        commit of whoever drives it fail with `LeaseLostError`.
        """
        async with self._lock:
            run = await self._get(old.id)
            if fence(run) != fence(old):
                raise RunChangedError
            for call in amendment.updated:
                await self.update_stack_run(call.id, **fields(call))
            for number in amendment.dropped:
                await self.delete_stack_run(f"{run.id}:{number}")
            changes = fields(amendment.run)
            changed = {n: v for n, v in changes.items() if v is not getattr(old, n)}
            run = await self.update_task_run(run.id, **changed)
        self._announce(run.id)
        return run

    async def answer(self, run_id: str, event: RunEvent | None, now: str) -> TaskRun:
        """Hand an answer from outside to a run, whoever drives it, and make the run due.

        The same event twice counts once. Without an event it is only a wake-up: what the run waits
        for may have happened. Raises `RunNotFoundError`, and `InvalidTransitionError` when the run
        is over.
        """
        while True:  # every turn of this loop means that somebody else got on
            run = await self._get(run_id)
            changed = answered(run, event, now)
            if changed is run:
                return run
            try:
                return await self.amend(run, Amendment(changed))
            except RunChangedError:
                continue

    async def change(self, run_id: str, happening: Happening, now: str) -> TaskRun:
        """Pause, unpause or cancel a run, whoever drives it; calls of a cancelled one are given up.

        Raises `RunNotFoundError`, `InvalidTransitionError` when the run's status forbids it, and
        `RunBusyError`, having changed nothing, when the one who drives it cannot be reached.
        """
        while True:
            run = await self._get(run_id)
            calls = await self.load_calls(run_id, run.turn)
            try:
                return await self.amend(run, operated(run, calls, happening, now))
            except RunChangedError:
                continue

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        """The calls needed to go on from turn `after`: not delivered then, or asked for since."""
        calls = await self.query_stack_runs(task_run_id=run_id)
        return [c for c in calls if c.delivered_turn is None or c.delivered_turn > after]

    async def is_leased(self, run: TaskRun, now: str) -> bool:
        """Whether a worker drives this run at the moment."""
        return run.lease_until is not None and run.lease_until > now

    async def wakeups(
        self,
        now: str,
        limit: int = 100,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[str]:
        """Ids of runs that a worker should claim now.

        Those with the highest priority first, among them those that have waited longest. `tasks`
        are the names of the tasks it takes care of (None: all), `without` names it does not want.
        """
        due = [run for run in await self._claimable(tasks, without) if await self._is_due(run, now)]
        due.sort(key=lambda run: (-run.priority, run.wake_at or run.updated_at))
        return [run.id for run in due[:limit]]

    async def next_wakeup(self, now: str, tasks: Sequence[str] | None = None) -> str | None:
        """When the next run that waits for a time becomes due; None when there is none."""
        runs = await self._claimable(tasks, ())
        moments = [run.wake_at for run in runs if run.wake_at and run.wake_at > now]
        return min(moments, default=None)

    async def _claimable(
        self, tasks: Sequence[str] | None, without: Collection[str]
    ) -> list[TaskRun]:
        filters: dict[str, Any] = {} if tasks is None else {"task_identifier": list(tasks)}
        runs = await self.query_task_runs(status=list(CLAIMABLE), **filters)
        return [run for run in runs if run.task_identifier not in without]

    async def _is_due(self, run: TaskRun, now: str) -> bool:
        if run.status is Status.RUNNING:
            return not await self.is_leased(run, now)
        if run.status is Status.PENDING:
            return run.wake_at is None or run.wake_at <= now
        return run.wake_at is not None and run.wake_at <= now

    # --- being told ------------------------------------------------------------------------------

    async def watch(self, changed: Callable[[str], None]) -> None:
        """From now on call `changed(run_id)` on this event loop when something happened to a run.

        That is: it was created, amended, parked, or it ended. A store that can tell what other
        processes did says that too; an empty id means that something happened to some run. Nobody
        may rely on it: behind it is always a slow look.
        """
        self._watchers.append(changed)

    def _announce(self, run_id: str) -> None:
        for changed in self._watchers:
            changed(run_id)

    # --- inside ----------------------------------------------------------------------------------

    async def _get(self, run_id: str) -> TaskRun:
        run = await self.get_task_run(run_id)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id}")
        return run

    async def _put(self, run: TaskRun) -> TaskRun:
        return await self.update_task_run(run.id, **fields(run))


def fence(run: TaskRun) -> tuple[Any, ...]:
    """What must not have changed for an amendment to be written."""
    return run.status, run.turn, run.lease_token, run.answers


def fields(record: TaskRun | StackRun) -> dict[str, Any]:
    """A record's fields by name, without its id."""
    return {name: getattr(record, name) for name in record.__struct_fields__ if name != "id"}


def matches(record: TaskRun | StackRun, filters: dict[str, Any]) -> bool:
    """Whether a record has these field values; a list means any of its items."""
    return all(
        getattr(record, name) in wanted
        if isinstance(wanted, Sequence) and not isinstance(wanted, str)
        else getattr(record, name) == wanted
        for name, wanted in filters.items()
    )
