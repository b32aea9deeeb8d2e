"""Writing to the folder store: the simple methods, and telling those who watch.

A run is only ever changed by who has locked it: for long, who drives it, or just for one change.
"""

import asyncio
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sequential.core.model import (
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.core.names import check_run_id, check_task_name
from sequential.errors import RunExistsError, StorageError
from sequential.storage import (
    files,
    folder_documents,
    folder_journal,
    folder_keys,
    folder_lease,
    folder_tasks,
    folder_view,
)
from sequential.storage.documents import Page, Stored
from sequential.storage.folder_changes import Changes, Polling
from sequential.storage.folder_index import Index
from sequential.storage.folder_journal import Line
from sequential.storage.folder_lease import PATIENCE, Lease
from sequential.storage.folder_payloads import pack, resolve
from sequential.storage.folder_places import RunFiles
from sequential.storage.folder_reading import FolderReader, split
from sequential.storage.folder_snapshot import Position

T = TypeVar("T")
_TOLD = 0.02  # seconds between two looks for what other processes told, while somebody watches


class FolderWriter(FolderReader):
    """What changes one thing; `folder.FolderAdapter` has the atomic methods."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._changes = Changes(self.folder)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._make_locks()

    def _make_locks(self) -> None:
        # Threads that work on one run take turns; runs that share a lock only do so by chance.
        self._locks = [threading.Lock() for _ in range(256)]
        self._index = Index(self._load_to_index)
        self._telling = Polling(_TOLD, self._hear_others, self._is_watched)

    async def close(self) -> None:
        self._watchers.clear()
        await asyncio.to_thread(self._telling.stop)
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        while self._held:
            self._held.popitem()[1].close()

    # --- task runs -------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        await self._do(self._create, run)
        self._announce(run.id)
        return run

    def _create(self, run: TaskRun) -> None:
        place = RunFiles(self.folder, check_task_name(run.task_identifier), check_run_id(run.id))
        if self.places.find(run.id):
            raise RunExistsError(f"run {run.id} exists already")
        self.folder.make(place.runs)
        stored = evolve(
            run,
            input=pack(place, "run-input", run.input),
            result=pack(place, "run-result", run.result),
        )
        line = Line(run.created_at, run.turn, format=folder_journal.FORMAT, created=stored)
        text = folder_journal.encode_line(line)
        suffix = f".{secrets.token_hex(4)}.tmp"
        try:
            files.create(place.journal, text, suffix)
        except FileExistsError:
            raise RunExistsError(f"run {run.id} exists already") from None
        try:
            folder_view.write_first(place, stored, Position(len(text), run.turn), suffix)
        except OSError:
            pass  # the run is created: its journal is there

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        def update(lease: Lease) -> TaskRun:
            run = evolve(lease.run, **changes)
            lease.write(at=run.updated_at, run=run)
            return run

        return await self._do(self._write, run_id, update)

    async def delete_task_run(self, run_id: str) -> None:
        await self._do(self._delete_run, run_id)

    def _delete_run(self, run_id: str) -> None:
        with self._lock_of(run_id):
            folder_lease.delete(self.places.existing(run_id))

    # --- stack runs ------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.id != f"{call.task_run_id}:{call.sequence}":
            raise StorageError(f"a call's id is <run id>:<sequence>, this one is {call.id[:80]!r}")
        write = _writing(at=call.created_at, calls=(call,))
        await self._do(self._write, call.task_run_id, write)
        return call

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        def update(lease: Lease) -> StackRun:
            stored = lease.call(split(call_id)[1])
            call = resolve(lease.files, stored) if stored else self._get_call(call_id)
            if call is None:
                raise StorageError(f"there is no call {call_id}")
            call = evolve(call, **changes)
            lease.write(at=call.updated_at, calls=(call,))
            return call

        return await self._do(self._write, split(call_id)[0], update)

    async def delete_stack_run(self, call_id: str) -> None:
        await self._do(self._delete_call, call_id)

    def _delete_call(self, call_id: str) -> None:
        run_id, number = split(call_id)
        if self._get_call(call_id):
            self._write(run_id, lambda run: run.write(at=run.run.updated_at, dropped=(number,)))

    # --- tasks, keystore, documents, snapshots, logs ---------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        return await self._do(folder_tasks.store, self.folder, function)

    async def delete_task(self, identifier: str) -> int:
        return await self._do(folder_tasks.delete, self.places, check_task_name(identifier))

    async def set_keystore(self, key: str, value: str) -> None:
        await self._do(folder_keys.store, self.folder, key, value)

    async def get_keystore(self, key: str) -> str | None:
        return await self._do(folder_keys.read, self.folder, key)

    async def delete_keystore(self, key: str) -> bool:
        return await self._do(folder_keys.delete, self.folder, key)

    async def list_keystore(self) -> list[str]:
        return await self._do(folder_keys.keys, self.folder)

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        arguments = (collection, key, text, if_version)
        return await self._do(folder_documents.put, self.folder, *arguments)

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        return await self._do(folder_documents.get, self.folder, collection, key)

    async def _delete_document(self, collection: str, key: str) -> bool:
        return await self._do(folder_documents.delete, self.folder, collection, key)

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        return await self._do(folder_documents.page_of, self.folder, collection, page)

    async def _prune_documents(self, collection: str, before: str) -> int:
        return await self._do(folder_documents.prune, self.folder, collection, before)

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        def store(lease: Lease) -> None:
            lease.write_snapshot(snapshot)
            lease.write_view()

        await self._do(self._write, snapshot.task_run_id, store)

    async def append_log(self, run_id: str, line: LogLine) -> None:
        await self._do(self._write, run_id, _writing(at=line.at, log=line.text))

    # --- being told ------------------------------------------------------------------------------

    async def watch(self, changed: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        await self._do(self._changes.listen)
        await super().watch(changed)
        self._telling.start()

    def _announce(self, run_id: str) -> None:
        super()._announce(run_id)
        if self._pool is not None:
            self._pool.submit(self._changes.tell, run_id)

    def _announce_later(self, run_id: str) -> None:
        self._tell_watchers(run_id)
        self._changes.tell(run_id)

    def _tell_watchers(self, run_id: str) -> None:
        """Call those who watch, from any thread."""
        if self._loop is not None and self._watchers:
            try:
                self._loop.call_soon_threadsafe(super()._announce, run_id)
            except RuntimeError:
                pass  # the loop has ended, and with it those who watched

    def _hear_others(self) -> None:
        for run_id in self._changes.hear():
            self._tell_watchers(run_id)

    def _is_watched(self) -> bool:
        return bool(self._watchers)

    # --- inside ----------------------------------------------------------------------------------

    def _write(
        self,
        run_id: str,
        change: Callable[[Lease], T],
        patience: tuple[float, ...] = PATIENCE,
    ) -> T:
        """Change a run through the lease held for it, or lock it just for this."""
        with self._lock_of(run_id):
            lease = self._held.get(run_id)
            if lease and not lease.failure:
                try:
                    return change(lease)
                finally:
                    self._settle(lease)
            lease = Lease(self.places.existing(run_id), patience)
            try:
                result = change(lease)
                lease.write_view()
                return result
            finally:
                lease.close()

    def _settle(self, lease: Lease) -> None:
        """Give the lease back once the run is not being driven any more."""
        if lease.failure:
            return
        if lease.run.status is not Status.RUNNING or lease.run.lease_token is None:
            lease.write_view()
            self._held.pop(lease.run.id, None)
            lease.close()

    def _lock_of(self, run_id: str) -> threading.Lock:
        return self._locks[hash(run_id) % len(self._locks)]


def _writing(**what: Any) -> Callable[[Lease], None]:
    return lambda lease: lease.write(**what)
