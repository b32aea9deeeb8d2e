"""Storage in a folder: the default, with nothing to set up and every file readable.

    tasks/<name>/code.py, config.json, meta.json      the task
    tasks/<name>/runs/run-<id>.journal                the truth about a run, only appended to
    tasks/<name>/runs/run-<id>.json                   a view of it, for people and quick starts
    tasks/<name>/runs/run-<id>.snapshot               the program's state, a cache
    tasks/<name>/runs/run-<id>.data/                  values over 64 KiB

Several processes may use one folder: a run is locked while it is driven. Readers lock nothing and
change nothing. All work on files happens in threads, so the event loop never waits for a disk.
"""

import asyncio
import errno
import os
import re
import secrets
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sequential.core.journal import committed
from sequential.core.model import (
    CallStatus,
    Commit,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskFunction,
    TaskRun,
    evolve,
)
from sequential.core.names import check_run_id, check_task_name
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    ConfigError,
    DamagedRunError,
    InvalidTaskError,
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    StorageError,
)

try:
    import fcntl  # noqa: F401  (the lock that leases are made of)
except ImportError as error:
    raise ConfigError(
        "the folder store needs POSIX file locks, which Windows lacks: choose another with "
        "--storage, such as memory: or a database, or run this in WSL"
    ) from error

from sequential.storage import (
    files,
    folder_journal,
    folder_keys,
    folder_lease,
    folder_limit,
    folder_snapshot,
    folder_tasks,
    folder_view,
)
from sequential.storage.base import StorageAdapter, matches
from sequential.storage.files import Folder
from sequential.storage.folder_journal import Line, State
from sequential.storage.folder_lease import Lease, is_locked
from sequential.storage.folder_payloads import pack, resolve
from sequential.storage.folder_places import Places, RunFiles
from sequential.storage.folder_snapshot import Position

T = TypeVar("T")
_THREADS = 16
_REMEMBERED = 100_000  # finished runs that a search for work need not read again
_ALL = -1  # calls delivered after this turn: all


class FolderAdapter(StorageAdapter):
    """Tasks and runs as files in the folder `path`, which is created when something is stored."""

    def __init__(self, path: str | Path = "tasks") -> None:
        super().__init__()
        self.folder = Folder(path)
        self.places = Places(self.folder)
        self._held: dict[str, Lease] = {}
        self._over: dict[str, tuple[int, Status]] = {}
        # Threads that work on one run take turns; runs that share a lock only do so by chance.
        self._locks = [threading.Lock() for _ in range(256)]
        self._pool: ThreadPoolExecutor | None = None
        _adapters.add(self)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        while self._held:
            self._held.popitem()[1].close()

    # --- task runs -------------------------------------------------------------------------------

    async def create_task_run(self, run: TaskRun) -> TaskRun:
        return await self._do(self._create, run)

    def _create(self, run: TaskRun) -> TaskRun:
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
        try:
            files.create(place.journal, text, f".{secrets.token_hex(4)}.tmp")
        except FileExistsError:
            raise RunExistsError(f"run {run.id} exists already") from None
        try:
            folder_view.write(place, stored, (), Position(len(text), run.turn))
        except OSError:
            pass  # the run is created: its journal is there
        return run

    async def get_task_run(self, run_id: str) -> TaskRun | None:
        if (lease := self._held.get(run_id)) and not lease.failure:
            return lease.run
        return await self._do(self._get_run, run_id)

    def _get_run(self, run_id: str) -> TaskRun | None:
        place = self.places.find(run_id)
        state = place and self._load(place)
        return resolve(place, state.run) if place and state else None

    async def update_task_run(self, run_id: str, **changes: Any) -> TaskRun:
        def update(lease: Lease) -> TaskRun:
            run = evolve(lease.run, **changes)
            lease.write(at=run.updated_at, run=run)
            return run

        return await self._do(self._write, run_id, update)

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
        for place in sorted(self.places.runs(filters.get("task_identifier")), key=_newest_first):
            if before is not None and place.run_id >= before:
                continue
            if self._is_known_to_differ(place, filters.get("status")):
                continue
            state, _ = self._try_to_load(place)
            if state and state.run.status.is_final and len(self._over) < _REMEMBERED:
                self._over[place.run_id] = state.end, state.run.status
            if state and matches(state.run, filters):
                found.append(state.run)
                if len(found) == limit:
                    break
        return found

    def _is_known_to_differ(self, place: RunFiles, status: Any) -> bool:
        """Whether a run ended with another status, seen earlier, and was not touched since.

        Who looks for work would otherwise read every run that ever ended, each time.
        """
        end, over = self._over.get(place.run_id, (0, None))
        if status is None or over is None or over == status:
            return False
        if not isinstance(status, str) and over in status:
            return False
        try:
            return os.lstat(place.journal).st_size == end
        except FileNotFoundError:
            return True

    async def find_run_ids(self, prefix: str, task: str | None = None) -> list[str]:
        places = await self._do(lambda: list(self.places.runs(task)))
        return sorted(place.run_id for place in places if place.run_id.startswith(prefix))

    async def delete_task_run(self, run_id: str) -> None:
        await self._do(self._delete_run, run_id)

    def _delete_run(self, run_id: str) -> None:
        with self._lock_of(run_id):
            folder_lease.delete(self.places.existing(run_id))

    async def damaged(self) -> list[str]:
        return await self._do(self._damaged)

    def _damaged(self) -> list[str]:
        reports: list[str] = []
        for place in self.places.runs():
            _, trouble = self._try_to_load(place)
            reports += [trouble] if trouble else []
        for name in self.places.tasks():
            try:
                folder_tasks.read(self.folder, name)
            except (ConfigError, InvalidTaskError) as error:
                reports.append(str(error))
        return reports

    # --- stack runs ------------------------------------------------------------------------------

    async def create_stack_run(self, call: StackRun) -> StackRun:
        if call.id != f"{call.task_run_id}:{call.sequence}":
            raise StorageError(f"a call's id is <run id>:<sequence>, this one is {call.id[:80]!r}")
        write = _writing(at=call.created_at, calls=(call,))
        await self._do(self._write, call.task_run_id, write)
        return call

    async def get_stack_run(self, call_id: str) -> StackRun | None:
        return await self._do(self._get_call, call_id)

    def _get_call(self, call_id: str) -> StackRun | None:
        run_id, number = _split(call_id)
        place = self.places.find(run_id)
        state = place and self._load(place)
        if place is None or state is None:
            return None
        call = state.calls.get(number) or folder_journal.scan(place, _ALL).calls.get(number)
        return resolve(place, call) if call else None

    async def update_stack_run(self, call_id: str, **changes: Any) -> StackRun:
        def update(lease: Lease) -> StackRun:
            stored = lease.call(_split(call_id)[1])
            call = resolve(lease.files, stored) if stored else self._get_call(call_id)
            if call is None:
                raise StorageError(f"there is no call {call_id}")
            call = evolve(call, **changes)
            lease.write(at=call.updated_at, calls=(call,))
            return call

        return await self._do(self._write, _split(call_id)[0], update)

    async def delete_stack_run(self, call_id: str) -> None:
        await self._do(self._delete_call, *_split(call_id))

    def _delete_call(self, run_id: str, number: int) -> None:
        if number >= 0 and self.places.find(run_id):
            self._write(
                run_id, lambda lease: lease.write(at=lease.run.updated_at, dropped=(number,))
            )

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

    # --- task functions --------------------------------------------------------------------------

    async def store_task_function(self, function: TaskFunction) -> TaskFunction:
        return await self._do(folder_tasks.store, self.folder, function)

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

    async def delete_task(self, identifier: str) -> int:
        return await self._do(folder_tasks.delete, self.places, check_task_name(identifier))

    # --- keystore --------------------------------------------------------------------------------

    async def set_keystore(self, key: str, value: str) -> None:
        await self._do(folder_keys.store, self.folder, key, value)

    async def get_keystore(self, key: str) -> str | None:
        return await self._do(folder_keys.read, self.folder, key)

    async def delete_keystore(self, key: str) -> bool:
        return await self._do(folder_keys.delete, self.folder, key)

    async def list_keystore(self) -> list[str]:
        return await self._do(folder_keys.keys, self.folder)

    # --- snapshots and logs ----------------------------------------------------------------------

    async def store_snapshot(self, snapshot: Snapshot) -> None:
        def store(lease: Lease) -> None:
            lease.write_snapshot(snapshot)
            lease.write_view()

        await self._do(self._write, snapshot.task_run_id, store)

    async def get_snapshot(self, run_id: str) -> Snapshot | None:
        return await self._do(self._get_snapshot, run_id)

    def _get_snapshot(self, run_id: str) -> Snapshot | None:
        place = self.places.find(run_id)
        return folder_snapshot.read(place) if place else None

    async def append_log(self, run_id: str, line: LogLine) -> None:
        await self._do(self._write, run_id, _writing(at=line.at, log=line.text))

    async def get_log(self, run_id: str) -> list[LogLine]:
        def read() -> list[LogLine]:
            place = self.places.find(run_id)
            return folder_journal.read_log(place) if place else []

        return await self._do(read)

    # --- the atomic ones -------------------------------------------------------------------------

    async def claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        claiming = asyncio.ensure_future(self._do(self._claim, run_id, token, now, until))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The thread goes on, and nobody would ever release what it got.
            claiming.add_done_callback(lambda done: self._forget(run_id, token, done))
            raise

    def _claim(self, run_id: str, token: str, now: str, until: str) -> TaskRun:
        with self._lock_of(run_id):
            held = self._held.get(run_id)
            if held and not held.failure:
                raise RunBusyError(f"run {run_id} is being driven by this process already")
            lease = Lease(self.places.existing(run_id))
            try:
                happening = Happening(Event.CLAIM, token=token, until=until)
                run, _ = apply(lease.run, happening, now)
                lease.sync()
                with folder_limit.admitted(lease, self._count_driven):
                    # Losing this line loses nothing: the lock is the lease.
                    lease.write(at=now, run=run, durable=False)
            except BaseException:
                lease.close()
                raise
            lease.token = token
            lease.write_view()
            self._held[run_id] = lease
            return run

    def _count_driven(self, place: RunFiles) -> int:
        """How many other runs of this run's task are driven."""
        running = self._query_runs(
            None, None, {"task_identifier": place.task, "status": Status.RUNNING}
        )
        return sum(run.id != place.run_id and self._is_locked(run.id) for run in running)

    def _forget(self, run_id: str, token: str, claiming: "asyncio.Future[TaskRun]") -> None:
        if not claiming.cancelled() and claiming.exception() is None:
            lease = self._held.get(run_id)
            if lease and lease.token == token:
                self._held.pop(run_id).close()

    async def renew(self, run_id: str, token: str, until: str) -> int:
        lease = self._held.get(run_id)
        if lease is None or lease.token != token or lease.failure:
            if lease is None:
                await self._do(self.places.existing, run_id)
            raise LeaseLostError
        return lease.run.answers

    async def release(self, run_id: str, token: str) -> None:
        await self._do(self._release, run_id, token)

    def _release(self, run_id: str, token: str) -> None:
        with self._lock_of(run_id):
            lease = self._held.get(run_id)
            if lease is None or lease.token != token:
                return
            try:
                if not lease.failure:
                    run = evolve(lease.run, lease_token=None, lease_until=None)
                    lease.write(at=run.updated_at, run=run, durable=False)
                    lease.write_view()
            finally:
                self._held.pop(run_id).close()

    async def commit(self, commit: Commit) -> None:
        await self._do(self._commit, commit)

    def _commit(self, commit: Commit) -> None:
        run = commit.run
        with self._lock_of(run.id):
            lease = self._held.get(run.id)
            if lease is None:
                self.places.existing(run.id)
            if lease is None or lease.token != commit.token:
                raise LeaseLostError
            lease.write(
                at=run.updated_at,
                run=committed(lease.run, commit),
                calls=(*commit.requested, *commit.updated),
                log=commit.log,
            )
            if commit.snapshot:
                lease.write_snapshot(commit.snapshot)
                lease.write_view()
            self._settle(lease)

    async def is_leased(self, run: TaskRun, now: str) -> bool:
        lease = self._held.get(run.id)
        if lease and not lease.failure:
            return True
        return await self._do(self._is_locked, run.id)

    def _is_locked(self, run_id: str) -> bool:
        place = self.places.find(run_id)
        return place is not None and is_locked(place)

    # --- inside ----------------------------------------------------------------------------------

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

    def _write(self, run_id: str, change: Callable[[Lease], T]) -> T:
        """Change a run through the lease held for it, or lock it just for this."""
        with self._lock_of(run_id):
            lease = self._held.get(run_id)
            if lease and not lease.failure:
                result = change(lease)
                self._settle(lease)
                return result
            lease = Lease(self.places.existing(run_id))
            try:
                result = change(lease)
                lease.write_view()
                return result
            finally:
                lease.close()

    def _settle(self, lease: Lease) -> None:
        """Give the lease back once the run is not being driven any more."""
        if lease.run.status is not Status.RUNNING or lease.run.lease_token is None:
            lease.write_view()
            self._held.pop(lease.run.id, None)
            lease.close()

    def _lock_of(self, run_id: str) -> threading.Lock:
        return self._locks[hash(run_id) % len(self._locks)]

    def _wanted(self, run_ids: Any) -> list[RunFiles]:
        if run_ids is None:
            return list(self.places.runs())
        wanted = [run_ids] if isinstance(run_ids, str) else run_ids
        return [place for run_id in wanted if (place := self.places.find(run_id))]

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


_adapters: "weakref.WeakSet[FolderAdapter]" = weakref.WeakSet()


def _close_in_child() -> None:
    """A forked process shares the locks of its parent and would keep them beyond its death."""
    for adapter in _adapters:
        for lease in adapter._held.values():  # noqa: SLF001
            lease.close()
        adapter._held.clear()  # noqa: SLF001


os.register_at_fork(after_in_child=_close_in_child)


def create(location: str = "", path: str | Path | None = None) -> FolderAdapter:
    """The factory of `folder:<path>`."""
    return FolderAdapter(path or location or "tasks")


def _newest_first(place: RunFiles) -> int:
    return -int(place.run_id.replace("-", ""), 16)


def _writing(**what: Any) -> Callable[[Lease], None]:
    return lambda lease: lease.write(**what)


def _split(call_id: str) -> tuple[str, int]:
    run_id, _, number = call_id.rpartition(":")
    return run_id, int(number) if re.fullmatch("0|[1-9][0-9]{0,17}", number) else -1
