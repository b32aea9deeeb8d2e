"""The hops of a run: in each invocation it goes on for a while, and the next one is asked for.

What is asked for may get lost, and a function may be killed at any moment. The run is safe in its
store then, and due; `sweep`, called by a timer, finds it.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sequential.core import times
from sequential.core.model import Status, TaskRun
from sequential.edge import fire
from sequential.edge.warm import WarmEngine
from sequential.errors import (
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    SequentialError,
)
from sequential.runner.engine import Engine
from sequential.runner.links import Links

MOST = 100  # runs that are asked for by one invocation; a later sweep finds the others

Fire = Callable[[str], Awaitable[Any] | Any]  # fire(run_id)
Schedule = Callable[[str, str], Awaitable[Any] | Any]  # schedule(run_id, wake_at)

log = logging.getLogger("sequential.edge")


class Hops:
    """Drives runs for `budget` seconds at a time and asks for what comes next.

    `base_url` says where this function is reached, or nothing while that is not known.
    """

    def __init__(
        self,
        warm: WarmEngine,
        links: Callable[[], Links],
        base_url: Callable[[], str],
        *,
        budget: float,
        fire: Fire | None,
        schedule: Schedule | None,
    ) -> None:
        self._warm = warm
        self._links = links
        self._base_url = base_url
        self._budget = budget
        self._fire = fire
        self._schedule = schedule

    async def start(
        self, task: str, input: Mapping[str, Any], run_id: str | None, seconds_left: float | None
    ) -> TaskRun:
        """Create a run, unless there is one of this id already, and begin to drive it."""
        engine = await self._warm.get()
        try:
            run = await engine.create_run(task, input, id=run_id)
        except RunExistsError:
            assert run_id is not None
            run = await engine.get_run(run_id)
            if run.task_identifier != task:
                raise RunExistsError(
                    f"run {run_id} is one of the task {run.task_identifier}: give another id"
                ) from None
        try:
            return await self.resume(run.id, seconds_left)
        except RunBusyError:  # another delivery of the same request was quicker, or too many go on
            return await engine.get_run(run.id)

    async def resume(self, run_id: str, seconds_left: float | None = None) -> TaskRun:
        """Go on with a run that is due, and ask for the next invocation; the run as it is then.

        Raises `RunNotFoundError`, and `RunBusyError` when another invocation drives it.
        """
        engine = await self._warm.get()
        run = await engine.get_run(run_id)
        if run.status is Status.RUNNING or _is_due(run, engine):
            try:
                await engine.drive(run_id, self._time(seconds_left))
            except (LeaseLostError, InvalidTransitionError):
                pass  # another invocation took it over, or an operator stepped in
            run = await engine.get_run(run_id)
        await self._tell(engine, run)
        return run

    async def answer(self, run_id: str, event: str, data: Any, answer_id: str | None) -> TaskRun:
        """Write an answer down, and ask for an invocation that goes on with the run."""
        engine = await self._warm.get()
        run = await engine.answer(run_id, event, data, id=answer_id)
        if run.status.is_final or run.status is Status.PAUSED:
            return run
        if self._can_ask():
            await self._ask(run_id)
            return run
        try:
            return await self.resume(run_id)
        except RunBusyError:  # who drives it is told of the answer
            return run

    async def sweep(self, seconds_left: float | None = None) -> list[str]:
        """Go on with what is due: by an invocation for each run, else in this one.

        That includes the runs that schedules ask for.
        """
        engine = await self._warm.get()
        await self._fire_schedules(engine)
        due = await engine.storage.wakeups(engine.now(), MOST)
        if self._can_ask():
            await asyncio.gather(*map(self._ask, due))
        else:
            await asyncio.gather(*(self._drive_quietly(run_id, seconds_left) for run_id in due))
        return due

    async def _fire_schedules(self, engine: Engine) -> None:
        """Create the runs that are due; what keeps one is logged once, and keeps nothing else."""
        before = dict(engine.schedules.troubles)
        try:
            await engine.schedules.fire_due()
        except SequentialError as error:
            log.warning("schedules could not be looked at: %s", error)
        for key, trouble in engine.schedules.troubles.items():
            if key not in before:
                log.warning("schedule %s: %s", key, trouble)

    async def get(self, run_id: str) -> TaskRun:
        """A run as it is; raises `RunNotFoundError`."""
        return await (await self._warm.get()).get_run(run_id)

    async def _drive_quietly(self, run_id: str, seconds_left: float | None) -> None:
        try:
            await self.resume(run_id, seconds_left)
        except (RunBusyError, RunNotFoundError):
            pass
        except SequentialError as error:  # the other runs are not kept waiting
            log.warning("run %s could not go on: %s", run_id, error)

    def _time(self, seconds_left: float | None) -> float:
        """The budget, but not more than half of what is left: a turn may take longer."""
        return (
            self._budget if seconds_left is None else max(0.0, min(self._budget, seconds_left / 2))
        )

    # --- what comes next -------------------------------------------------------------------------

    async def _tell(self, engine: Engine, run: TaskRun) -> None:
        """Ask for an invocation for each run that can go on now because of this one."""
        if run.status.is_final:
            if run.parent_run_id and await self._waits_for_nothing(engine, run.parent_run_id):
                await self._ask(run.parent_run_id)
            return
        if run.status is not Status.SUSPENDED:
            return
        if _is_due(run, engine):
            await self._ask(run.id)
        elif run.wake_at and self._schedule is not None:
            await self._call(self._schedule, run.id, run.wake_at)
        begun = await engine.storage.query_task_runs(
            parent_run_id=run.id, status=Status.PENDING, limit=MOST
        )
        await asyncio.gather(*(self._ask(child.id) for child in begun))

    async def _waits_for_nothing(self, engine: Engine, run_id: str) -> bool:
        try:
            return _is_due(await engine.get_run(run_id), engine)
        except RunNotFoundError:
            return False

    def _can_ask(self) -> bool:
        return self._fire is not None or bool(self._base_url())

    async def _ask(self, run_id: str) -> None:
        """Ask for the next invocation; what goes wrong is logged, as a sweep finds the run."""
        if self._fire is not None:
            await self._call(self._fire, run_id)
        elif base_url := self._base_url():
            try:
                await fire.post(base_url + self._links().resume(run_id))
            except (OSError, TimeoutError, ValueError) as error:
                log.warning("run %s: /resume could not be asked for: %s", run_id, error)

    async def _call(self, hook: Callable[..., Any], *arguments: str) -> None:
        try:
            done = hook(*arguments)
            if inspect.isawaitable(done):
                await done
        except Exception:  # it is the user's; the run is safe, and a sweep finds it
            log.exception("run %s: %s failed", arguments[0], getattr(hook, "__name__", hook))


def _is_due(run: TaskRun, engine: Engine) -> bool:
    """Whether driving the run does more than putting it away again.

    A wait shorter than `park_after` is waited out by whoever drives the run; besides, the clocks of
    two machines differ.
    """
    if run.status is Status.PENDING:
        return run.wake_at is None or _seconds_to(run.wake_at, engine) <= 0
    if run.status is not Status.SUSPENDED or run.wake_at is None:
        return False
    return _seconds_to(run.wake_at, engine) <= engine.settings.runner.park_after


def _seconds_to(moment: str, engine: Engine) -> float:
    return times.seconds_between(engine.now(), moment)
