"""A storage adapter of one's own: everything in one JSON file, for one process and a few runs.

It has the simple methods; `StorageAdapter` builds the atomic ones from them, under a lock. What
belongs to one step goes into the file together, so a crash leaves all of a step or nothing. The
file is written anew for each: choose something better where there is much to keep.
"""

import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sequential import StackRun, StorageAdapter, TaskFunction, TaskRun
from sequential.core.model import Amendment, Commit, LogLine, Snapshot, evolve
from sequential.core.names import check_task_name
from sequential.errors import RunBusyError, RunExistsError, StorageError, TaskNotFoundError
from sequential.storage.base import matches

T = TypeVar("T")


class Content(msgspec.Struct):
    """What is in the file."""

    runs: dict[str, TaskRun] = {}
    calls: dict[str, StackRun] = {}
    tasks: dict[str, TaskFunction] = {}
    keys: dict[str, str] = {}
    snapshots: dict[str, Snapshot] = {}
    logs: dict[str, list[LogLine]] = {}


class JsonFileAdapter(StorageAdapter):
    """Tasks and runs in the JSON file `path`, made when something is written."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        self._is_in_step = False
        self._content = Content()

    async def init(self) -> None:
        if self._path.exists():
            self._content = msgspec.json.decode(self._path.read_bytes(), type=Content)

    # --- the file --------------------------------------------------------------------------------

    def _keep(self, table: dict[str, T], key: str, record: T) -> T:
        table[key] = record
        self._save()
        return record

    def _remove(self, table: dict[str, T], key: str) -> bool:
        was_there = table.pop(key, None) is not None
        self._save()
        return was_there

    def _save(self) -> None:
        if self._is_in_step:
            return
        new = self._path.with_name(self._path.name + ".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(self._content))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    async def _in_one_step(self, work: Awaitable[T]) -> T:
        """Keep all that `work` writes, or nothing. It never waits, so nobody comes between."""
        self._is_in_step = True
        try:
            result = await work
        except BaseException:
            self._content = Content()
            await self.init()
            raise
        finally:
            self._is_in_step = False
        self._save()
        return result

    async def commit(self, commit: Commit) -> None:
        await self._in_one_step(super().commit(commit))

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        return await self._in_one_step(super().amend(old, amendment))

    # --- runs ------------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        if run.id in self._content.runs:
            raise RunExistsError(f"run {run.id} exists already")
        self._keep(self._content.runs, run.id, run)
        self._announce(run.id)
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return self._content.runs.get(run_id)

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        return self._keep(self._content.runs, run_id, evolve(await self._get(run_id), **changes))

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        runs = sorted(self._content.runs.values(), key=lambda run: run.id, reverse=True)
        found = [r for r in runs if matches(r, filters) and (before is None or r.id < before)]
        return found[:limit]

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        runs = self._content.runs.values()
        found = [run.id for run in runs if task in (None, run.task_identifier)]
        return sorted(run_id for run_id in found if run_id.startswith(prefix))

    async def delete_task_run(self, run_id: str) -> None:
        if (await self._get(run_id)).lease_token:
            raise RunBusyError(f"run {run_id} is being driven: wait until it is done")
        self._content.snapshots.pop(run_id, None)
        self._content.logs.pop(run_id, None)
        for call in await self.query_stack_runs(task_run_id=run_id):
            del self._content.calls[call.id]
        self._remove(self._content.runs, run_id)

    # --- calls -----------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        await self._get(call.task_run_id)  # or there is no such run
        return self._keep(self._content.calls, call.id, call)

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return self._content.calls.get(call_id)

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        if call_id not in self._content.calls:
            raise StorageError(f"there is no call {call_id}")
        call = evolve(self._content.calls[call_id], **changes)
        return self._keep(self._content.calls, call_id, call)

    async def delete_stack_run(self, call_id: str) -> None:
        self._remove(self._content.calls, call_id)

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        calls = [call for call in self._content.calls.values() if matches(call, filters)]
        return sorted(calls, key=lambda call: (call.task_run_id, call.sequence))

    # --- tasks -----------------------------------------------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        if old := await self.get_task_function(function.identifier):
            if (old.code, old.config) == (function.code, function.config):
                return old
            function = evolve(function, version=old.version + 1, created_at=old.created_at)
        return self._keep(self._content.tasks, function.identifier, function)

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        return self._content.tasks.get(check_task_name(identifier))

    async def list_task_functions(self) -> list[TaskFunction]:
        return [self._content.tasks[name] for name in sorted(self._content.tasks)]

    async def delete_task(self, identifier: str) -> int:
        if identifier not in self._content.tasks:
            raise TaskNotFoundError(f"there is no task {identifier}")
        runs = await self.query_task_runs(task_identifier=identifier)
        if any(run.lease_token for run in runs):
            raise RunBusyError(f"a run of {identifier} is being driven: wait until it is done")
        for run in runs:
            await self.delete_task_run(run.id)
        self._remove(self._content.tasks, identifier)
        return len(runs)

    # --- keys, snapshots, logs -------------------------------------------------------------------

    async def set_keystore(self, key: str, value: str) -> None:
        self._keep(self._content.keys, key, value)

    async def get_keystore(self, key: str) -> str | None:
        return self._content.keys.get(key)

    async def delete_keystore(self, key: str) -> bool:
        return self._remove(self._content.keys, key)

    async def list_keystore(self) -> list[str]:
        return sorted(self._content.keys)

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        self._keep(self._content.snapshots, snapshot.task_run_id, snapshot)

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        return self._content.snapshots.get(run_id)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        self._keep(self._content.logs, run_id, [*await self.get_log(run_id), line])

    async def get_log(self, run_id: str) -> list[LogLine]:
        return self._content.logs.get(run_id, [])
