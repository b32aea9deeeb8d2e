"""Hostile programs: each fails its own run, with a message that names the limit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sequential.core.model import Failure, Finished, Limits, Outcome, Raised, Waiting
from sequential.runtimes.base import Program
from sequential.runtimes.sandbox.pool import SandboxPool
from sequential.runtimes.sandbox.runtime import SandboxRuntime

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(memory_mb=64, turn_seconds=0.3, recursion=200, output_kb=64, result_kb=64)


@pytest.fixture
async def pool() -> AsyncIterator[SandboxPool]:
    pool = SandboxPool(2)
    yield pool
    await pool.close()


async def outcome(pool: SandboxPool, source: str, limits: Limits = LIMITS) -> Finished | Failure:
    """Run a program whose calls all answer 1."""
    program = Program("run", "job", source, methods=("tool.echo",), limits=limits)
    runtime = SandboxRuntime(pool)
    try:
        turn = await runtime.start(program, {}, NOW)
        while isinstance(turn.state, Waiting):
            answers = [(sequence, Outcome(value=1)) for sequence in turn.state.calls]
            turn = await runtime.resume(answers, NOW)
    finally:
        await runtime.close()
    return turn.state.error if isinstance(turn.state, Raised) else turn.state


@pytest.mark.parametrize(
    ("body", "type", "message"),
    [
        ("while True: pass", "TimeoutError", "more than 0.3 s between two calls"),
        (
            "try:\n        while True: pass\n    except BaseException: return 1",
            "TimeoutError",
            "limits.turn_seconds",
        ),
        ("x = [0]\n    while True: x = x + x", "MemoryError", "more than 64 MiB of memory"),
        ("return 'x' * (1 << 40)", "MemoryError", "limits.memory_mb"),
        ("return 10 ** (10 ** 9)", "MemoryError", "limits.memory_mb"),
        ("def f(n): return f(n + 1)\n    f(0)", "RecursionError", "limits.recursion"),
        ("while True: print('x' * 1000)", "MemoryError", "printed more than 64 KiB"),
        ("return 'x' * 100_000", "TypeError", "the result is 100002 bytes, at most 65536"),
        ("import time\n    while True: time.time()", "RuntimeError", "asked for the time more"),
        ("while True: services.tool.echo(1)", "RuntimeError", "more than 20000 calls"),
        ("await services.tool.echo('x' * 100_000)", "TypeError", "the arguments of tool.echo"),
        ("return open('/etc/passwd').read()", "PermissionError", ""),
        ("import os\n    return os.environ['PATH']", "RuntimeError", ""),
        ("return job.__globals__", "AttributeError", ""),
        ("return ().__class__.__bases__", "AttributeError", ""),
        ("import subprocess", "ModuleNotFoundError", "subprocess"),
        ("return lambda: 1", None, None),
        ("class A: pass\n    return A()", "TypeError", "an instance of the task's own class"),
        ("raise SystemExit('bye')", "SystemExit", "bye"),
        ("await __fetch__({'url': 'x'}, 'y')", "TypeError", "fetch() takes"),
        ("await __fetch__({1: 'x'}, 3)", "TypeError", "fetch() takes"),
        ("await __fetch__(1)", "TypeError", ""),
        ("await call_host_tool('tool')", "TypeError", ""),
        ("await call_host_tool('', 'echo')", "TypeError", "names of a service"),
        ("await call_host_tool('tool', 'echo', 5)", "TypeError", "as a dict, or as a list"),
        ("await call_host_tool('tool', 'echo', {1: 2})", "TypeError", "names are strings"),
    ],
)
async def test_a_hostile_program_fails_alone(
    pool: SandboxPool, body: str, type: str | None, message: str
) -> None:
    source = f"async def job():\n    {body}\n"
    friendly = "async def job():\n    return await services.tool.echo(2)\n"
    hostile, good = await asyncio.gather(outcome(pool, source), outcome(pool, friendly))
    assert good == Finished(1)
    if type is None:
        assert isinstance(hostile, Finished)
    else:
        assert isinstance(hostile, Failure), hostile
        assert hostile.type == type
        assert message in hostile.message


async def test_an_endless_loop_of_calls_can_be_stopped_between_turns(pool: SandboxPool) -> None:
    source = "async def job():\n    while True: await services.tool.echo(1)\n"
    runtime = SandboxRuntime(pool)
    turn = await runtime.start(Program("run", "job", source, methods=("tool.echo",)), {}, NOW)
    for sequence in range(50):
        assert turn.state == Waiting((sequence,))
        turn = await runtime.resume([(sequence, Outcome(value=1))], NOW)
    await runtime.close()


async def test_computing_counts_over_all_turns(pool: SandboxPool) -> None:
    source = """
async def job():
    while True:
        for _ in range(100_000): pass
        await services.tool.echo(1)
"""
    limits = Limits(turn_seconds=5, cpu_seconds=0.1)
    failure = await outcome(pool, source, limits)
    assert isinstance(failure, Failure)
    assert failure.code == "limit"
    assert "limits.cpu_seconds" in failure.message


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"$dict": [[1, 2]]}, id="keys that are no strings"),
        pytest.param({"$bytes": "AAEC"}, id="bytes"),
        pytest.param({"$set": [1, 2]}, id="set"),
        pytest.param([1, [2, {"a": None}]], id="nested"),
        pytest.param({"$float": "inf"}, id="infinity"),
        pytest.param(2**100, id="big integer"),
    ],
)
async def test_values_come_back_as_they_went(pool: SandboxPool, value: Any) -> None:
    runtime = SandboxRuntime(pool)
    source = "async def job():\n    return await services.tool.echo(1)\n"
    await runtime.start(Program("run", "job", source, methods=("tool.echo",)), {}, NOW)
    turn = await runtime.resume([(0, Outcome(value=value))], NOW)
    assert turn.state == Finished(value)
    await runtime.close()
