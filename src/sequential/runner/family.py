"""What the end of a run means for the runs around it: its parent, and its children."""

import asyncio
import contextlib
from collections.abc import Callable, Collection

from sequential.core import times
from sequential.core.model import Status, TaskRun
from sequential.core.transitions import Event, Happening
from sequential.errors import SequentialError
from sequential.runner.clock import Clock
from sequential.storage.base import StorageAdapter


class Family:
    """Tells parents, and ends children that nobody waits for any more."""

    def __init__(
        self, storage: StorageAdapter, clock: Clock, told_here: Callable[[TaskRun], bool]
    ) -> None:
        """`told_here` tells the parent of a run without the store, if it can; False: it cannot."""
        self._storage = storage
        self._clock = clock
        self._told_here = told_here
        self._next: dict[str, asyncio.Task[None]] = {}  # parent -> the telling that comes next
        self._underway: dict[str, asyncio.Task[None]] = {}

    async def is_orphan(self, run: TaskRun) -> bool:
        """Whether the run that waits for this one has ended without it."""
        if run.parent_run_id is None:
            return False
        parent = await self._storage.get_task_run(run.parent_run_id)
        return parent is None or parent.status.is_final

    async def has_ended(self, run: TaskRun, *, has_children: bool) -> None:
        """When a run has ended, its parent is due, and children it left behind are cancelled."""
        if not run.status.is_final:
            return
        if has_children:
            await self.cancel_children(run.id)
        await self.tell_parent(run)

    async def tell_parent(self, run: TaskRun) -> None:
        """Have the run that waits for this one look at its children.

        Those that end while it is being told are told of together: a thousand children that end
        at the same time are not a thousand changes of their parent, one in the way of the other.
        """
        if (parent := run.parent_run_id) is None or self._told_here(run):
            return
        telling = self._next.get(parent)
        if telling is None:
            telling = self._next[parent] = asyncio.create_task(self._tell(parent))
        await asyncio.shield(telling)

    async def _tell(self, parent: str) -> None:
        if before := self._underway.get(parent):
            await asyncio.wait([before])
        self._underway[parent] = telling = self._next.pop(parent)
        try:
            with contextlib.suppress(SequentialError):  # it looks by itself after a while
                await self._storage.answer(parent, None, times.to_text(self._clock.now()))
        finally:
            if self._underway[parent] is telling:
                del self._underway[parent]

    async def cancel_children(self, run_id: str) -> None:
        """Cancel the unfinished child runs of a run, and theirs; what fails here, workers do later.

        A child whose parent has ended is cancelled by whoever claims it next.
        """
        with contextlib.suppress(SequentialError):
            unfinished = [status for status in Status if not status.is_final]
            children = await self._storage.query_task_runs(parent_run_id=run_id, status=unfinished)
            for child in children:
                with contextlib.suppress(SequentialError):
                    await self._cancel(child.id)
                await self.cancel_children(child.id)

    async def cancel_runs(self, run_ids: Collection[str]) -> None:
        """Cancel these runs and their child runs, as far as they go on."""
        for run_id in run_ids:
            with contextlib.suppress(SequentialError):
                await self._cancel(run_id)
            await self.cancel_children(run_id)

    async def _cancel(self, run_id: str) -> None:
        happening = Happening(Event.CANCEL)
        await self._storage.change(run_id, happening, times.to_text(self._clock.now()))
