"""A run as a program holds it: started, waited for, answered."""

from typing import Any, Protocol

from sequential.core.model import Failure, Status, TaskRun
from sequential.errors import RunNotCompletedError


class Runs(Protocol):
    """What a run needs of the engine, or of the client of a server, that it belongs to."""

    async def get_run(self, run_id: str) -> TaskRun: ...
    async def wait(self, run_id: str, timeout: float | None = None) -> TaskRun: ...
    async def answer(
        self, run_id: str, name: str, data: Any = None, *, id: str | None = None
    ) -> TaskRun: ...
    async def send(
        self, run_id: str, event: str, data: Any = None, *, id: str | None = None
    ) -> TaskRun: ...
    async def cancel(self, run_id: str) -> TaskRun: ...
    async def pause(self, run_id: str) -> TaskRun: ...
    async def unpause(self, run_id: str) -> TaskRun: ...
    async def retry(self, run_id: str) -> TaskRun: ...
    def drive_on(self, run_id: str) -> None: ...


class Run:
    """A run of an engine. What it says is what was last seen; `refresh` and `wait` look again."""

    def __init__(self, engine: Runs, record: TaskRun) -> None:
        self._engine = engine
        self.record = record

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.record.task_identifier

    @property
    def status(self) -> Status:
        return self.record.status

    @property
    def error(self) -> Failure | None:
        """Why it failed, with the task's own lines; None if it did not."""
        return self.record.error

    @property
    def result(self) -> Any:
        """What the task returned.

        Raises `RunNotCompletedError` with the task's error if it failed, and for a run that was
        cancelled or goes on.
        """
        if self.status is Status.COMPLETED:
            return self.record.value
        why = f": {self.error}" if self.error else ""
        hint = "" if self.status.is_final else ", wait for it first"
        raise RunNotCompletedError(f"run {self.id} of {self.task} is {self.status}{why}{hint}")

    async def wait(self, timeout: float | None = None) -> "Run":
        """The run when it has ended, or as it is after `timeout` seconds.

        A task that fails is no exception here: look at `status` and `error`, or ask for `result`.
        """
        self.record = await self._engine.wait(self.id, timeout)
        return self

    async def refresh(self) -> "Run":
        """The run as it is now."""
        self.record = await self._engine.get_run(self.id)
        return self

    async def answer(self, name: str, data: Any = None, *, id: str | None = None) -> "Run":
        """Give it what its task waits for with `wait_for_event(name)`; see `Engine.answer`."""
        self.record = await self._engine.answer(self.id, name, data, id=id)
        return self

    async def send(self, event: str, data: Any = None, *, id: str | None = None) -> "Run":
        """Send an event to its graph; see `Engine.send`."""
        self.record = await self._engine.send(self.id, event, data, id=id)
        return self

    async def cancel(self) -> "Run":
        """End it, and its child runs."""
        self.record = await self._engine.cancel(self.id)
        return self

    async def pause(self) -> "Run":
        """Stop it until it is unpaused; nothing of it is lost."""
        self.record = await self._engine.pause(self.id)
        return self

    async def unpause(self) -> "Run":
        """Let it go on, driven by this engine."""
        self.record = await self._engine.unpause(self.id)
        self._engine.drive_on(self.id)
        return self

    async def retry(self) -> "Run":
        """Make it go on from the call that failed, driven by this engine."""
        self.record = await self._engine.retry(self.id)
        self._engine.drive_on(self.id)
        return self

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.task}: {self.status}>"
