"""Handlers that end their process or exceed a limit: an error of their state, like any other."""

import json

import pytest

from runtimes.graph.conftest import handlers, over
from sequential.core.model import Limits, Status, TaskConfig
from sequential.runner.engine import Engine
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock
from sequential.testing.services import FakeService

GRAPH = {
    "initial": "work",
    "states": {
        "work": {"onDone": "end", "onError": "handle"},
        "handle": {"onDone": "end"},
        "end": {"type": "final"},
    },
}
HANDLE = "\ndef handle(error):\n    return [error['name'], error['message']]\n"

KILLS_ITS_PROCESS = """
class P:
    pass
async def work(input):
    await services.tool.echo([P, P()])
"""
BAD = {
    "process": (KILLS_ITS_PROCESS, Limits(), "RuntimeError", "ended its sandbox process"),
    "memory": (
        "def work(input):\n    return ['x' * 1000 for _ in range(10 ** 6)]\n",
        Limits(memory_mb=16),
        "MemoryError",
        "",
    ),
    "recursion": (
        "def work(input):\n    return work(input)\n",
        Limits(),
        "RecursionError",
        "",
    ),
    "result": (
        "def work(input):\n    return 'x' * 100_000\n",
        Limits(result_kb=64),
        "",
        "limits.result_kb",
    ),
    "output": (
        "def work(input):\n    for _ in range(9999):\n        print('x' * 1000)\n",
        Limits(output_kb=64),
        "",
        "64 KiB",
    ),
    "computing": ("def work(input):\n    while True: pass\n", Limits(turn_seconds=0.2), "", "0.2"),
}


@pytest.mark.parametrize("fault", BAD)
async def test_what_a_handler_does_to_its_process_is_an_error_of_its_state(fault: str) -> None:
    code, limits, name, message = BAD[fault]
    tool = FakeService("tool", {"echo": lambda value: value})
    async with Engine(MemoryAdapter(), services=[tool], clock=FakeClock()) as engine:
        config = TaskConfig(name="job", graph=json.dumps(GRAPH), limits=limits)
        await engine.store_task("job", code + HANDLE, config)
        run = await over(await engine.start("job"))
        assert run.status is Status.COMPLETED, run.error
        assert name in run.result[0]
        assert message in run.result[1]
        assert await handlers(engine, run) == [("work", "failed"), ("handle", "completed")]


async def test_a_handler_that_ends_its_process_is_tried_again_as_its_state_says() -> None:
    invoke = {"src": "work", "retry": {"retries": 1}, "onDone": "end", "onError": "end"}
    graph = {"initial": "work", "states": {"work": {"invoke": invoke}, "end": {"type": "final"}}}
    tool = FakeService("tool", {"echo": lambda value: value})
    async with Engine(MemoryAdapter(), services=[tool], clock=FakeClock()) as engine:
        config = TaskConfig(name="job", graph=json.dumps(graph))
        await engine.store_task("job", KILLS_ITS_PROCESS, config)
        run = await over(await engine.start("job"))
        assert run.status is Status.COMPLETED, run.error
        assert await handlers(engine, run) == [("work", "failed")] * 2


async def test_without_an_on_error_the_run_fails_with_what_the_handler_did() -> None:
    graph = {"initial": "work", "states": {"work": {"onDone": "end"}, "end": {"type": "final"}}}
    tool = FakeService("tool", {"echo": lambda value: value})
    async with Engine(MemoryAdapter(), services=[tool], clock=FakeClock()) as engine:
        config = TaskConfig(name="job", graph=json.dumps(graph))
        await engine.store_task("job", KILLS_ITS_PROCESS, config)
        run = await over(await engine.start("job"))
        assert run.status is Status.FAILED
        assert "ended its sandbox process" in str(run.error)
