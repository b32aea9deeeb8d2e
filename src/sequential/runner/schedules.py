"""Schedules of an engine's store: set them, list them, and create the runs that are due.

Any number of workers may do the last at the same time. The id of a run follows from its task, its
schedule and its moment, so of several that create it one succeeds. The run is created first and the
mark is moved then: whoever dies in between leaves a moment that is looked at again, finds its run,
and goes on.
"""

import asyncio
import difflib
import heapq
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice
from typing import Any

from sequential.config import Settings
from sequential.core import times
from sequential.core.inputs import check_input
from sequential.core.model import TaskFunction, TaskRun, evolve
from sequential.core.names import check_schedule_name, check_task_name
from sequential.core.schedule import (
    GRACE,
    Schedule,
    Scheduled,
    counted_from,
    due_times,
    next_time,
    schedule_problems,
    scheduled_input,
    timing,
    upcoming,
)
from sequential.errors import (
    ConfigError,
    InvalidInputError,
    RunExistsError,
    ScheduleNotFoundError,
    SequentialError,
    StorageError,
)
from sequential.runner.schedule_records import (
    API,
    CONFIG,
    Definition,
    Mark,
    Marked,
    ScheduleRecords,
    note_change,
)
from sequential.storage.base import StorageAdapter

AT_A_TIME = 100  # runs that one look creates for a schedule; the next look goes on
TOGETHER = 8  # schedules that are worked on at the same time
AGAIN = 600.0  # seconds after which all schedules are read again, even if nobody told of a change
RATIO = 100  # tasks that are files are read again after so many times the time that this takes

Create = Callable[..., Awaitable[TaskRun]]


class _Watched:
    """A schedule as a worker remembers it: when it has to be looked at."""

    def __init__(self, definition: Definition, next: str | None) -> None:
        self.definition = definition
        self.next = next


class Schedules:
    """The schedules of a store. `create` writes a run, `get_task` raises when there is no task.

    `troubles` has, by the schedule's key, what keeps schedules from being kept to at the moment.
    """

    troubles: Mapping[str, SequentialError]

    def __init__(
        self,
        storage: StorageAdapter,
        settings: Settings,
        create: Create,
        get_task: Callable[[str], Awaitable[TaskFunction]],
        now: Callable[[], str],
    ) -> None:
        self._storage = storage
        self._records = ScheduleRecords(storage)
        self._settings = settings
        self._create = create
        self._get_task = get_task
        self._now = now
        self._watched: dict[str, _Watched] = {}
        self._broken: dict[str, SequentialError] = {}  # those that cannot be kept to as they are
        self._failed: dict[str, SequentialError] = {}  # those whose last moment got no run
        self.troubles = {}
        self._changes: int | None = None  # as they were counted when all was read
        self._read_at = ""
        self._reread_after = AGAIN
        self._looked_at = ""
        self._failure: SequentialError | None = None  # of the store, which rests after it
        self._rests_until = ""

    def adopt(self, settings: Settings) -> None:
        """Use other settings for the runs to come."""
        self._settings = settings

    async def set(self, task: str, schedule: Schedule) -> Scheduled:
        """Keep a schedule, in place of another of its name, also of one in config.json.

        If its times are other ones than before they are counted from now on. Raises
        `TaskNotFoundError`, `InvalidNameError`, and `InvalidInputError` that lists what is wrong
        with the times or with the input; then nothing was written.
        """
        check_schedule_name(schedule.name)
        function = await self._get_task(task)
        if problems := schedule_problems(schedule):
            raise InvalidInputError(f"the schedule {schedule.name}: {'; '.join(problems)}")
        now = self._now()
        self._input(function, schedule, now)
        definition = Definition(task, await self._records.set(task, schedule), API, function)
        marked = await self._marked(definition, await self._records.mark(definition.key), now)
        await self._changed(now)
        return self._standing(definition, marked.mark, now)

    async def delete(self, task: str, name: str) -> None:
        """Remove a schedule that was set; one of its name in config.json counts again.

        Raises `ScheduleNotFoundError`, also for one that is in config.json only.
        """
        found = await self._found(task, name)
        if found.origin == CONFIG:
            raise ScheduleNotFoundError(
                f"the schedule {name} is in config.json of {task}: remove it there, or set one of "
                "this name that is not enabled"
            )
        await self._records.remove(found.key)
        if await self._records.one(task, name) is None:
            await self._records.delete_mark(found.key)
        await self._changed(self._now())

    async def get(self, task: str, name: str) -> Scheduled:
        """A schedule and where it stands; raises `ScheduleNotFoundError` with the nearest name."""
        found = await self._found(task, name)
        marked = await self._records.mark(found.key)
        return self._standing(found, marked and marked.mark, self._now())

    async def upcoming(
        self, task: str | None = None, name: str | None = None, *, count: int = 10
    ) -> list[tuple[str, Scheduled]]:
        """The next moments of all schedules, of a task's, or of one, in their order."""
        chosen = [await self.get(task, name)] if task and name else await self.list(task)
        lists = []
        for one in chosen:
            if one.next is not None:
                schedule = counted_from(one.schedule, one.next)
                moments = islice(upcoming(schedule, times.after(one.next, -0.001)), count)
                lists.append([(moment, one) for moment in moments])
        return list(islice(heapq.merge(*lists, key=lambda found: found[0]), count))

    async def list(self, task: str | None = None) -> "list[Scheduled]":
        """All schedules, or those of a task, by task and name; raises `TaskNotFoundError`."""
        if task is not None:
            await self._get_task(task)
        definitions, marks = await self._records.all(task), await self._records.marks()
        now = self._now()
        return [
            self._standing(definition, marks[key].mark if key in marks else None, now)
            for key, definition in definitions.items()
        ]

    # --- for workers -----------------------------------------------------------------------------

    async def fire_due(self, tasks: Collection[str] | None = None) -> int:
        """Create the runs that are due, of all tasks or of these; returns how many are new.

        What keeps one schedule does not keep the others; see `troubles`. Raises `StorageError`
        when the store failed, after all others were tried, and again for the store's `sweep`, in
        which it is not asked: what is still due comes then.
        """
        now = self._now()
        if self._failure and now < self._rests_until <= times.after(now, self._storage.sweep):
            raise self._failure.with_traceback(None)
        try:
            new = await self._fire_all(tasks, now)
        except SequentialError as error:
            self._failure, self._rests_until = error, times.after(now, self._storage.sweep)
            raise
        self._failure = None
        return new

    def next_due(self, tasks: Collection[str] | None = None) -> str | None:
        """When the next schedule is due, as far as that is known since `fire_due`."""
        moments = [one.next for one in self._of(tasks) if one.next is not None]
        return max(min(moments), self._rests_until) if moments else None

    async def note_stored(self, function: TaskFunction, now: str) -> None:
        """Tell workers of a task that was written at `now`, if that may concern schedules."""
        if function.updated_at == now and (function.config.schedules or function.version > 1):
            await self._changed(now)

    async def forget(self, function: TaskFunction) -> None:
        """Remove what there is about the schedules of a task that was deleted."""
        if await self._records.forget(function.identifier) or function.config.schedules:
            await self._changed(self._now())

    # --- inside ----------------------------------------------------------------------------------

    def _of(self, tasks: Collection[str] | None) -> "tuple[_Watched, ...]":
        watched = self._watched.values()
        return tuple(one for one in watched if tasks is None or one.definition.task in tasks)

    async def _changed(self, now: str) -> None:
        self._looked_at = ""
        await note_change(self._storage, now)

    async def _fire_all(self, tasks: Collection[str] | None, now: str) -> int:
        await self._look(now)
        due = [one for one in self._of(tasks) if one.next is not None and one.next <= now]
        room = asyncio.Semaphore(TOGETHER)

        async def fire(one: _Watched) -> int | StorageError:
            async with room:
                try:
                    return await self._fire(one, now)
                except StorageError as error:
                    return error

        done = await asyncio.gather(*map(fire, due))
        self.troubles = {**self._failed, **self._broken}
        for result in done:
            if isinstance(result, StorageError):
                raise result
        return sum(result for result in done if isinstance(result, int))

    async def _look(self, now: str) -> None:
        """Read all schedules again if they may have changed; without any it is one cheap look."""
        passed = times.seconds_between(self._looked_at, now) if self._looked_at else None
        if passed is not None and 0 <= passed < self._storage.sweep:
            return
        changes = await self._records.changes()
        since_read = times.seconds_between(self._read_at, now) if self._read_at else -1.0
        if changes != self._changes or not 0 <= since_read < self._reread_after:
            begun = time.monotonic()
            await self._read(now)
            took = time.monotonic() - begun
            self._changes, self._read_at = changes, now
            self._reread_after = RATIO * took if self._storage.tasks_are_files else AGAIN
        self._looked_at = now

    async def _read(self, now: str) -> None:
        marks = await self._records.marks()  # first: a mark is made after its schedule
        definitions = await self._records.all()
        watched: dict[str, _Watched] = {}
        broken: dict[str, SequentialError] = {}
        for key, definition in definitions.items():
            if problems := definition.problems:
                broken[key] = ConfigError("; ".join(problems))
                continue
            marked = await self._marked(definition, marks.get(key), now)
            watched[key] = _Watched(definition, _next(definition.schedule, marked.mark))
        for key in marks.keys() - definitions.keys():
            if error := await self._records.is_broken(key.partition("/")[0]):
                broken[key] = error
            else:
                await self._records.delete_mark(key)
        self._watched, self._broken = watched, broken
        self._failed = {key: e for key, e in self._failed.items() if key in watched}

    async def _marked(self, definition: Definition, marked: Marked | None, now: str) -> Marked:
        """The mark of a schedule, new when there is none or when its times are other ones now.

        A mark that lies well ahead was made by a clock that has been put right: it is taken back.
        """
        if marked is None or marked.mark.timing != timing(definition.schedule):
            return await self._records.begin(definition, marked, now)
        if times.seconds_between(now, marked.mark.since) > GRACE:
            back = evolve(marked.mark, since=now)
            return await self._records.move_mark(definition.key, back, marked.version)
        return marked

    async def _fire(self, watched: _Watched, now: str) -> int:
        """Create the runs of one schedule that are due; returns how many are new."""
        key = watched.definition.key
        try:
            found = await self._records.one(
                watched.definition.task, watched.definition.schedule.name
            )
        except StorageError:
            raise
        except SequentialError as error:  # its files are being edited
            self._broken[key] = error
            watched.next = times.after(now, self._storage.sweep)
            return 0
        if found is None or found.problems or not self._may_run(found):
            watched.next = None
            return 0
        marked = await self._marked(found, await self._records.mark(key), now)
        schedule = counted_from(found.schedule, marked.mark.made)
        due = due_times(schedule, marked.mark.since, now, AT_A_TIME)
        if not schedule.enabled or due.upto == marked.mark.since:
            watched.definition, watched.next = found, _next(found.schedule, marked.mark)
            return 0
        mark, new = await self._created(found, due.moments, evolve(marked.mark, since=due.upto))
        marked = await self._records.move_mark(key, mark, marked.version)
        watched.definition, watched.next = found, _next(found.schedule, marked.mark)
        return new

    async def _created(
        self, found: Definition, moments: tuple[str, ...], mark: Mark
    ) -> tuple[Mark, int]:
        """Create the runs for these moments; the mark that says so, and how many are new."""
        new = 0
        try:
            for moment in moments:
                run_id = found.run_id(moment)
                function = found.function or await self._get_task(found.task)
                given = self._input(function, found.schedule, moment)
                try:
                    await self._create(found.task, given, id=run_id)
                    new += 1
                except RunExistsError:
                    pass  # another worker was quicker, or died before it could say so
                mark = evolve(mark, fired=moment, run=run_id, problem=None)
        except StorageError:
            raise
        except SequentialError as error:
            self._failed[found.key] = error
            return evolve(mark, problem=str(error)), new
        if moments:
            self._failed.pop(found.key, None)
        return mark, new

    def _may_run(self, found: Definition) -> bool:
        """Whether this process may create runs of the task; if not, it is for other workers."""
        is_native = found.function is not None and found.function.config.runtime == "native"
        return self._settings.runner.native or not is_native

    def _input(self, function: TaskFunction, schedule: Schedule, moment: str) -> dict[str, Any]:
        """The input of the run for a moment; raises `InvalidInputError` if it does not fit."""
        fields = {field.name for field in function.config.inputs}
        given = scheduled_input(schedule, moment, fields)
        check_input(function.config, given, self._settings.defaults)
        return given

    def _misfit(self, definition: Definition, now: str) -> str | None:
        """Why the next run of a schedule could not be created, as far as that can be seen."""
        if definition.function is None:
            return f"there is no task {definition.task}"
        try:
            self._input(definition.function, definition.schedule, now)
        except InvalidInputError as error:
            return str(error)
        return None

    async def _found(self, task: str, name: str) -> Definition:
        check_task_name(task)
        check_schedule_name(name)
        found = await self._records.one(task, name)
        if found is None:
            await self._get_task(task)
            known = [one.schedule.name for one in (await self._records.all(task)).values()]
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
            raise ScheduleNotFoundError(f"the task {task} has no schedule {name}: {hint}")
        return found

    def _standing(self, definition: Definition, mark: Mark | None, now: str) -> Scheduled:
        schedule = definition.schedule
        problems = definition.problems
        if mark is None:
            mark = Mark(now, now, "")
        elif mark.timing != timing(schedule):  # a worker will begin anew
            mark = evolve(mark, made=now, since=now)
        return Scheduled(
            task=definition.task,
            schedule=schedule,
            origin=definition.origin,
            next=None if problems else _next_run(schedule, mark, now),
            last=mark.fired,
            run=mark.run,
            problem="; ".join(problems) or self._misfit(definition, now) or mark.problem,
        )


def _next_run(schedule: Schedule, mark: Mark, now: str) -> str | None:
    """The moment of the next run: one that was missed, if it is made up for, else one to come."""
    if not schedule.enabled:
        return None
    due = due_times(counted := counted_from(schedule, mark.made), mark.since, now, 1)
    return due.moments[0] if due.moments else next_time(counted, max(mark.since, now))


def _next(schedule: Schedule, mark: Mark) -> str | None:
    if not schedule.enabled:
        return None
    return next_time(counted_from(schedule, mark.made), mark.since)
