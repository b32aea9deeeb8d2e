"""Engines on a store in memory, with services that remember."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sequential.config import Settings
from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine
from sequential.runner.progress import Progress
from sequential.runner.settings import RunnerSettings
from sequential.services.clock import ClockService
from sequential.services.events import EventsService
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService

SECRET = b"k" * 32


class Lab:
    """Makes engines that share a store, a service and a clock, as workers one after the other."""

    def __init__(self, storage: StorageAdapter) -> None:
        self.storage = storage
        self.clock = FakeClock()
        self.progress: list[Progress] = []
        self.tool = FakeService("tool", {"echo": lambda x=None: x})

    def methods(self, **methods: Callable[..., Any]) -> None:
        self.tool = FakeService("tool", methods)

    @contextlib.asynccontextmanager
    async def engine(self, **runner: Any) -> AsyncIterator[Engine]:
        settings = Settings(project=Path(), runner=RunnerSettings(**runner))
        services = Services([ClockService(), EventsService(), self.tool])
        engine = Engine(
            self.storage,
            services,
            settings,
            secret=SECRET,
            clock=self.clock,
            observer=self.progress.append,
        )
        try:
            yield engine
        finally:
            await engine.close()

    async def run(self, code: str, input: Any = None, config: Any = None, **runner: Any) -> Any:
        """Run a task to its end; returns the run and its calls."""
        async with self.engine(**runner) as engine:
            await engine.store_task("job", code, config or TaskConfig(name="job"))
            run = await engine.run("job", input)
            return run, await engine.list_calls(run.id)


@pytest.fixture
def lab() -> Lab:
    return Lab(MemoryAdapter())
