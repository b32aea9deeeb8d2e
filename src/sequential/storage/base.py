"""What a storage adapter is.

An adapter starts with the simple methods, those of the original: create, get, update and query of
task runs and stack runs, task functions, logs and snapshots. The atomic ones, which the runner
needs, are built here from the simple ones under a lock, which is enough for one process. An adapter
that several processes share overrides them (`claim`, `renew`, `release`, `commit`, `is_leased`)
with operations that its store performs as one.
"""

import abc
import asyncio
from collections.abc import Sequence
from typing import Any

from sequential.core.model import Commit, LogLine, Snapshot, StackRun, Status, TaskFunction, TaskRun
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import LeaseLostError, RunBusyError, RunNotFoundError

CLAIMABLE = (Status.PENDING, Status.RUNNING, Status.SUSPENDED)


class StorageAdapter(abc.ABC):
    """A store. Records go in and out whole; a filter is equality on fields, a list means IN."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

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
    async def query_task_runs(self, *, limit: int | None = None, **filters: Any) -> list[TaskRun]:
        """Runs, newest first. Large inputs and results may be left out (`$payload`)."""

    @abc.abstractmethod
    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        """Ids of the runs that begin with `prefix`, sorted."""

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

        Raises `RunNotFoundError`, `RunBusyError` when another lease lasts, and
        `InvalidTransitionError` when the run's status forbids it.
        """
        async with self._lock:
            run = await self._get(run_id)
            if run.lease_token and await self.is_leased(run, now):
                raise RunBusyError
            happening = Happening(Event.CLAIM, token=token, until=until)
            run, _ = apply(run, happening, now)
            return await self._put(run)

    async def renew(self, run_id: str, token: str, until: str) -> None:
        """Prolong a lease; raises `LeaseLostError` when it is not ours any more."""
        async with self._lock:
            run = await self._get(run_id)
            if run.lease_token != token:
                raise LeaseLostError
            await self.update_task_run(run_id, lease_until=until)

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
            await self._put(commit.run)

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        """The calls needed to go on from turn `after`: not delivered then, or asked for since."""
        calls = await self.query_stack_runs(task_run_id=run_id)
        return [c for c in calls if c.delivered_turn is None or c.delivered_turn > after]

    async def is_leased(self, run: TaskRun, now: str) -> bool:
        """Whether a worker drives this run at the moment."""
        return run.lease_until is not None and run.lease_until > now

    async def wakeups(
        self, now: str, limit: int = 100, tasks: Sequence[str] | None = None
    ) -> list[str]:
        """Ids of runs that a worker should claim now, those that have waited longest first.

        `tasks` are the names of the tasks it takes care of; None means all.
        """
        filters: dict[str, Any] = {} if tasks is None else {"task_identifier": list(tasks)}
        runs = await self.query_task_runs(status=list(CLAIMABLE), **filters)
        due = [run for run in runs if await self._is_due(run, now)]
        due.sort(key=lambda run: run.wake_at or run.updated_at)
        return [run.id for run in due[:limit]]

    async def _is_due(self, run: TaskRun, now: str) -> bool:
        if run.status is Status.RUNNING:
            return not await self.is_leased(run, now)
        return run.status is Status.PENDING or (run.wake_at is not None and run.wake_at <= now)

    async def _get(self, run_id: str) -> TaskRun:
        run = await self.get_task_run(run_id)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id}")
        return run

    async def _put(self, run: TaskRun) -> TaskRun:
        return await self.update_task_run(run.id, **fields(run))


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
