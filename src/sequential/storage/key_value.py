"""A base for adapters on stores that know keys and bytes only: three methods are all they need.

Everything else is made of these: records as JSON under readable keys, and each step as one batch.
It serves one process, and searches by going through what there is: meant for thousands of runs. An
adapter that outgrows that overrides the method that is slow.
"""

import abc
import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec

from sequential.core.model import (
    Amendment,
    Commit,
    LogLine,
    Snapshot,
    StackRun,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.core.names import check_task_name
from sequential.errors import (
    DamagedRunError,
    RunBusyError,
    RunExistsError,
    StorageError,
    TaskNotFoundError,
)
from sequential.storage.base import StorageAdapter, matches
from sequential.storage.documents import Page, Stored, next_version

T = TypeVar("T")


class _Step:
    """What one operation has written so far, and whom it concerns."""

    def __init__(self) -> None:
        self.changes: dict[str, bytes | None] = {}
        self.told: list[str] = []


class KeyValueAdapter(StorageAdapter):
    """A store in which `read`, `scan` and `write` are all that a subclass has to write."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()
        self._current: ContextVar[_Step | None] = ContextVar("step", default=None)

    @abc.abstractmethod
    async def read(self, key: str) -> bytes | None:
        """The bytes under a key; None if there is no such key."""

    @abc.abstractmethod
    async def scan(self, prefix: str) -> Mapping[str, bytes]:
        """All keys that begin like this, with their bytes, in any order."""

    @abc.abstractmethod
    async def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Put these keys, and remove those with None: all or nothing, safe when it returns."""

    # --- one batch for each operation ------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _step(self) -> AsyncIterator[_Step]:
        """What is written inside is written together at the end, or not at all."""
        if (current := self._current.get()) is not None:
            yield current
            return
        async with self._turn:
            step = _Step()
            entered = self._current.set(step)
            try:
                yield step
            finally:
                self._current.reset(entered)
            if step.changes:
                await self.write(step.changes)
        for run_id in step.told:
            super()._announce(run_id)

    def _announce(self, run_id: str) -> None:
        if (step := self._current.get()) is None:
            super()._announce(run_id)
        else:
            step.told.append(run_id)  # nobody shall look before it is written

    async def _put_record(self, key: str, record: T) -> T:
        async with self._step() as step:
            step.changes[key] = msgspec.json.encode(record)
        return record

    async def _remove_key(self, key: str) -> bool:
        async with self._step() as step:
            was_there = await self._read_key(key) is not None
            if was_there:
                step.changes[key] = None
        return was_there

    async def _read_key(self, key: str) -> bytes | None:
        step = self._current.get()
        if step is not None and key in step.changes:
            return step.changes[key]
        return await self.read(key)

    async def _record(self, key: str, kind: type[T]) -> T | None:
        data = await self._read_key(key)
        return None if data is None else _decoded(key, data, kind)

    async def _records(self, prefix: str, kind: type[T]) -> list[T]:
        """The records under all keys that begin like this, in the order of their keys."""
        found: dict[str, bytes | None] = {**await self.scan(prefix)}
        if step := self._current.get():
            found |= {key: data for key, data in step.changes.items() if key.startswith(prefix)}
        return [_decoded(key, data, kind) for key, data in sorted(found.items()) if data]

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        async with self._step():
            return await super().claim(run_id, token, now, until)

    async def renew(self, run_id: str, token: str, until: str) -> int:
        async with self._step():
            return await super().renew(run_id, token, until)

    async def release(self, run_id: str, token: str) -> None:
        async with self._step():
            await super().release(run_id, token)

    async def commit(self, commit: Commit) -> None:
        async with self._step():
            await super().commit(commit)

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        async with self._step():
            return await super().amend(old, amendment)

    # --- runs ------------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        async with self._step():
            if await self._read_key(f"run:{run.id}") is not None:
                raise RunExistsError(f"run {run.id} exists already")
            self._announce(run.id)
            return await self._put_record(f"run:{run.id}", run)

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        return await self._record(f"run:{run_id}", TaskRun)

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        async with self._step():
            run = evolve(await self._get(run_id), **changes)
            return await self._put_record(f"run:{run_id}", run)

    async def query_task_runs(
        self, *, limit: int | None = None, before: str | None = None, **filters: Any
    ) -> list[TaskRun]:
        runs = (await self._records("run:", TaskRun))[::-1]
        found = [r for r in runs if matches(r, filters) and (before is None or r.id < before)]
        return found[:limit]

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        runs = await self._records(f"run:{prefix}", TaskRun)
        return [run.id for run in runs if task in (None, run.task_identifier)]

    async def delete_task_run(self, run_id: str) -> None:
        async with self._step() as step:
            if (await self._get(run_id)).lease_token:
                raise RunBusyError(f"run {run_id} is being driven: wait until it is done")
            keys = [f"run:{run_id}", f"snapshot:{run_id}"]
            for prefix in ("call", "log"):
                keys += await self.scan(f"{prefix}:{run_id}:")
            step.changes |= dict.fromkeys(keys)

    # --- calls -----------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        async with self._step():
            await self._get(call.task_run_id)  # or there is no such run
            return await self._put_record(_call_key(call.id), call)

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return await self._record(_call_key(call_id), StackRun)

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        async with self._step():
            call = await self.get_stack_run(call_id)
            if call is None:
                raise StorageError(f"there is no call {call_id}")
            return await self._put_record(_call_key(call_id), evolve(call, **changes))

    async def delete_stack_run(self, call_id: str) -> None:
        await self._remove_key(_call_key(call_id))

    async def query_stack_runs(self, **filters: Any) -> list[StackRun]:
        run_id = filters.get("task_run_id")
        prefix = f"call:{run_id}:" if isinstance(run_id, str) else "call:"
        calls = [c for c in await self._records(prefix, StackRun) if matches(c, filters)]
        return sorted(calls, key=lambda call: (call.task_run_id, call.sequence))

    # --- tasks -----------------------------------------------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        async with self._step():
            if old := await self.get_task_function(function.identifier):
                same = (old.code, old.config, old.filename)
                if same == (function.code, function.config, function.filename):
                    return old
                function = evolve(function, version=old.version + 1, created_at=old.created_at)
            return await self._put_record(f"task:{function.identifier}", function)

    async def get_task_function(self, identifier: str) -> TaskFunction | None:
        return await self._record(f"task:{check_task_name(identifier)}", TaskFunction)

    async def list_task_functions(self) -> list[TaskFunction]:
        return await self._records("task:", TaskFunction)

    async def delete_task(self, identifier: str) -> int:
        async with self._step():
            if await self._read_key(f"task:{identifier}") is None:
                raise TaskNotFoundError(f"there is no task {identifier}")
            runs = await self.query_task_runs(task_identifier=identifier)
            if any(run.lease_token for run in runs):
                raise RunBusyError(f"a run of {identifier} is being driven: wait until it is done")
            for run in runs:
                await self.delete_task_run(run.id)
            await self._remove_key(f"task:{identifier}")
            return len(runs)

    # --- keys, documents, snapshots, logs --------------------------------------------------------

    async def set_keystore(self, key: str, value: str) -> None:
        await self._put_record(f"key:{key}", [key, value])

    async def get_keystore(self, key: str) -> str | None:
        found = await self._record(f"key:{key}", tuple[str, str])
        return None if found is None else found[1]

    async def delete_keystore(self, key: str) -> bool:
        return await self._remove_key(f"key:{key}")

    async def list_keystore(self) -> list[str]:
        return sorted(key for key, _ in await self._records("key:", tuple[str, str]))

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        async with self._step():
            found = await self._get_document(collection, key)
            version = next_version(collection, key, found.version if found else 0, if_version)
            await self._put_record(_document_key(collection, key), Stored(key, text, version))
            return version

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        return await self._record(_document_key(collection, key), Stored)

    async def _delete_document(self, collection: str, key: str) -> bool:
        return await self._remove_key(_document_key(collection, key))

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        found = await self._records(_document_key(collection, ""), Stored)
        documents = {one.key: one for one in found}
        return [documents[key] for key in page.of(documents)]

    async def _prune_documents(self, collection: str, before: str) -> int:
        async with self._step() as step:
            found = await self._records(_document_key(collection, ""), Stored)
            old = [_document_key(collection, one.key) for one in found if one.key < before]
            step.changes |= dict.fromkeys(old)
            return len(old)

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        async with self._step():
            await self._get(snapshot.task_run_id)
            await self._put_record(f"snapshot:{snapshot.task_run_id}", snapshot)

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        return await self._record(f"snapshot:{run_id}", Snapshot)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        async with self._step():
            await self._get(run_id)
            number = len(await self.get_log(run_id))
            await self._put_record(f"log:{run_id}:{number:09}", line)

    async def get_log(self, run_id: str) -> list[LogLine]:
        return await self._records(f"log:{run_id}:", LogLine)


def _document_key(collection: str, key: str) -> str:
    return f"document:{collection}:{key}"


def _call_key(call_id: str) -> str:
    """Calls of a run are found by its id, and sort by their number."""
    run_id, _, number = call_id.rpartition(":")
    return f"call:{run_id}:{number.zfill(9)}"


def _decoded(key: str, data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise DamagedRunError(f"what is stored as {key[:80]} is damaged: {error}") from error
