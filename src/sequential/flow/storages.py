"""Where `SequentialFlow` keeps paused tasks: the base of all storages, and the one in memory.

A storage of one's own derives from `CustomStorage` and has `save`, `load` and `delete`. Those in
databases are in modules of their own: `redis_storage`, `sql_storage`, `firestore_storage`.
"""

import abc
import asyncio
import inspect
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from sequential.core import times
from sequential.errors import ConfigError
from sequential.flow.flow_task import FlowTask

_METHODS = ("save", "load", "delete")


_locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()


class CustomStorage(abc.ABC):
    """A store of paused tasks by id. What `FlowTask.to_json` writes can be kept anywhere.

    `swap` decides which of two callers goes on that resume a task at the same time. The one here is
    made of the other methods under a lock, which is enough for one process with one event loop; a
    storage that is shared by more overrides it with something that its store does as one.
    """

    @abc.abstractmethod
    async def save(self, task: FlowTask) -> None:
        """Keep a task, replacing the one of this id. It need not be kept after `expires_at`."""

    @abc.abstractmethod
    async def load(self, task_id: str) -> FlowTask | None:
        """The task of this id; None when there is none."""

    @abc.abstractmethod
    async def delete(self, task_id: str) -> bool:
        """Remove a task; returns whether there was one."""

    async def swap(self, task_id: str, revision: int | None, task: FlowTask | None) -> bool:
        """Replace the stored task by `task`, or remove it, if it has this revision.

        `revision` None means that there is none yet. Returns False, having changed nothing, if
        something else is stored.
        """
        async with _lock_of(task_id):
            stored = await self.load(task_id)
            if (None if stored is None else stored.revision) != revision:
                return False
            if task is not None:
                await self.save(task)
            elif stored is not None:
                await self.delete(task_id)
            return True

    async def close(self) -> None:
        """Give back what the storage has opened itself."""


class InMemoryStorage(CustomStorage):
    """Tasks of this process, for tests and for servers that are one process; the default."""

    def __init__(self) -> None:
        self._tasks: dict[str, FlowTask] = {}
        self._lock = threading.Lock()  # event loops of several threads

    async def save(self, task: FlowTask) -> None:
        with self._lock:
            self._put(task)

    async def load(self, task_id: str) -> FlowTask | None:
        return self._tasks.get(task_id)

    async def delete(self, task_id: str) -> bool:
        with self._lock:
            return self._tasks.pop(task_id, None) is not None

    async def swap(self, task_id: str, revision: int | None, task: FlowTask | None) -> bool:
        with self._lock:
            stored = self._tasks.get(task_id)
            if (None if stored is None else stored.revision) != revision:
                return False
            if task is None:
                self._tasks.pop(task_id, None)
            else:
                self._put(task)
            return True

    async def delete_expired(self, now: str | None = None) -> int:
        """Remove the tasks that have expired by now; returns how many there were.

        Another moment is given as text, `2026-11-21T10:00:00.000Z`. `save` does so, too, from time
        to time.
        """
        with self._lock:
            return self._sweep(now or times.to_text(datetime.now(UTC)))

    def _put(self, task: FlowTask) -> None:
        self._tasks[task.id] = task
        if len(self._tasks) % 1000 == 0:
            self._sweep(task.updated_at)

    def _sweep(self, now: str) -> int:
        over = [one.id for one in self._tasks.values() if one.expires_at and one.expires_at <= now]
        for task_id in over:
            del self._tasks[task_id]
        return len(over)


class GivenStorage(CustomStorage):
    """Any object with `save`, `load` and `delete`, which may be ordinary functions or coroutines.

    `load` may also return what `FlowTask.to_dict` or `FlowTask.to_json` wrote.
    """

    def __init__(self, given: Any) -> None:
        if missing := [name for name in _METHODS if not callable(getattr(given, name, None))]:
            raise ConfigError(
                f"{type(given).__name__} cannot store tasks: it lacks {', '.join(missing)}; derive "
                "from CustomStorage, or use a storage of sequential.flow or a StorageAdapter"
            )
        self._given = given

    async def save(self, task: FlowTask) -> None:
        await _settled(self._given.save(task))

    async def load(self, task_id: str) -> FlowTask | None:
        return read(await _settled(self._given.load(task_id)))

    async def delete(self, task_id: str) -> bool:
        return bool(await _settled(self._given.delete(task_id)))

    async def swap(self, task_id: str, revision: int | None, task: FlowTask | None) -> bool:
        if callable(own := getattr(self._given, "swap", None)):
            return bool(await _settled(own(task_id, revision, task)))
        return await super().swap(task_id, revision, task)


def read(stored: Any) -> FlowTask | None:
    """The task that a storage has loaded, in whatever form it keeps it."""
    if stored is None or isinstance(stored, FlowTask):
        return stored
    return FlowTask.from_dict(stored) if isinstance(stored, Mapping) else FlowTask.from_json(stored)


def _lock_of(task_id: str) -> asyncio.Lock:
    """The lock of a task on this event loop; it is there as long as somebody holds or wants it."""
    key = (id(asyncio.get_running_loop()), task_id)
    lock = _locks.get(key)
    if lock is None:
        lock = _locks[key] = asyncio.Lock()
    return lock


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
