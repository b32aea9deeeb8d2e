"""The lease of a run in the folder store: the right to append to its journal.

It is a lock of the operating system on the journal itself (`flock`), so it cannot outlive its
process: the kernel frees it when the process ends, however that happens, and the run can be claimed
at once. No clock is involved, so a lease never runs out under a worker that is only slow.

A write that fails is taken back and ends the lease's use: after a failed `fdatasync` nobody knows
what the disk holds, so whoever claims the run next reads it anew.
"""

import errno
import fcntl
import glob
import os
import shutil
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from sequential.core.model import Snapshot, StackRun, TaskRun, evolve
from sequential.errors import DamagedRunError, RunBusyError, RunNotFoundError, StorageError
from sequential.storage import files, folder_snapshot, folder_view
from sequential.storage.folder_journal import (
    CALL_FIELDS,
    RUN_FIELDS,
    Line,
    encode,
    encode_line,
)
from sequential.storage.folder_payloads import TREES, Record, pack, resolve
from sequential.storage.folder_places import RunFiles
from sequential.storage.folder_snapshot import Position

PATIENCE = (0.0005, 0.001, 0.002, 0.004, 0.008)  # seconds: others lock for a moment only
# Where it is no use to try another run instead: several such moments, on a busy disk.
LONG_PATIENCE = (*PATIENCE, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512)
_WRITE = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Lease:
    """A locked run: its record, the calls that are not delivered yet, and the end of its journal.

    Nothing here grows with the run's history. Not for several threads at once.
    """

    def __init__(self, run: RunFiles, patience: tuple[float, ...] = PATIENCE) -> None:
        """Lock a run and read it; raises `RunBusyError`, `RunNotFoundError`, `DamagedRunError`."""
        self.files = run
        self.token: str | None = None
        self.failure: str | None = None
        self._descriptor = _lock(run, patience)
        try:
            state = folder_view.load(run)
            self.run = resolve(run, state.run)
            self._cut_torn_tail(state.end)
        except BaseException:
            self.close()
            raise
        self._stored = state.run
        self.folded = state.folded
        # Calls as they were given, and as they are stored; one read from disk has only the latter.
        self._open: dict[int, tuple[StackRun | None, StackRun]] = {
            number: (None, call) for number, call in state.calls.items()
        }
        self._end = state.end
        self._turn = state.turn
        self._view_end = state.view_end  # the view may cover only what is safe on disk

    def write(
        self,
        *,
        at: str,
        run: TaskRun | None = None,
        calls: Iterable[StackRun] = (),
        log: str = "",
        dropped: tuple[int, ...] = (),
        folded: tuple[str, ...] = (),
        durable: bool = True,
    ) -> None:
        """Append one line with all of this; when it returns, it is safe on disk (`durable`).

        `calls` are new ones and changed ones, whole; only what changed is written. `dropped` are
        numbers of calls to be removed, `folded` the requests that are carried out by this.
        """
        run = run or self.run
        stored = self._pack(run, self.run, self._stored, "run")
        requested, updated, open_calls = self._sort(calls)
        line = Line(
            at=at,
            turn=run.turn,
            run=_changes(self._stored, stored, RUN_FIELDS),
            requested=tuple(requested),
            updated=tuple(updated),
            log=log,
            dropped=dropped,
            folded=folded,
        )
        if line.run or requested or updated or log or dropped or folded:
            line = evolve(line, format=line.needs)
            self._append(encode_line(line), durable=durable)
        self.run, self._stored = run, stored
        self.folded = folded or self.folded
        for number in dropped:
            self._open.pop(number, None)
        self._turn = max(self._turn, run.turn)
        for number, (call, packed) in open_calls.items():
            if packed.delivered_turn is None:
                self._open[number] = call, packed
            else:
                self._open.pop(number, None)
                self._turn = max(self._turn, packed.delivered_turn)

    def call(self, number: int) -> StackRun | None:
        """A call that is not delivered yet, as it is stored."""
        known = self._open.get(number)
        return known[1] if known else None

    def open_calls(self) -> list[StackRun]:
        """The calls that are not delivered yet."""
        found = [self._open[number] for number in sorted(self._open)]
        return [call or resolve(self.files, stored) for call, stored in found]

    def write_view(self) -> None:
        """Replace the view. The journal has it all, so a failure here is no failure of the run."""
        try:
            folder_view.write(
                self.files, self._stored, self._waiting(), self._position(), self.folded
            )
        except OSError:
            pass

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the newest snapshot; it is a cache, so losing it is no failure either."""
        try:
            folder_snapshot.write(self.files, snapshot, self._position(), self._waiting())
        except OSError:
            pass

    def sync(self) -> None:
        """Make everything safe that others may have written without waiting for the disk."""
        if self._view_end < self._end:
            try:
                files.sync(self._descriptor)
            except OSError as error:
                raise self._fail(error) from error
            self._view_end = self._end

    def close(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _position(self) -> Position:
        return Position(self._view_end, self._turn)

    def _waiting(self) -> tuple[StackRun, ...]:
        return tuple(self._open[number][1] for number in sorted(self._open))

    def _pack(self, new: Record, old: Record | None, stored: Record | None, name: str) -> Record:
        """`new` as it is stored; what `old` had already is not encoded again."""
        trees: dict[str, Any] = {}
        for tree in TREES:
            value = getattr(new, tree)
            if old is not None and getattr(old, tree) is value:
                trees[tree] = getattr(stored, tree)
            else:
                trees[tree] = pack(self.files, f"{name}-{tree}", value)
        return evolve(new, **trees)

    def _sort(
        self, calls: Iterable[StackRun]
    ) -> tuple[list[StackRun], list[dict[str, Any]], dict[int, tuple[StackRun, StackRun]]]:
        """Calls to be written whole, changes of calls that are known, and all of them as stored."""
        requested: list[StackRun] = []
        updated: list[dict[str, Any]] = []
        every: dict[int, tuple[StackRun, StackRun]] = {}
        for call in calls:
            number = call.sequence
            old, stored = every.get(number) or self._open.get(number) or (None, None)
            packed = self._pack(call, old, stored, f"call-{number}")
            every[number] = call, packed
            if stored is None or stored.delivered_turn is not None:
                requested.append(packed)
            elif changes := _changes(stored, packed, CALL_FIELDS):
                updated.append({"sequence": number, **changes})
        return requested, updated, every

    def _append(self, text: bytes, *, durable: bool) -> None:
        if self.failure:
            raise StorageError(self.failure)
        self._check_untouched()
        try:
            written = os.write(self._descriptor, text)
            if written < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                files.sync(self._descriptor)
        except OSError as error:
            raise self._fail(error) from error
        self._end += len(text)
        if durable:
            self._view_end = self._end

    def _check_untouched(self) -> None:
        status = os.fstat(self._descriptor)
        if status.st_size == self._end and status.st_nlink:
            return
        shown = self.files.folder.shown(self.files.journal)
        self.failure = (
            f"{shown} was deleted while the run was being driven"
            if not status.st_nlink
            else f"{shown} was changed by another program (it should end at byte {self._end})"
        )
        self.close()
        raise DamagedRunError(f"{self.failure}; nothing was written to it")

    def _fail(self, error: OSError) -> StorageError:
        try:
            os.ftruncate(self._descriptor, self._end)
        except OSError:
            pass  # then the next one to claim the run finds a torn line, or a whole one
        explained = files.explain(error, self.files.folder.shown(self.files.journal))
        self.failure = f"{explained} (the run must be claimed again)"
        self.close()
        return explained

    def _cut_torn_tail(self, end: int) -> None:
        if os.fstat(self._descriptor).st_size > end:
            os.ftruncate(self._descriptor, end)


def _changes(old: Any, new: Any, fields: Iterable[str]) -> dict[str, Any]:
    """The fields that differ. A tree is compared as text: to Python, 1 and True are equal."""
    changes: dict[str, Any] = {}
    for name in fields:
        before, after = getattr(old, name), getattr(new, name)
        if before is after:
            continue
        if name in TREES:
            if type(after) is msgspec.Raw and bytes(after) == _text(before):
                continue
            if type(after) is dict and before == after:
                continue
        elif name == "events":
            if encode(before) == encode(after):
                continue
        elif before == after:
            continue
        changes[name] = after
    return changes


def _text(tree: Any) -> bytes:
    return bytes(tree) if type(tree) is msgspec.Raw else encode(tree)


def is_locked(run: RunFiles) -> bool:
    """Whether anybody holds the lease of a run."""
    try:
        descriptor = files.open_to_read(run.journal)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who only look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def delete(run: RunFiles) -> None:
    """Remove a run that nobody drives, damaged or not."""
    descriptor = _lock(run)
    try:
        os.unlink(run.journal)  # without it there is no run: the rest is only rubbish
        files.sync_folder(run.runs)
        for path in (run.view, run.snapshot):
            files.remove(path)
        shutil.rmtree(run.data, ignore_errors=True)
        for path in glob.glob(f"{glob.escape(run.inbox)}/run-{run.run_id}.*"):
            files.remove(path)
    finally:
        os.close(descriptor)


def _lock(run: RunFiles, patience: tuple[float, ...] = PATIENCE) -> int:
    descriptor = _open(run)
    try:
        for pause in (*patience, None):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if pause is None:
                    raise RunBusyError(
                        f"another process drives run {run.run_id}: wait for it, or stop it first"
                    ) from None
                time.sleep(pause)
        if not _is_current(run, descriptor):
            raise RunNotFoundError(f"run {run.run_id} has just been deleted")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(run: RunFiles) -> int:
    try:
        return os.open(run.journal, _WRITE)
    except FileNotFoundError:
        raise RunNotFoundError(f"there is no run {run.run_id}") from None


def _is_current(run: RunFiles, descriptor: int) -> bool:
    """Whether the journal is still this file: its task may have been deleted in the meantime."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(run.journal))
    except FileNotFoundError:
        return False
