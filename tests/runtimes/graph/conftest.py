"""Engines that run graphs, with handlers on both runtimes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sequential.core.model import TaskConfig, TaskRun
from sequential.runner.engine import Engine
from sequential.runner.run_handle import Run
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock

Start = Callable[..., Awaitable[Run]]


@pytest.fixture(params=["sandbox", "native"])
def kind(request: pytest.FixtureRequest) -> str:
    """The runtime of handlers."""
    return str(request.param)


@pytest.fixture
async def engine() -> Any:
    """An engine whose clock jumps to whatever is waited for."""
    async with Engine(MemoryAdapter(), clock=FakeClock()) as engine:
        yield engine


@pytest.fixture
def start(engine: Engine, kind: str) -> Start:
    """Stores the task `job` and starts a run of it."""

    async def begin(graph: Any, code: str = "", input: Any = None, **policy: Any) -> Run:
        config = TaskConfig(name="job", runtime=kind, graph=json.dumps(graph), **policy)
        await engine.store_task("job", code, config)
        return await engine.start("job", input)

    return begin


async def entered(engine: Engine, run: TaskRun | Run) -> list[list[str]]:
    """Ids of the states that each macrostep entered."""
    calls = await engine.list_calls(run.id)
    return [call.input["entered"] for call in calls if call.operation == "graph.step"]


async def handlers(engine: Engine, run: TaskRun | Run) -> list[tuple[str | None, str]]:
    """The handlers that a run has started, with their status."""
    children = await engine.list_children(run.id)
    return [(child.config.handler, child.status) for child in children]


async def over(run: Run) -> Run:
    """The run when it has ended; one that never does ends the test."""
    async with asyncio.timeout(10):
        return await run.wait()
