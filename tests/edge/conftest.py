"""Functions that live as long as a test wants, on a store that outlives them."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sequential.config import load_settings
from sequential.core.model import InputField, StackRun, TaskConfig, TaskRun
from sequential.edge import Edge, Request, Response
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService

TOKEN = "let-me-in"
SECRET = "nobody knows"
URL = "https://function.example"
NUMBER = (InputField("n", type="number"),)

STEPS = """
async def steps(n):
    found = []
    for number in range(n):
        found.append(await services.tool.echo(number))
    return found
"""
APPROVAL = """
async def approval():
    first = await wait_for_event("word")
    second = await wait_for_event("word")
    return [first, second]
"""
SLEEPER = """
async def sleeper():
    await sleep(86400)
    return "awake"
"""
PARENT = """
async def parent(n):
    return await gather(*[run_task("steps", {"n": number}) for number in range(n)])
"""
TASKS = {
    "steps": (STEPS, NUMBER),
    "approval": (APPROVAL, ()),
    "sleeper": (SLEEPER, ()),
    "parent": (PARENT, NUMBER),
}


@contextlib.asynccontextmanager
async def engine_on(storage: str, project: Path, tool: FakeService) -> AsyncIterator[Engine]:
    settings = load_settings(project, adaptor=storage)
    async with Engine(settings=settings, services=[tool]) as engine:
        yield engine


class Cloud:
    """What a platform has around a function: the store, a queue of runs to go on with, a timer."""

    def __init__(self, project: Path, storage: str = "") -> None:
        self.project = project
        self.storage = storage or f"sqlite:{project / 'runs.db'}"
        self.tool = FakeService("tool", {"echo": lambda x=None: x})
        self.fired: list[str] = []
        self.scheduled: list[tuple[str, str]] = []

    def function(self, **options: Any) -> Edge:
        """A function that was not called yet."""
        given: dict[str, Any] = {
            "project": self.project,
            "services": [self.tool],
            "token": TOKEN,
            "secret": SECRET,
            "base_url": URL,
            "fire": self.fired.append,
            "schedule": lambda run_id, at: self.scheduled.append((run_id, at)),
        }
        storage = options.pop("storage", self.storage)
        return Edge(storage, **given | options)

    @contextlib.asynccontextmanager
    async def invoked(self, **options: Any) -> AsyncIterator[Edge]:
        edge = self.function(**options)
        try:
            yield edge
        finally:
            await edge.close()

    @contextlib.asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        async with engine_on(self.storage, self.project, self.tool) as engine:
            yield engine

    async def deploy(self) -> None:
        async with self.engine() as engine:
            for name, (code, inputs) in TASKS.items():
                await engine.store_task(name, code, TaskConfig(name=name, inputs=inputs))

    async def run(self, run_id: str) -> TaskRun:
        async with self.engine() as engine:
            return await engine.get_run(run_id)

    async def calls(self, run_id: str) -> list[StackRun]:
        async with self.engine() as engine:
            return await engine.list_calls(run_id)

    async def deliver(self, edge: Edge) -> int:
        """Deliver what was fired, and what that fires, one after the other; how many it were."""
        count = 0
        while self.fired:
            await edge.hops.resume(self.fired.pop(0))
            count += 1
        return count


@pytest.fixture
async def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path)
    await cloud.deploy()
    return cloud


def post(path: str, body: Any = None, *, token: str = TOKEN, **headers: str) -> Request:
    """A request of somebody who has the token."""
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    path, _, query = path.removeprefix(URL).partition("?")
    sent = {"authorization": f"Bearer {token}", **headers}
    fields = dict(part.split("=", 1) for part in query.split("&")) if query else {}
    return Request("POST", unquote(path), sent, fields, content)


def get(path: str, **headers: str) -> Request:
    asked = post(path, **headers)
    return Request("GET", asked.path, asked.headers, asked.query)


def code_of(response: Response) -> tuple[int, str]:
    """The status and the word for machines of a refusal, which is one line."""
    document = response.json
    assert set(document) == {"error", "code"}
    assert "\n" not in document["error"]
    return response.status, document["code"]
