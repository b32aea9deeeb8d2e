"""What a search for runs needs to know of each, kept in memory: no run is read twice unchanged.

A run's journal is only appended to, so its size and the time of its last change tell whether what
is known still holds. Who looks for work among ten thousand runs asks the system for these two of
each and reads none.
"""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from sequential.core.model import Status, TaskRun
from sequential.storage.folder_lease import is_locked
from sequential.storage.folder_places import RunFiles, is_run_id

_COARSE = 2.0  # seconds: the coarsest clock of a file system
_TRUSTED = 1.0  # seconds after which journals are looked at although no name has changed
_NAME_LENGTH = len("run-.journal") + 36


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is known of a run, and of which state of its journal."""

    size: int  # bytes of the journal
    changed: int  # nanoseconds: when the journal was written to last
    status: Status
    since: str  # when it is due, or when it was changed; empty when it is over
    is_timed: bool  # it is due at a time
    priority: int
    parent: str | None

    @classmethod
    def of(cls, run: TaskRun, size: int = 0, changed: int = 0) -> "Known":
        over = run.status.is_final
        since = "" if over else run.wake_at or run.updated_at
        timed = not over and run.wake_at is not None
        return cls(size, changed, run.status, since, timed, run.priority, run.parent_run_id)

    def may_be_due(self, now: str) -> bool:
        """Whether a worker should claim the run; a running one only if nobody drives it."""
        if self.status is Status.SUSPENDED:
            return self.is_timed and self.since <= now
        if self.status is Status.PENDING:
            return not self.is_timed or self.since <= now
        return self.status is Status.RUNNING

    def differs(self, filters: dict[str, Any]) -> bool:
        """Whether the run cannot be one that is looked for."""
        return not _fits(self.status, filters, "status") or not _fits(
            self.parent, filters, "parent_run_id"
        )


class Look(NamedTuple):
    """When a folder of runs was looked through, and when a name in it had changed last.

    Whoever changes a run's status replaces its view afterwards, which changes a name. So while no
    name changes there is nothing new, except from one who died between the two or found the disk
    full: therefore the folder is looked through once in a while all the same.
    """

    changed: int  # nanoseconds, by the file system's clock
    wall: int  # nanoseconds
    monotonic: float  # seconds

    @classmethod
    def at(cls, runs: str) -> "Look | None":
        try:
            changed = os.stat(runs).st_mtime_ns
        except OSError:
            return None
        return cls(changed, time.time_ns(), time.monotonic())

    def finds_the_same(self, last: "Look") -> bool:
        return (
            self.changed == last.changed
            and last.wall - last.changed > _COARSE * 1e9
            and self.monotonic - last.monotonic < _TRUSTED
        )


class Index:
    """What is known of the runs. `load` reads one; None if it is gone or cannot be read."""

    def __init__(self, load: Callable[[RunFiles], TaskRun | None]) -> None:
        self._load = load
        self._tasks: dict[str, dict[str, Known]] = {}
        self._looks: dict[str, Look] = {}
        self._lock = threading.Lock()

    def peek(self, run: RunFiles) -> tuple[Known | None, os.stat_result | None]:
        """What is known of a run, if it is still so, and its journal as it is now."""
        known = self._tasks.get(run.task, {}).get(run.run_id)
        try:
            status = os.lstat(run.journal)
        except FileNotFoundError:
            return None, None
        return known if known and _is_of(known, status) else None, status

    def learn(self, run: RunFiles, record: TaskRun, status: os.stat_result) -> None:
        """Remember a run that was read after its journal was as `status` tells."""
        known = Known.of(record, status.st_size, status.st_mtime_ns)
        with self._lock:
            self._tasks.setdefault(run.task, {})[run.run_id] = known

    def scan(self, task: RunFiles, without: Collection[str]) -> Iterable[tuple[str, Known]]:
        """The runs of a task, those in `without` excepted; `task` is the place of any of them."""
        with self._lock:
            look = Look.at(task.runs)
            last = self._looks.get(task.task)
            if not (last and look and look.finds_the_same(last)):
                self._scan(task, without)
                if look:
                    self._looks[task.task] = look
            known = self._tasks.get(task.task, {})
            return [found for found in known.items() if found[0] not in without]

    def _scan(self, task: RunFiles, without: Collection[str]) -> None:
        old = self._tasks.get(task.task, {})
        new: dict[str, Known] = {}
        for entry in _journals(task.runs):
            run_id = entry.name[4:-8]
            known = old.get(run_id)
            if run_id not in without:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if known is None or not _is_of(known, status):
                    known = self._current(task, run_id, known, status)
            if known:
                new[run_id] = known
        self._tasks[task.task] = new

    def _current(
        self, task: RunFiles, run_id: str, known: Known | None, status: os.stat_result
    ) -> Known | None:
        if not is_run_id(run_id):
            return None
        run = task._replace(run_id=run_id)
        if known and known.status is Status.RUNNING and is_locked(run):
            return known  # another process drives it: what it writes meanwhile is of no interest
        record = self._load(run)
        return Known.of(record, status.st_size, status.st_mtime_ns) if record else None


def _journals(runs: str) -> "Iterator[os.DirEntry[str]]":
    try:
        entries = os.scandir(runs)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if len(entry.name) == _NAME_LENGTH and entry.name.endswith(".journal"):
                yield entry


def _is_of(known: Known, status: os.stat_result) -> bool:
    return known.size == status.st_size and known.changed == status.st_mtime_ns


def _fits(value: Any, filters: dict[str, Any], name: str) -> bool:
    if name not in filters:
        return True
    wanted = filters[name]
    return value == wanted if wanted is None or isinstance(wanted, str) else value in wanted
