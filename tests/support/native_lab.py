"""Engines for native tasks, on a store in memory, with a service that remembers."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from sequential.config import Settings
from sequential.core.model import Failure, StackRun, Status, TaskConfig, TaskRun, evolve
from sequential.runner.engine import Engine
from sequential.runner.progress import Progress, Step
from sequential.runner.settings import RunnerSettings
from sequential.services.base import CallError
from sequential.services.clock import ClockService
from sequential.services.events import EventsService
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService

SECRET = b"k" * 32
NATIVE = TaskConfig(name="job", runtime="native")


def fail(*_: Any) -> None:
    raise CallError("OSError", "no such luck")


class NativeLab:
    """Makes engines that share a store, a service and a clock, as workers one after the other."""

    def __init__(self, storage: StorageAdapter | None = None) -> None:
        self.storage = storage or MemoryAdapter()
        self.clock = FakeClock()
        self.progress: list[Progress] = []
        self.methods(echo=lambda x=None: x, fail=fail)

    def methods(self, **methods: Callable[..., Any]) -> None:
        self.tool = FakeService("tool", methods)

    @contextlib.asynccontextmanager
    async def engine(self, **runner: Any) -> AsyncIterator[Engine]:
        engine = Engine(
            self.storage,
            Services([ClockService(), EventsService(), self.tool]),
            Settings(project=Path(), runner=RunnerSettings(**runner)),
            secret=SECRET,
            clock=self.clock,
            observer=self.progress.append,
        )
        try:
            yield engine
        finally:
            await engine.close()

    async def run(
        self, code: str, input: Any = None, config: TaskConfig = NATIVE, **runner: Any
    ) -> TaskRun:
        """Run a task to its end in one engine; `async def job` around an indented body."""
        async with self.engine(**runner) as engine:
            await self.store(engine, code, config)
            return await engine.run("job", input)

    async def value(self, code: str, input: Any = None, **runner: Any) -> Any:
        """What a task returns."""
        run = await self.run(code, input, **runner)
        assert run.status is Status.COMPLETED, str(run.error)
        return run.value

    async def failure(self, code: str, input: Any = None, **runner: Any) -> Failure:
        """The error that a task ends with."""
        run = await self.run(code, input, **runner)
        assert run.error is not None, run.value
        return run.error

    async def store(self, engine: Engine, code: str, config: TaskConfig = NATIVE) -> None:
        code = code.lstrip("\n")
        source = f"async def job(input):\n{code}" if code.startswith(" ") else code
        await engine.store_task("job", source, evolve(config, runtime="native"))

    async def calls(self, run: TaskRun) -> list[StackRun]:
        return await self.storage.query_stack_runs(task_run_id=run.id)

    async def log(self, run: TaskRun) -> str:
        return "".join(line.text for line in await self.storage.get_log(run.id))

    def replayed(self) -> list[str]:
        """What was said of replays."""
        return [one.text for one in self.progress if one.step is Step.REPLAYED]
