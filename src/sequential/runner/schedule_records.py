"""What a store keeps of schedules: those that were set, how far each is dealt with, and changes.

Schedules come from two places: `config.json` of a task, and documents, which are set by a person or
a program and take the place of one of the same name in `config.json`. A mark says up to which
moment a schedule is dealt with. A document whose version counts the changes tells workers when to
read all of that again.
"""

from typing import Any, NamedTuple

import msgspec

from sequential.core import ids, times
from sequential.core.model import TaskFunction
from sequential.core.names import check_schedule_name
from sequential.core.schedule import Schedule, schedule_problems, timing
from sequential.errors import (
    DocumentChangedError,
    InvalidInputError,
    InvalidNameError,
    SequentialError,
    StorageError,
)
from sequential.storage.base import StorageAdapter

SET, MARKS, CHANGES = "schedules", "schedule_marks", "schedule_changes"
ALL = "all"  # the key of the one document of changes
CONFIG, API = "config.json", "api"  # where a schedule comes from


class Definition(NamedTuple):
    """A schedule as it is to be kept to. `function` is its task, None when there is none."""

    task: str
    schedule: Schedule
    origin: str
    function: TaskFunction | None

    @property
    def key(self) -> str:
        return key_of(self.task, self.schedule.name)

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps it from being kept to; config.json may also have a name that is none."""
        try:
            check_schedule_name(self.schedule.name)
        except InvalidNameError as error:
            return (str(error),)
        return schedule_problems(self.schedule)

    def run_id(self, moment: str) -> str:
        """The id of the run for a moment, whoever creates it."""
        milliseconds = int(times.from_text(moment).timestamp() * 1000)
        return ids.scheduled_run_id(self.task, self.schedule.name, moment, milliseconds)


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a schedule is dealt with."""

    made: str  # its interval is counted from here, unless it has a start
    since: str  # all moments up to this one are dealt with
    timing: str  # `core.schedule.timing` of the schedule that this was counted by
    fired: str | None = None  # the last moment that a run was created for
    run: str | None = None  # that run
    problem: str | None = None  # why the last moment got no run


class Marked(NamedTuple):
    """A mark and the version of its document; version 0 when it is not written yet."""

    mark: Mark
    version: int


class ScheduleRecords:
    """Reads and writes them."""

    def __init__(self, storage: StorageAdapter) -> None:
        self._storage = storage

    async def all(self, task: str | None = None) -> dict[str, Definition]:
        """Every schedule there is by its key, or those of one task."""
        if task is None:
            functions = await self._storage.list_task_functions()
        else:
            function = await self._storage.get_task_function(task)
            functions = [function] if function else []
        known = {function.identifier: function for function in functions}
        found = {
            key_of(name, schedule.name): Definition(name, schedule, CONFIG, function)
            for name, function in known.items()
            for schedule in function.config.schedules
        }
        for document in await self._storage.list_documents(SET):
            of_task, _, _ = document.key.partition("/")
            if task in (None, of_task):
                schedule = _schedule(document.key, document.value)
                found[document.key] = Definition(of_task, schedule, API, known.get(of_task))
        return dict(sorted(found.items()))

    async def one(self, task: str, name: str) -> Definition | None:
        """A schedule as it is now; None if there is none."""
        function = await self._storage.get_task_function(task)
        document = await self._storage.get_document(SET, key_of(task, name))
        if document is not None:
            return Definition(task, _schedule(document.key, document.value), API, function)
        for schedule in function.config.schedules if function else ():
            if schedule.name == name:
                return Definition(task, schedule, CONFIG, function)
        return None

    async def is_broken(self, task: str) -> SequentialError | None:
        """Why a task cannot be read at the moment; None if it can, and if there is none."""
        try:
            await self._storage.get_task_function(task)
        except SequentialError as error:
            return error
        return None

    async def set(self, task: str, schedule: Schedule) -> Schedule:
        """Write a schedule; returns it as it will be read. Its input has to be JSON."""
        key = key_of(task, schedule.name)
        try:
            tree = msgspec.to_builtins(schedule)
        except TypeError as error:
            raise InvalidInputError(
                f"the input of the schedule {key} is no JSON: {error}"
            ) from error
        await self._storage.put_document(SET, key, tree)
        return _schedule(key, tree)

    async def remove(self, key: str) -> bool:
        """Remove a schedule that was set; returns whether there was one."""
        return await self._storage.delete_document(SET, key)

    async def forget(self, task: str) -> bool:
        """Remove all that there is about a task's schedules; returns whether there was anything."""
        found = False
        for collection in (SET, MARKS):
            beginning = key_of(task, "")
            for document in await self._storage.list_documents(collection, after=beginning):
                if not document.key.startswith(beginning):
                    break
                found |= await self._storage.delete_document(collection, document.key)
        return found

    # --- marks -----------------------------------------------------------------------------------

    async def marks(self) -> dict[str, Marked]:
        """All marks by the keys of their schedules."""
        return {
            document.key: Marked(msgspec.convert(document.value, Mark), document.version)
            for document in await self._storage.list_documents(MARKS)
        }

    async def mark(self, key: str) -> Marked | None:
        document = await self._storage.get_document(MARKS, key)
        if document is None:
            return None
        return Marked(msgspec.convert(document.value, Mark), document.version)

    async def move_mark(self, key: str, mark: Mark, version: int) -> Marked:
        """Write a mark in place of that version; if it is another one by now, that one remains."""
        try:
            document = await self._storage.put_document(
                MARKS, key, msgspec.to_builtins(mark), if_version=version
            )
        except DocumentChangedError:
            return await self.mark(key) or Marked(mark, 0)
        return Marked(mark, document.version)

    async def begin(self, definition: Definition, marked: Marked | None, now: str) -> Marked:
        """Have a schedule be dealt with from now on, as one that is new or whose times are."""
        old, version = marked or (None, 0)
        fired, run = (old.fired, old.run) if old else (None, None)
        mark = Mark(now, now, timing(definition.schedule), fired, run)
        return await self.move_mark(definition.key, mark, version)

    async def delete_mark(self, key: str) -> None:
        await self._storage.delete_document(MARKS, key)

    # --- changes ---------------------------------------------------------------------------------

    async def changes(self) -> int:
        """How often schedules were changed: another number means that they are to be read again."""
        document = await self._storage.get_document(CHANGES, ALL)
        return document.version if document else 0


async def note_change(storage: StorageAdapter, now: str) -> None:
    """Tell the workers of a store that schedules were changed, or may have been."""
    await storage.put_document(CHANGES, ALL, {"at": now})


def key_of(task: str, name: str) -> str:
    """The key of a schedule: names have no slash."""
    return f"{task}/{name}"


def _schedule(key: str, tree: dict[str, Any]) -> Schedule:
    """A schedule from its document; fields that a later version has added are passed over."""
    known = {name: tree[name] for name in Schedule.__struct_fields__ if name in tree}
    try:
        return msgspec.convert(known, Schedule)
    except msgspec.ValidationError as error:
        raise StorageError(
            f"the schedule {key} was written by another version of this program ({error}): use "
            "that one, or set the schedule again"
        ) from error
