"""Engines for measuring: a trivial service, the real sandbox, a chosen store."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from sequential.config import Settings
from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.services.clock import ClockService
from sequential.services.events import EventsService
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter
from sequential.testing.services import FakeService

LOOP = """
async def job(input):
    total = 0
    for i in range(input["steps"]):
        total += (await services.tool.step(i))["n"]
    return total
"""


def answer(i: int) -> dict[str, int]:
    return {"n": i}


@contextlib.asynccontextmanager
async def engine(
    storage: StorageAdapter,
    code: str = LOOP,
    step: Callable[[int], dict[str, int]] = answer,
    **runner: Any,
) -> AsyncIterator[Engine]:
    """An engine with the task `job`, whose steps call a function that returns a small dict."""
    tool = FakeService("tool", {"step": step})
    made = Engine(
        storage,
        Services([ClockService(), EventsService(), tool]),
        Settings(project=Path(), runner=RunnerSettings(**runner)),
        secret=b"b" * 32,
    )
    try:
        await made.store_task("job", code, TaskConfig(name="job"))
        yield made
    finally:
        await made.close()
