"""Storage in a folder: the default, with nothing to set up and every file readable.

    tasks/<name>/code.py, config.json, meta.json      the task
    tasks/<name>/runs/run-<id>.journal                the truth about a run, only appended to
    tasks/<name>/runs/run-<id>.json                   a view of it, for people and quick starts
    tasks/<name>/runs/run-<id>.snapshot               the program's state, a cache
    tasks/<name>/runs/run-<id>.data/                  values over 64 KiB
    tasks/<name>/runs/inbox/                          what is asked of runs that others drive
    tasks/.keystore/                                  the keystore, encrypted
    tasks/.documents/<collection>/                    small records of the server

Several processes may use one folder: a run is locked while it is driven. Whoever drives a run looks
into the inbox for what other processes ask of it; a run that nobody drives is changed directly.
"""

import asyncio
import os
import weakref
from pathlib import Path

from sequential.core.journal import committed
from sequential.core.model import Amendment, Commit, RunEvent, Status, TaskRun, evolve
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    ConfigError,
    LeaseLostError,
    RunBusyError,
    RunChangedError,
    SequentialError,
)

try:
    import fcntl  # noqa: F401  (the lock that leases are made of)
except ImportError as error:
    raise ConfigError(
        "the folder store needs POSIX file locks, which Windows lacks: choose another with "
        "--storage, such as memory: or a database, or run this in WSL"
    ) from error

from sequential.storage import folder_inbox, folder_limit
from sequential.storage.base import fence, fields
from sequential.storage.folder_changes import Polling
from sequential.storage.folder_inbox import Request
from sequential.storage.folder_lease import LONG_PATIENCE, Lease
from sequential.storage.folder_outsider import Outsider
from sequential.storage.folder_places import RunFiles
from sequential.storage.folder_writing import FolderWriter

_ASKED = 0.05  # seconds between two looks into the inboxes while a run is driven


class FolderAdapter(FolderWriter):
    """Tasks and runs as files in the folder `path`, which is created when something is stored."""

    tasks_are_files = True

    def __init__(self, path: str | Path = "tasks") -> None:
        super().__init__(path)
        self._outsider = Outsider(self.places, self._do, self._write, self._carry_out, self._get)
        _adapters.add(self)

    def _make_locks(self) -> None:
        super()._make_locks()
        self._asking = Polling(_ASKED, self._look_into_inboxes, self._is_driving)

    async def close(self) -> None:
        await asyncio.to_thread(self._asking.stop)
        await super().close()

    def forget_parent(self) -> None:
        """Begin anew in a forked process: locks and threads are its parent's."""
        for lease in self._held.values():
            lease.close()
        self._held.clear()
        self._watchers.clear()
        self._pool = None
        self._make_locks()

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
                self._carry_out(lease)
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
            self._asking.start()
            return run

    def _count_driven(self, place: RunFiles) -> int:
        """How many other runs of this run's task are driven."""
        filters = {"task_identifier": place.task, "status": Status.RUNNING}
        running = self._query_runs(None, None, filters)
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
        if lease.run.lease_token != token:
            raise LeaseLostError  # it has just been taken away
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
                    self._carry_out(lease)
                    run = evolve(lease.run, lease_token=None, lease_until=None)
                    lease.write(at=run.updated_at, run=run, durable=False)
                    lease.write_view()
            finally:
                self._held.pop(run_id).close()

    async def commit(self, commit: Commit) -> None:
        await self._do(self._commit, commit)
        if commit.run.status is not Status.RUNNING:
            self._announce(commit.run.id)

    def _commit(self, commit: Commit) -> None:
        run_id = commit.run.id
        with self._lock_of(run_id):
            lease = self._held.get(run_id)
            if lease is None:
                self.places.existing(run_id)
            if lease is None or lease.token != commit.token:
                raise LeaseLostError
            if commit.run.status is not Status.RUNNING and not lease.failure:
                self._carry_out(lease)
                if lease.run.lease_token != commit.token:
                    self._settle(lease)
                    raise LeaseLostError
            lease.write(
                at=commit.run.updated_at,
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

    # --- from outside ----------------------------------------------------------------------------

    async def amend(self, old: TaskRun, amendment: Amendment) -> TaskRun:
        """As the base class says, but a run that another process drives is busy.

        `answer` and `change` reach such a run.
        """

        def amend(lease: Lease) -> TaskRun:
            return self._amend(lease, old, amendment)

        run: TaskRun = await self._do(self._write, old.id, amend, LONG_PATIENCE)
        self._announce(run.id)
        return run

    def _amend(self, lease: Lease, old: TaskRun, amendment: Amendment) -> TaskRun:
        self._carry_out(lease)
        if fence(lease.run) != fence(old):
            raise RunChangedError
        changes = fields(amendment.run)
        changed = {name: new for name, new in changes.items() if new is not getattr(old, name)}
        run = evolve(lease.run, **changed)
        calls, dropped = amendment.updated, amendment.dropped
        lease.write(at=run.updated_at, run=run, calls=calls, dropped=dropped)
        return run

    async def answer(self, run_id: str, event: RunEvent | None, now: str) -> TaskRun:
        return await self._ask(run_id, Request(run_id, now, event=event))

    async def change(self, run_id: str, happening: Happening, now: str) -> TaskRun:
        return await self._ask(run_id, Request(run_id, now, happening=happening))

    async def _ask(self, run_id: str, request: Request) -> TaskRun:
        run = await self._outsider.ask(run_id, request)
        self._announce(run_id)
        return run

    def _carry_out(self, lease: Lease) -> None:
        """Do what others ask of a locked run; who drives it is told when it got an answer."""
        if folder_inbox.carry_out(lease):
            self._announce_later(lease.run.id)

    def _look_into_inboxes(self) -> None:
        driven = self._driven()
        for runs in {lease.files.runs for lease in driven.values()}:
            for run_id in folder_inbox.waiting(runs) & driven.keys():
                with self._lock_of(run_id):
                    lease = self._held.get(run_id)
                    if lease is None or lease.failure:
                        continue
                    try:
                        self._carry_out(lease)
                        self._settle(lease)
                    except (OSError, SequentialError):
                        continue  # who drives it is told at its next commit

    def _is_driving(self) -> bool:
        return bool(self._driven())


_adapters: "weakref.WeakSet[FolderAdapter]" = weakref.WeakSet()


def _close_in_child() -> None:
    """A forked process shares the locks of its parent and would keep them beyond its death."""
    for adapter in _adapters:
        adapter.forget_parent()


os.register_at_fork(after_in_child=_close_in_child)


def create(location: str = "", path: str | Path | None = None) -> FolderAdapter:
    """The factory of `folder:<path>`."""
    return FolderAdapter(path or location or "tasks")
