"""A program does the same whoever performs its requests, and however often its state is lost."""

import asyncio
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequential.config import Settings
from sequential.core import times
from sequential.core.journal import fingerprint
from sequential.core.model import TaskConfig
from sequential.flow import FlowTask, SequentialFlow
from sequential.flow import flow_state as state_module
from sequential.runner.engine import Engine
from sequential.services.base import CallError
from sequential.services.clock import ClockService
from sequential.services.registry import Services
from sequential.storage.memory import MemoryAdapter
from sequential.storage.registry import create_adapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService
from support.flow_places import Bucket
from support.programs import programs, work

CHECKS = [HealthCheck.too_slow]
WORK = """
async def work(i):
    return (await fetch("work/%d" % i)).json()
"""


def with_fetch(source: str) -> str:
    """The program with requests in place of its calls of a service."""
    source = source.replace("services.tool.work(", "work(")
    for number in range(41):
        tool = f"call_host_tool('tool', 'work', [{number}])"
        source = source.replace(tool, f"call({number})")
    return WORK + source.replace("len(seen)", "7")  # which depends on the order of answers


def response(url: str) -> Any:
    """What the other side says: a value, or that the request failed."""
    try:
        return {"status": 200, "json": work(int(url.rpartition("/")[2]))}
    except OSError as error:
        return {"error": str(error)}


def fetch(url: str, **_: Any) -> Any:
    """The same for an engine."""
    said = response(url)
    if "error" in said:
        raise CallError("OSError", said["error"])
    text = json.dumps(said["json"])
    return {"status": 200, "headers": [], "url": url, "text": text}


Seen = tuple[str, list[str], list[str]]


async def by_engine(source: str) -> tuple[Seen, list[str]]:
    """The status, the sorted parts of the result, and the sorted log; and what was asked for."""
    http = FakeService("http", {"fetch": fetch})
    engine = Engine(
        MemoryAdapter(),
        Services([ClockService(), http]),
        Settings(project=Path()),
        secret=b"k" * 32,
        clock=FakeClock(patience=0.0005),
    )
    try:
        await engine.store_task("job", source, TaskConfig(name="job"))
        run = await engine.run("job")
        log = "".join(line.text for line in await engine.get_log(run.id))
        calls = [c for c in await engine.list_calls(run.id) if c.operation == "http.fetch"]
        status = "completed" if run.status == "completed" else "error"
        result = sorted(map(repr, run.value)) if status == "completed" else []
        return (status, result, sorted(log.split("\n"))), sorted(c.fingerprint for c in calls)
    finally:
        await engine.close()


class Caller:
    """Performs the requests of a flow, in any order, and loses what can be lost."""

    def __init__(self, data: Any, kind: str, storage: Any) -> None:
        self.data = data
        self.kind = kind
        self.storage = storage
        self.asked: dict[str, str] = {}  # fingerprints by request
        self.log = ""

    async def to_end(self, source: str) -> Seen:
        task = await SequentialFlow.execute(
            {"name": "job", "code": source},
            storage=self.storage,
            save_to_storage=self.kind != "carried",
        )
        while True:
            self.log += task.log
            self.note(task)
            if task.status != "paused":
                break
            await self.lose(task)
            task = await self.step(task, self.storage)
        result = sorted(map(repr, task.result)) if task.status == "completed" else []
        return task.status.value, result, sorted(self.log.split("\n"))

    def note(self, task: FlowTask) -> None:
        for one in task.fetch_requests:
            asked = fingerprint("http.fetch", {"url": one.url, **one.options})
            assert self.asked.setdefault(one.id, asked) == asked

    async def step(self, task: FlowTask, storage: Any) -> FlowTask:
        given = FlowTask.from_json(task.to_json()) if self.kind == "carried" else task.id
        if not task.fetch_requests:
            clock = SequentialFlow.clock
            assert isinstance(clock, FakeClock)
            now = times.to_text(clock.now())
            clock.advance(max(0.0, times.seconds_between(now, task.wake_at or now)))
            return await SequentialFlow.resume(given, storage=storage)
        request = self.data.draw(st.sampled_from(task.fetch_requests))
        return await SequentialFlow.resume(
            given, response(request.url), request_id=request.id, storage=storage
        )

    async def lose(self, task: FlowTask) -> None:
        """Lose the snapshot, or a whole step that somebody took and could not write down."""
        what = self.data.draw(st.sampled_from(["nothing", "snapshot", "step"]))
        if what == "snapshot" and self.kind != "carried":
            state_module._own_secret = bytes([state_module._own_secret[0] ^ 1]) * 32
        if what == "step" and self.kind == "records":
            copy = Bucket()
            copy.objects = dict(self.storage.objects)
            await self.step(task, copy)


@settings(max_examples=40, deadline=None, suppress_health_check=CHECKS)
@given(
    source=programs().filter(lambda source: "random" not in source.partition("job")[2]),
    kind=st.sampled_from(["records", "adapter", "carried"]),
    data=st.data(),
)
def test_a_flow_is_what_an_engine_makes_of_the_program(source: str, kind: str, data: Any) -> None:
    source = with_fetch(source)

    async def compare() -> None:
        expected, asked = await by_engine(source)
        storage = await create_adapter("memory:") if kind == "adapter" else Bucket()
        caller = Caller(data, kind, storage)
        assert await caller.to_end(source) == expected
        assert set(caller.asked.values()) <= set(asked)
        if expected[0] == "completed":
            assert sorted(caller.asked.values()) == asked

    real, secret = SequentialFlow.clock, state_module._own_secret
    SequentialFlow.clock = FakeClock(patience=0.0005)
    try:
        asyncio.run(compare())
    finally:
        SequentialFlow.clock, state_module._own_secret = real, secret
