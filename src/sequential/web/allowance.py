"""What an actor may start: within the numbers of his token, and those of everybody.

How many of his runs are unfinished, and how long all of them took, is a document in the store for
each actor. A place is taken in it before a run is created, and given back when the run has ended,
so that several servers together keep to the numbers.
"""

import secrets
from typing import Any

import msgspec

from sequential.core import ids, times
from sequential.core.bounds import least, narrowed
from sequential.core.model import Bounds, TaskRun
from sequential.errors import DocumentChangedError, RunNotFoundError
from sequential.runner.engine import Engine
from sequential.web.actor import Actor
from sequential.web.errors import Refused

COLLECTION = "token_uses"
LOST_AFTER = 60.0  # seconds; a place whose run is not there by then has none
ATTEMPTS = 50  # at a document that others change meanwhile


class _Place(msgspec.Struct, frozen=True):
    """A run that counts: since when, and how many seconds it may take, if that matters."""

    since: str
    seconds: float | None = None


class _Use(msgspec.Struct, frozen=True):
    """What an actor has used: seconds of runs that ended, and the runs that have not, by id."""

    seconds: float = 0.0
    runs: dict[str, _Place] = {}

    @property
    def taken(self) -> float:
        """Seconds that are used, or will be at most."""
        return self.seconds + sum(place.seconds or 0.0 for place in self.runs.values())


class Allowance:
    """What is left for one actor to start."""

    def __init__(self, engine: Engine, actor: Actor) -> None:
        self._engine = engine
        self._actor = actor
        self._most_runs: int | None = actor.most("runs")
        self._most_seconds: float | None = actor.most("run_seconds")

    def check_task(self, task: str) -> None:
        """Raise `Refused` for a task that he may not use."""
        if not self._actor.permits_task(task):
            told = f"{self._actor.name} may not use the task {task}"
            raise Refused(403, "forbidden", told)

    def check_code(self, code: str) -> None:
        """Raise `Refused` for a program that is too large for him."""
        most: int | None = self._actor.most("largest_code")
        if most is not None and (size := len(code.encode("utf-8", "replace"))) > most:
            told = f"the code has {size} bytes, at most {most} are allowed here"
            raise Refused(413, "too_large", told)

    async def start(
        self, task: str, given: Any, *, id: str | None, **options: Any
    ) -> tuple[TaskRun, bool]:
        """What `Engine.create_once` does; raises `Refused` where that would be too much."""
        self.check_task(task)
        within = self._actor.of_runs
        if self._most_runs is None and self._most_seconds is None:
            return await self._engine.create_once(task, given, id=id, within=within, **options)
        if id is not None and await self._exists(id):
            return await self._engine.create_once(task, given, id=id, within=within, **options)
        run_id = ids.named_run_id(id) if id is not None else self._new_id()
        seconds = await self._take(run_id, task)
        if seconds is not None:
            within = (*within, Bounds(timeout=seconds))
        options["within"] = within
        try:
            if id is not None:
                return await self._engine.create_once(task, given, id=id, **options)
            return await self._engine.create_run(task, given, id=run_id, **options), True
        except BaseException:
            if await self._engine.storage.get_task_run(run_id) is None:
                await self._give_back(run_id)
            raise

    def _new_id(self) -> str:
        now = times.from_text(self._engine.now())
        return ids.run_id(int(now.timestamp() * 1000), secrets.token_bytes(10))

    async def _exists(self, id: str) -> bool:
        try:
            await self._engine.get_run(ids.named_run_id(id))
        except RunNotFoundError:
            return False
        return True

    async def _take(self, run_id: str, task: str) -> float | None:
        """Take a place for a run; returns how many seconds it may take, None if that is open."""
        config = (await self._engine.get_task(task)).config
        wanted = narrowed(config, *self._actor.of_runs).timeout
        for _ in range(ATTEMPTS):
            use, version = await self._use()
            use = await self._settled(use)
            self._check_runs(use)
            seconds = self._seconds_for(use, wanted)
            place = _Place(self._engine.now(), seconds)
            runs = {**use.runs, run_id: place}
            if await self._write(msgspec.structs.replace(use, runs=runs), version):
                return seconds
        raise Refused(429, "rate_limited", "too many runs are started at once", Retry_After="1")

    def _check_runs(self, use: _Use) -> None:
        if self._most_runs is not None and len(use.runs) >= self._most_runs:
            most = f"{self._actor.name} may have {self._most_runs} unfinished at a time"
            told = f"no more runs can be started now: {most}"
            raise Refused(429, "run_limit", told, "try again when one has ended", Retry_After="5")

    def _seconds_for(self, use: _Use, wanted: float | None) -> float | None:
        if self._most_seconds is None:
            return None
        left = self._most_seconds - use.taken
        if left <= 0:
            used = f"the {self._most_seconds:g} s of runs that {self._actor.name} may start"
            raise Refused(
                403,
                "run_time_used",
                f"{used} are used, or reserved for those that have not ended",
                "a task with a timeout reserves no more than that",
            )
        return least(left, wanted)

    async def _settled(self, use: _Use) -> _Use:
        """Without the runs that have ended, whose time is counted."""
        seconds, runs = use.seconds, {}
        now = self._engine.now()
        for run_id, place in use.runs.items():
            run = await self._engine.storage.get_task_run(run_id)
            age = times.seconds_between(place.since, now)
            if run is None and age > LOST_AFTER:  # it was deleted, and could have taken all of it
                seconds += min(age, place.seconds or 0.0)
            elif run is not None and run.status.is_final:
                took = times.seconds_between(place.since, run.ended_at or now)
                seconds += max(0.0, min(took, place.seconds or 0.0))
            else:
                runs[run_id] = place
        return _Use(seconds, runs)

    async def _give_back(self, run_id: str) -> None:
        """Take a place out again whose run was not created after all."""
        for _ in range(ATTEMPTS):
            use, version = await self._use()
            runs = {one: place for one, place in use.runs.items() if one != run_id}
            if await self._write(msgspec.structs.replace(use, runs=runs), version):
                return

    async def _use(self) -> tuple[_Use, int]:
        found = await self._engine.storage.get_document(COLLECTION, self._actor.id)
        if found is None:
            return _Use(), 0
        return msgspec.convert(found.value, _Use), found.version

    async def _write(self, use: _Use, version: int) -> bool:
        try:
            await self._engine.storage.put_document(
                COLLECTION, self._actor.id, msgspec.to_builtins(use), if_version=version
            )
        except DocumentChangedError:
            return False
        return True
