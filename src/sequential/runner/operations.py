"""What an operator, or an answer from outside, does to a run that exists.

Each is one atomic change in the store, whoever drives the run at the moment: the one who drives it
finds out at its next commit at the latest.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Collection
from typing import Any

from sequential.core import ids, times, values
from sequential.core.model import Amendment, RunEvent, Status, TaskRun, evolve
from sequential.core.names import check_event_name
from sequential.core.rewind import position, rewind
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    InvalidInputError,
    InvalidTransitionError,
    RunBusyError,
    RunChangedError,
    RunNotFoundError,
)
from sequential.runner.accepted_events import check_accepted, check_name
from sequential.runner.clock import Clock
from sequential.runner.open_calls import EVENT
from sequential.runner.task_executor import TaskExecutor
from sequential.storage.base import StorageAdapter

LARGEST_EVENT = 1 << 20  # bytes of JSON; larger things are put elsewhere and referred to
PAGE = 500  # runs looked at together
FINAL = tuple(status for status in Status if status.is_final)


class Operations:
    """Changes runs in a store."""

    def __init__(self, storage: StorageAdapter, executor: TaskExecutor, clock: Clock) -> None:
        self._storage = storage
        self._executor = executor
        self._clock = clock

    async def pause(self, run_id: str) -> TaskRun:
        return await self._storage.change(run_id, Happening(Event.PAUSE), self._now())

    async def unpause(self, run_id: str) -> TaskRun:
        return await self._storage.change(run_id, Happening(Event.UNPAUSE), self._now())

    async def cancel(self, run_id: str) -> TaskRun:
        run = await self._storage.change(run_id, Happening(Event.CANCEL), self._now())
        await self._executor.family.cancel_children(run_id)
        await self._executor.family.tell_parent(run)
        return run

    async def check(self, run: TaskRun, event: Event) -> None:
        """Raise `InvalidTransitionError` unless this can be done to a run."""
        apply(run, Happening(event), self._now())
        if event is Event.RETRY and run.parent_run_id and not await self._is_awaited(run):
            raise InvalidTransitionError(
                f"run {run.id} was started by run {run.parent_run_id}, which is over: retry that "
                f"one, or run the task {run.task_identifier} by itself"
            )

    async def retry(self, run_id: str) -> TaskRun:
        while True:
            run = await self._storage.get_task_run(run_id)
            if run is None:
                raise RunNotFoundError(f"there is no run {run_id}")
            await self.check(run, Event.RETRY)
            calls = await self._storage.load_calls(run_id, position(run))
            try:
                return await self._storage.amend(run, rewind(run, calls, self._now()))
            except RunChangedError:
                continue

    async def answer(
        self, run: TaskRun, name: str, data: Any, answer_id: str | None = None
    ) -> TaskRun:
        """Hand an event to a run; to one that follows a graph only what that accepts now."""
        check_event_name(name)
        tree = values.to_json(data, "the data")
        if (size := len(values.dumps(tree))) > LARGEST_EVENT:
            raise InvalidInputError(
                f"the data has {size >> 10} KiB, an event takes {LARGEST_EVENT >> 10} KiB: "
                "put it elsewhere and send its address"
            )
        now = self._clock.now()
        event_id = answer_id or ids.run_id(int(now.timestamp() * 1000), secrets.token_bytes(10))
        event = RunEvent(event_id, name, times.to_text(now), tree)
        if run.config.graph is not None:
            check_name(name)
        if run.config.graph is not None or answer_id is not None:
            return await self._answer_once(run.id, event, may_be_known=answer_id is not None)
        return await self._storage.answer(run.id, event, event.at)

    async def send(self, run: TaskRun, name: str, data: Any, event_id: str | None) -> TaskRun:
        if run.config.graph is None:
            raise InvalidInputError(
                f"run {run.id} of {run.task_identifier} follows no graph: what its task waits for "
                "is given with `answer`"
            )
        return await self.answer(run, name, data, event_id)

    async def _answer_once(self, run_id: str, event: RunEvent, *, may_be_known: bool) -> TaskRun:
        """Add an event unless the run has or had it: `OpenCalls` notes in a call what answered it.

        The amendment is refused when anything came in between, so that of two deliveries at the
        same moment the second one sees the first.
        """
        while True:
            run = await self._storage.get_task_run(run_id)
            if run is None:
                raise RunNotFoundError(f"there is no run {run_id}")
            if may_be_known and await self._has_had(run, event):
                return run
            changed, _ = apply(run, Happening(Event.ANSWER), event.at)
            if run.config.graph is not None:
                await check_accepted(self._storage, run, event.name)
            changed = evolve(changed, events=(*run.events, event), answers=run.answers + 1)
            try:
                return await self._storage.amend(run, Amendment(changed))
            except RunChangedError:
                continue
            except RunBusyError:  # a folder, and the run is driven by another process
                return await self._storage.answer(run_id, event, event.at)

    async def _has_had(self, run: TaskRun, event: RunEvent) -> bool:
        """Whether an event has come before: it waits in the run, or a call notes that it took it.

        The store is asked for that one call, since a run may have taken thousands.
        """
        if event.id in {known.id for known in run.events}:
            return True
        taken = {"operation": EVENT, "parent_stack_run_id": event.id}
        return bool(await self._storage.query_stack_runs(task_run_id=run.id, **taken))

    async def ended_before(
        self, moment: str, task: str | None, statuses: Collection[Status] = FINAL
    ) -> AsyncIterator[TaskRun]:
        """The runs that ended before a time, newest first, apart from those still needed."""
        filters: dict[str, Any] = {"status": list(statuses)}
        if task is not None:
            filters["task_identifier"] = task
        before: str | None = None
        while runs := await self._storage.query_task_runs(limit=PAGE, before=before, **filters):
            before = runs[-1].id
            for run in runs:
                if (run.ended_at or run.updated_at) < moment and not await self.is_needed(run):
                    yield run

    async def listed(
        self, limit: int | None, filters: dict[str, Any], before: str | None = None
    ) -> list[TaskRun]:
        """Runs, newest first, without those of handlers, which are parts of other runs."""
        found: list[TaskRun] = []
        size = limit
        while True:
            page = await self._storage.query_task_runs(limit=size, before=before, **filters)
            found += [run for run in page if run.config.handler is None]
            if limit is None or size is None or len(page) < size or len(found) >= limit:
                return found[:limit]
            size, before = PAGE, page[-1].id

    async def is_needed(self, run: TaskRun) -> bool:
        """Whether a parent goes on that would start a child anew if it did not find this one.

        The run of a handler is a part of its graph's run, and is kept as long as that.
        """
        parent = await self._parent(run)
        is_part = run.config.handler is not None
        return parent is not None and (is_part or not parent.status.is_final)

    async def _is_awaited(self, run: TaskRun) -> bool:
        """Whether a parent goes on that may ask for the result of this run."""
        parent = await self._parent(run)
        return parent is not None and not parent.status.is_final

    async def _parent(self, run: TaskRun) -> TaskRun | None:
        return await self._storage.get_task_run(run.parent_run_id) if run.parent_run_id else None

    async def delete(self, run_id: str) -> bool:
        """Remove a run that is over; False when it is not there, or was taken up again.

        With it go the runs of its handlers.
        """
        try:
            run = await self._storage.get_task_run(run_id)
            if run is None or not run.status.is_final:
                return False
            await self._storage.delete_task_run(run_id)
        except (RunNotFoundError, RunBusyError):
            return False
        if run.config.graph is not None:
            await self._delete_handlers(run_id)
        return True

    async def _delete_handlers(self, run_id: str) -> None:
        """Should this be interrupted, `prune` finds the rest."""
        for child in await self._storage.query_task_runs(parent_run_id=run_id):
            if child.config.handler is not None:
                with contextlib.suppress(RunNotFoundError, RunBusyError):
                    await self._storage.delete_task_run(child.id)

    def _now(self) -> str:
        return times.to_text(self._clock.now())
