"""Runs that this process follows to their end, through every wait, and the children they start."""

import asyncio
from collections.abc import Awaitable, Callable

from sequential.core import times
from sequential.core.model import Status, TaskRun
from sequential.errors import (
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
    StorageError,
    TaskLimitError,
)
from sequential.runner.clock import Clock
from sequential.runner.news import News
from sequential.runner.task_executor import TaskExecutor

TROUBLE = 1.0  # seconds until a run that met trouble in the store is taken up again


class Following:
    """Drives runs again whenever they are due, until they have ended or `stop` is called."""

    def __init__(
        self,
        executor: TaskExecutor,
        news: News,
        clock: Clock,
        get_run: Callable[[str], Awaitable[TaskRun]],
    ) -> None:
        self._executor = executor
        self._news = news
        self._clock = clock
        self._get_run = get_run
        self._followed: dict[str, asyncio.Task[None] | None] = {}
        self._again: set[str] = set()  # wanted anew while they were being let go
        self._stopped = asyncio.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is driven any more."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Follow nothing any more."""
        self._stopped.set()

    async def end(self) -> None:
        """Return when what was followed in the background has been put away."""
        beside = [task for task in self._followed.values() if task is not None]
        await asyncio.gather(*beside, return_exceptions=True)

    async def to_end(self, run_id: str) -> TaskRun:
        """Drive a run to its end, and the children it waits for; raises `RunBusyError`."""
        await self._news.watch()
        is_first = run_id not in self._followed
        self._followed.setdefault(run_id, None)
        try:
            with self._news.about(run_id) as news:
                return await self._to_rest(run_id, news)
        finally:
            if is_first:
                self._forget(run_id)

    def beside(self, run_id: str) -> None:
        """Drive a run to its end in the background, and take it up again when others let it go."""
        if self.is_stopped:
            return
        if run_id in self._followed:
            self._again.add(run_id)
            return
        self._followed[run_id] = task = asyncio.create_task(self._stay_with(run_id))

        def forget(done: asyncio.Task[None]) -> None:
            if not done.cancelled():
                done.exception()  # who waits for the run sees what became of it
            self._forget(run_id)

        task.add_done_callback(forget)

    def _forget(self, run_id: str) -> None:
        del self._followed[run_id]
        if run_id in self._again:
            self._again.discard(run_id)
            self.beside(run_id)

    def child(self, child: TaskRun) -> bool:
        """Drive the child of a run that is followed here; workers find theirs: then it is False."""
        if child.parent_run_id in self._followed and child.id not in self._followed:
            self.beside(child.id)
        return child.id in self._followed

    async def wait(self, run_id: str, timeout: float | None) -> TaskRun:
        """A run, whoever drives it, when it has ended, or as it is after `timeout` seconds."""
        await self._news.watch()
        end = None if timeout is None else times.after(self._now(), timeout)
        with self._news.about(run_id) as news:
            while True:
                news.clear()
                run, now = await self._get_run(run_id), self._now()
                if run.status.is_final or self.is_stopped or (end and now >= end):
                    return run
                await self._news.wait(news, times.seconds_between(now, end) if end else None)

    async def _stay_with(self, run_id: str) -> None:
        while not self.is_stopped:
            try:
                if (await self.to_end(run_id)).status.is_final:
                    return
            except RunBusyError:
                pass
            except StorageError:
                await self._clock.wait(self._stopped, TROUBLE)
                continue
            with self._news.about(run_id) as news:  # it is paused, or others drive it
                await self._news.wait(news, None)

    async def _to_rest(self, run_id: str, news: asyncio.Event) -> TaskRun:
        run = await self._get_run(run_id)
        while not self._rests(run):
            try:
                run = await self._executor.execute(run_id)
            except TaskLimitError:
                await self._news.wait(news, None)
                news.clear()
                continue
            except (LeaseLostError, InvalidTransitionError):
                run = await self._get_run(run_id)  # an operator stepped in: see what became of it
                continue
            if not self._rests(run):
                run = await self._until_due(run_id, news)
        return run

    def _rests(self, run: TaskRun) -> bool:
        return run.status.is_final or run.status is Status.PAUSED or self.is_stopped

    async def _until_due(self, run_id: str, news: asyncio.Event) -> TaskRun:
        while True:
            news.clear()
            run, now = await self._get_run(run_id), self._now()
            if self._rests(run) or (run.wake_at and run.wake_at <= now):
                return run
            seconds = times.seconds_between(now, run.wake_at) if run.wake_at else None
            await self._news.wait(news, seconds)

    def _now(self) -> str:
        return times.to_text(self._clock.now())
