"""Tasks between a folder, where people edit them, and another store, where they are run."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from sequential.core.model import TaskFunction, evolve
from sequential.core.policy import config_problems
from sequential.errors import SequentialError, StorageError, TaskNotFoundError
from sequential.runner.schedule_records import note_change
from sequential.storage.base import StorageAdapter
from sequential.storage.folder_task_files import TaskFiles, digest


class Change(StrEnum):
    """What became of a task at its destination."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class Synced(msgspec.Struct, frozen=True):
    """A task and what became of it. `problems` says why it was refused, a line each.

    `old` and `new` are the task at its destination, before and after, the versions those of the
    store, wherever it goes.
    """

    name: str
    change: Change
    old: TaskFunction | None = None
    new: TaskFunction | None = None
    version: int | None = None
    old_version: int | None = None
    problems: tuple[str, ...] = ()

    @property
    def digest(self) -> str | None:
        """Of the content at its destination; None when there is none."""
        return digest(self.new) if self.new else None

    @property
    def old_digest(self) -> str | None:
        return digest(self.old) if self.old else None


class Report(msgspec.Struct, frozen=True):
    """What became of some tasks; `elsewhere` are those that only the destination has."""

    tasks: tuple[Synced, ...]
    elsewhere: tuple[str, ...] = ()


class TaskSync:
    """Copies tasks one by one; what is wrong with one does not keep the others.

    `folder` is the tasks folder of a project, `check` returns what is wrong with the code of a
    task, `now` is the time to write down. With `dry_run` nothing is written; the versions are then
    those to be expected.
    """

    def __init__(
        self,
        folder: Path,
        storage: StorageAdapter,
        *,
        now: str,
        check: Callable[[TaskFunction], Sequence[str]] = lambda _: (),
        dry_run: bool = False,
    ) -> None:
        self._files = TaskFiles(folder)
        self._storage = storage
        self._now = now
        self._check = check
        self._dry_run = dry_run

    async def push(self, only: str | None = None) -> Report:
        """Store the tasks of the folder, or one; versions go up only if something has changed.

        Raises `TaskNotFoundError`.
        """
        names = await asyncio.to_thread(self._files.names)
        there = [task.identifier for task in await self._storage.list_task_functions()]
        if only is not None:
            return Report((await self._one(only, names, self._push(only), "the tasks folder"),))
        tasks = [task for name in names if (task := await self._push(name))]
        here = {task.name for task in tasks}
        return Report(tuple(tasks), tuple(name for name in there if name not in here))

    async def pull(self, only: str | None = None, *, force: bool = False) -> Report:
        """Write the tasks of the store into the folder, or one.

        A task of the folder that was changed since it was last exchanged with a store is not
        overwritten, unless by `force`. Raises `TaskNotFoundError`.
        """
        there = [task.identifier for task in await self._storage.list_task_functions()]
        if only is not None:
            return Report((await self._one(only, there, self._pull(only, force), "the storage"),))
        tasks = [task for name in there if (task := await self._pull(name, force))]
        names = await asyncio.to_thread(self._files.names)
        return Report(tuple(tasks), tuple(name for name in names if name not in there))

    async def _one(
        self, name: str, known: Sequence[str], found: Awaitable[Synced | None], where: str
    ) -> Synced:
        task = await found
        if task is None:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
            raise TaskNotFoundError(f"there is no task {name} in {where}: {hint}")
        return task

    async def _push(self, name: str) -> Synced | None:
        try:
            task = await asyncio.to_thread(self._files.read, name)
        except SequentialError as error:
            return Synced(name, Change.REFUSED, problems=(str(error),))
        if task is None:
            return None
        problems = [f"config.json: {problem}" for problem in config_problems(task.config)]
        problems += await asyncio.to_thread(self._check, task)
        old = await self._storage.get_task_function(name)
        if problems:
            version = old.version if old else None
            return Synced(name, Change.REFUSED, old, old, version, version, tuple(problems))
        if old and digest(old) == digest(task):
            new = old
        else:
            new = await self._stored(task, old)
        if not self._dry_run:
            await asyncio.to_thread(self._note_exchanged, task)
        return Synced(name, _change(old, new), old, new, new.version, old.version if old else None)

    async def _pull(self, name: str, force: bool) -> Synced | None:
        new = await self._storage.get_task_function(name)
        if new is None:
            return None
        return await asyncio.to_thread(self._written, new, force)

    def _written(self, new: TaskFunction, force: bool) -> Synced:
        name = new.identifier
        change, is_precious = Change.UPDATED, False
        try:
            old = self._files.read(name)
            if old is None:
                change = Change.ADDED
            else:
                is_precious = not self._files.is_exchanged(old)
        except SequentialError as error:
            if not force:
                return Synced(name, Change.REFUSED, problems=(str(error),))
            old = None
        if old and digest(old) == digest(new):
            if not self._dry_run:
                self._note_exchanged(old)
            return Synced(name, Change.UNCHANGED, old, new, new.version)
        if old and is_precious and not force:
            problem = f"{self._files.shown(name)} was changed and the changes were never synced"
            return Synced(name, Change.REFUSED, old, old, new.version, problems=(problem,))
        if not self._dry_run:
            self._files.write(new)
        return Synced(name, change, old, new, new.version)

    async def _stored(self, task: TaskFunction, old: TaskFunction | None) -> TaskFunction:
        task = evolve(task, version=1, created_at=self._now, updated_at=self._now)
        if not self._dry_run:
            stored = await self._storage.store_task_function(task)
            if task.config.schedules or (old and old.config.schedules):
                await note_change(self._storage, self._now)
            return stored
        return evolve(task, version=old.version + 1 if old else 1)

    def _note_exchanged(self, task: TaskFunction) -> None:
        try:
            self._files.note_exchanged(task)
        except StorageError:
            pass  # a folder that cannot be written needs no protection from being overwritten


def _change(old: TaskFunction | None, new: TaskFunction) -> Change:
    if old is None:
        return Change.ADDED
    return Change.UNCHANGED if old.version == new.version else Change.UPDATED
