"""Reading the folder store: it locks nothing and changes nothing.

All work on files happens in threads, so the event loop never waits for a disk.
"""

import asyncio
import errno
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sequential.core.model import (
    CallStatus,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskFunction,
    TaskRun,
)
from sequential.errors import ConfigError, DamagedRunError, InvalidTaskError, StorageError
from sequential.storage import (
    files,
    folder_inbox,
    folder_journal,
    folder_snapshot,
    folder_tasks,
    folder_view,
)
from sequential.storage.base import CLAIMABLE, StorageAdapter, matches
from sequential.storage.files import Folder
from sequential.storage.folder_index import Index, Known
from sequential.storage.folder_journal import State
from sequential.storage.folder_lease import Lease, is_locked
from sequential.storage.folder_payloads import resolve
from sequential.storage.folder_places import Places, RunFiles

T = TypeVar("T")
_THREADS = 16
_ALL = -1  # calls delivered after this turn: all
_INDEXED = {"status", "parent_run_id"}


class FolderReader(StorageAdapter):
    """The half of the adapter that only reads; `folder.FolderAdapter` has the other."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.folder = Folder(path)
        self.places = Places(self.folder)
        self._held: dict[str, Lease] = {}
        self._index = Index(self._load_to_index)
        self._pool: ThreadPoolExecutor | None = None

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Work on files in a thread; a failed system call becomes an error that names the file."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "sequential-folder")
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, work, *arguments)
        except OSError as error:
            path = error.filename if isinstance(error.filename, str) else self.folder.path
            raise files.explain(error, self.folder.shown(path)) from error

    # --- task runs -------------------------------------------------------------------------------

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        if (lease := self._held.get(run_id)) and not lease.failure:
            return lease.run
        return await self._do(self._get_run, run_id)

    def _get_run(self, run_id: str) -> TaskRun | None:
        place = self.places.find(run_id)
        state = place and self._load(place)
        return resolve(place, state.run) if place and state else None

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        return await self._do(self._query_runs, limit, before, filters)

    def _query_runs(
        self, limit: int | None, before: str | None, filters: dict[str, Any]
    ) -> list[TaskRun]:
        found: list[TaskRun] = []
        if limit is not None and limit <= 0:
            return found
        places = self.places.runs(filters.get("task_identifier"))
        wanted = (place for place in places if before is None or place.run_id < before)
        for place in sorted(wanted, key=lambda place: place.run_id, reverse=True):
            run = self._find(place, filters)
            if run and matches(run, filters):
                found.append(run)
                if len(found) == limit:
                    break
        return found

    def _find(self, place: RunFiles, filters: dict[str, Any]) -> TaskRun | None:
        """A run, unless it is known to be another than the one that is looked for."""
        if _INDEXED.isdisjoint(filters):
            state, _ = self._try_to_load(place)
            return state.run if state else None
        known, journal = self._index.peek(place)
        if journal is None or (known and known.differs(filters)):
            return None
        state, _ = self._try_to_load(place)
        if state and not known:
            self._index.learn(place, state.run, journal)
        return state.run if state else None

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        places = await self._do(lambda: list(self.places.runs(task)))
        return sorted(place.run_id for place in places if place.run_id.startswith(prefix))

    async def damaged(self) -> list[str]:
        return await self._do(self._damaged)

    def _damaged(self) -> list[str]:
        reports: list[str] = []
        for place in self.places.runs():
            _, trouble = self._try_to_load(place)
            reports += [trouble] if trouble else []
        for place in self.places.tasks_with_runs():
            reports += folder_inbox.troubles(self.folder, place.runs)
        for name in self.places.tasks():
            try:
                folder_tasks.read(self.folder, name)
            except (ConfigError, InvalidTaskError) as error:
                reports.append(str(error))
        return reports

    # --- stack runs ------------------------------------------------------------------------------

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return await self._do(self._get_call, call_id)

    def _get_call(self, call_id: str) -> StackRun | None:
        run_id, number = split(call_id)
        place = self.places.find(run_id)
        state = place and self._load(place)
        if place is None or state is None:
            return None
        call = state.calls.get(number) or folder_journal.scan(place, _ALL).calls.get(number)
        return resolve(place, call) if call else None

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        return await self._do(self._query_calls, filters)

    def _query_calls(self, filters: dict[str, Any], after: int | None = _ALL) -> list[StackRun]:
        found: list[StackRun] = []
        for place in self._wanted(filters.get("task_run_id")):
            try:
                calls = self._calls(place, after)
            except DamagedRunError:
                if "task_run_id" in filters:
                    raise
                continue  # `damaged` tells
            found += [call for call in calls if matches(call, filters)]
        return sorted(found, key=lambda call: (call.task_run_id, call.sequence))

    def _wanted(self, run_ids: Any) -> list[RunFiles]:
        if run_ids is None:
            return list(self.places.runs())
        wanted = [run_ids] if isinstance(run_ids, str) else run_ids
        return [place for run_id in wanted if (place := self.places.find(run_id))]

    async def get_pending_stack_runs(self) -> list[StackRun]:
        # A call that is pending has not been delivered, so the views name it.
        calls = await self._do(self._query_calls, {"status": CallStatus.PENDING}, None)
        return sorted(calls, key=lambda call: (call.created_at, call.sequence))

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        return await self._do(self._load_calls, run_id, after)

    def _load_calls(self, run_id: str, after: int) -> list[StackRun]:
        place = self.places.find(run_id)
        return self._calls(place, after) if place else []

    def _calls(self, place: RunFiles, after: int | None) -> list[StackRun]:
        state = self._load(place, after)
        calls = state.calls if state else {}
        return [resolve(place, calls[number]) for number in sorted(calls)]

    # --- tasks, snapshots, logs ------------------------------------------------------------------

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        return await self._do(folder_tasks.read, self.folder, identifier)

    async def list_task_functions(self) -> list[TaskFunction]:
        return await self._do(self._list_tasks)

    def _list_tasks(self) -> list[TaskFunction]:
        found: list[TaskFunction] = []
        for name in self.places.tasks():
            try:
                function = folder_tasks.read(self.folder, name)
            except (ConfigError, InvalidTaskError):
                continue  # `damaged` tells
            if function:
                found.append(function)
        return found

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        return await self._do(self._get_snapshot, run_id)

    def _get_snapshot(self, run_id: str) -> Snapshot | None:
        place = self.places.find(run_id)
        return folder_snapshot.read(place) if place else None

    async def get_log(self, run_id: str) -> list[LogLine]:
        def read() -> list[LogLine]:
            place = self.places.find(run_id)
            return folder_journal.read_log(place) if place else []

        return await self._do(read)

    # --- looking for work ------------------------------------------------------------------------

    async def wakeups(
        self,
        now: str,
        limit: int = 100,
        tasks: Sequence[str] | None = None,
        without: Collection[str] = (),
    ) -> list[str]:
        return await self._do(self._wakeups, now, limit, tasks, without)

    def _wakeups(
        self, now: str, limit: int, tasks: Sequence[str] | None, without: Collection[str]
    ) -> list[str]:
        due: list[tuple[int, str, RunFiles]] = []
        for task in self.places.tasks_with_runs(tasks):
            if task.task in without:
                continue
            asked = folder_inbox.calling(task.runs)
            for run_id, known in self._index.scan(task, self._driven()):
                if known.may_be_due(now) or run_id in asked:
                    place = task._replace(run_id=run_id)
                    if _is_due(known, place, now, is_asked=run_id in asked):
                        due.append((-known.priority, known.since, place))
        due.sort(key=lambda one: one[:2])
        return self._readable([place for _, _, place in due], limit)

    def _readable(self, places: list[RunFiles], limit: int) -> list[str]:
        """The first runs but those that cannot be read, which nobody could drive."""
        found: list[str] = []
        for place in places:
            if len(found) >= limit:
                break
            if self._try_to_load(place)[0]:
                found.append(place.run_id)
        return found

    async def next_wakeup(self, now: str, tasks: Sequence[str] | None = None) -> str | None:
        return await self._do(self._next_wakeup, now, tasks)

    def _next_wakeup(self, now: str, tasks: Sequence[str] | None) -> str | None:
        moments: list[str] = []
        driven = self._driven()
        for task in self.places.tasks_with_runs(tasks):
            moments += [
                known.since
                for _, known in self._index.scan(task, driven)
                if known.is_timed and known.since > now and known.status in CLAIMABLE
            ]
            leases = [lease for lease in driven.values() if lease.files.task == task.task]
            moments += [at for lease in leases if (at := lease.run.wake_at) and at > now]
        return min(moments, default=None)

    def _driven(self) -> dict[str, Lease]:
        return {run_id: held for run_id, held in self._held.copy().items() if not held.failure}

    # --- inside ----------------------------------------------------------------------------------

    def _is_locked(self, run_id: str) -> bool:
        place = self.places.find(run_id)
        return place is not None and is_locked(place)

    def _load_to_index(self, place: RunFiles) -> TaskRun | None:
        state, _ = self._try_to_load(place)
        return state.run if state else None

    def _try_to_load(self, place: RunFiles) -> tuple[State | None, str]:
        """A run for a list: one that cannot be read must not hide the others."""
        try:
            return self._load(place), ""
        except StorageError as error:
            return None, str(error)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            path = error.filename if isinstance(error.filename, str) else place.journal
            return None, str(files.explain(error, self.folder.shown(path)))

    def _load(self, place: RunFiles, after: int | None = None) -> State | None:
        try:
            return folder_view.load(place, after)
        except FileNotFoundError:
            return None  # deleted since it was found


def _is_due(known: Known, place: RunFiles, now: str, *, is_asked: bool) -> bool:
    if known.status is Status.RUNNING:
        return not is_locked(place)
    return known.may_be_due(now) or (is_asked and known.status is Status.SUSPENDED)


def split(call_id: str) -> tuple[str, int]:
    """The run's id and the number of a call's id."""
    run_id, _, number = call_id.rpartition(":")
    return run_id, int(number) if re.fullmatch("0|[1-9][0-9]{0,17}", number) else -1
