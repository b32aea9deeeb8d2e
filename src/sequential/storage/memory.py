"""Storage in memory: the reference semantics, for tests and throw-away runs."""

from typing import Any

from sequential.core.model import LogLine, Snapshot, StackRun, TaskFunction, TaskRun, evolve
from sequential.core.names import check_task_name
from sequential.errors import (
    ConfigError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
    TaskNotFoundError,
)
from sequential.storage.base import StorageAdapter, matches
from sequential.storage.documents import Page, Stored, next_version


class MemoryAdapter(StorageAdapter):
    """Everything in dictionaries; gone with the process. Serves any number of engines in it."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, TaskRun] = {}
        self._calls: dict[str, dict[str, StackRun]] = {}
        self._open: dict[str, dict[str, None]] = {}  # run -> its calls that were not delivered
        self._turns: dict[str, int] = {}  # run -> the last turn in which a call was delivered
        self._functions: dict[str, TaskFunction] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._logs: dict[str, list[LogLine]] = {}
        self._keystore: dict[str, str] = {}
        self._documents: dict[str, dict[str, Stored]] = {}

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        if run.id in self._runs:
            raise RunExistsError(f"run {run.id} exists already")
        self._runs[run.id] = run
        self._calls[run.id], self._open[run.id], self._turns[run.id] = {}, {}, 0
        self._announce(run.id)
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return self._runs.get(run_id)

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        if run_id not in self._runs:
            raise RunNotFoundError(f"there is no run {run_id}")
        self._runs[run_id] = run = evolve(self._runs[run_id], **changes)
        return run

    async def delete_task_run(self, run_id: str) -> None:
        if run_id not in self._runs:
            raise RunNotFoundError(f"there is no run {run_id}")
        if self._runs[run_id].lease_token:
            raise RunBusyError(f"run {run_id} is being driven: wait until it is done")
        self._remove(run_id)

    def _remove(self, run_id: str) -> None:
        del self._runs[run_id], self._calls[run_id], self._open[run_id], self._turns[run_id]
        self._snapshots.pop(run_id, None)
        self._logs.pop(run_id, None)

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        found = [
            run
            for run in self._runs.values()
            if (before is None or run.id < before) and matches(run, filters)
        ]
        return sorted(found, key=lambda run: run.id, reverse=True)[:limit]

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        runs = self._runs.values()
        return sorted(
            run.id
            for run in runs
            if run.id.startswith(prefix) and task in (None, run.task_identifier)
        )

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.task_run_id not in self._runs:
            raise RunNotFoundError(f"there is no run {call.task_run_id}")
        self._keep(call)
        return call

    def _keep(self, call: StackRun) -> None:
        run_id = call.task_run_id
        self._calls[run_id][call.id] = call
        if call.delivered_turn is None:
            self._open[run_id][call.id] = None
        else:
            self._open[run_id].pop(call.id, None)
            self._turns[run_id] = max(self._turns[run_id], call.delivered_turn)

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return self._calls.get(call_id.partition(":")[0], {}).get(call_id)

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        call = await self.get_stack_run(call_id)
        if call is None:
            raise StorageError(f"there is no call {call_id}")
        self._keep(call := evolve(call, **changes))
        return call

    async def delete_stack_run(self, call_id: str) -> None:
        run_id = call_id.partition(":")[0]
        self._calls.get(run_id, {}).pop(call_id, None)
        self._open.get(run_id, {}).pop(call_id, None)

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        run_id = filters.get("task_run_id")
        groups = [self._calls.get(run_id, {})] if isinstance(run_id, str) else self._calls.values()
        found = [call for group in groups for call in group.values() if matches(call, filters)]
        return sorted(found, key=lambda call: (call.task_run_id, call.sequence))

    async def load_calls(self, run_id: str, after: int = 0) -> list[StackRun]:
        known = self._calls.get(run_id, {})
        if after >= self._turns.get(run_id, 0):  # as most often: only open calls are looked at
            found = [known[call_id] for call_id in self._open.get(run_id, ())]
        else:
            found = [
                call
                for call in known.values()
                if call.delivered_turn is None or call.delivered_turn > after
            ]
        return sorted(found, key=lambda call: call.sequence)

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        check_task_name(function.identifier)
        if old := self._functions.get(function.identifier):
            same = (old.code, old.config, old.filename)
            if same == (function.code, function.config, function.filename):
                return old
            function = evolve(function, version=old.version + 1, created_at=old.created_at)
        self._functions[function.identifier] = function
        return function

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        return self._functions.get(check_task_name(identifier))

    async def list_task_functions(self) -> list[TaskFunction]:
        return [self._functions[name] for name in sorted(self._functions)]

    async def delete_task(self, identifier: str) -> int:
        if identifier not in self._functions:
            raise TaskNotFoundError(f"there is no task {identifier}")
        runs = await self.query_task_runs(task_identifier=identifier)
        if any(run.lease_token for run in runs):
            raise RunBusyError(f"a run of {identifier} is being driven: wait until it is done")
        for run in runs:
            self._remove(run.id)
        del self._functions[identifier]
        return len(runs)

    async def set_keystore(self, key: str, value: str) -> None:
        self._keystore[key] = value

    async def get_keystore(self, key: str) -> str | None:
        return self._keystore.get(key)

    async def delete_keystore(self, key: str) -> bool:
        return self._keystore.pop(key, None) is not None

    async def list_keystore(self) -> list[str]:
        return sorted(self._keystore)

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        documents = self._documents.setdefault(collection, {})
        found = documents[key].version if key in documents else 0
        version = next_version(collection, key, found, if_version)
        documents[key] = Stored(key, text, version)
        return version

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        return self._documents.get(collection, {}).get(key)

    async def _delete_document(self, collection: str, key: str) -> bool:
        return self._documents.get(collection, {}).pop(key, None) is not None

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        documents = self._documents.get(collection, {})
        return [documents[key] for key in page.of(documents)]

    async def _prune_documents(self, collection: str, before: str) -> int:
        documents = self._documents.get(collection, {})
        old = [key for key in documents if key < before]
        for key in old:
            del documents[key]
        return len(old)

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.task_run_id] = snapshot

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        return self._snapshots.get(run_id)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        self._logs.setdefault(run_id, []).append(line)

    async def get_log(self, run_id: str) -> list[LogLine]:
        return list(self._logs.get(run_id, ()))


def create(location: str = "") -> MemoryAdapter:
    """The factory of `memory:`."""
    if location:
        raise ConfigError(f"memory: takes no location, this is {location!r}")
    return MemoryAdapter()
