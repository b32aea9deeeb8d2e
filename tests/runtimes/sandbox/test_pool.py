"""The processes of the sandbox: shared, replaced, and gone in the end."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Finished, Outcome, Waiting
from sequential.errors import RuntimeDiedError
from sequential.runtimes.sandbox import pool as pool_module
from sequential.runtimes.sandbox.pool import SandboxPool
from sequential.runtimes.sandbox.runtime import SandboxRuntime
from support.sandbox_driving import NOW, program, result

THREE_CALLS = """\
  total = 0
  for n in range(3):
    total += await services.tool.echo(n)
  return total"""


def processes() -> set[int]:
    """The sandbox processes that this process has started."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent, *_ = rest.split()
        if name == "monty" and int(parent) == os.getpid() and state != "Z":
            found.add(int(entry.parent.name))
    return found


async def until_gone(left: set[int]) -> None:
    for _ in range(100):
        if processes() <= left:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"processes that were left behind: {processes() - left}")


async def test_many_programs_share_one_process() -> None:
    before = processes()
    pool = SandboxPool(1)
    async with asyncio.timeout(10):
        found = await asyncio.gather(*[result(pool, THREE_CALLS) for _ in range(40)])
    assert found == [3] * 40
    assert len(processes() - before) == 1
    await pool.close()
    await until_gone(before)


async def test_who_waits_for_a_process_does_not_hold_up_who_has_one() -> None:
    pool = SandboxPool(1)
    first, second = SandboxRuntime(pool), SandboxRuntime(pool)
    await first.start(program("  return await services.tool.echo(1)"), {}, NOW)
    starting = asyncio.create_task(second.start(program("  return 2"), {}, NOW))
    await asyncio.sleep(0.02)
    assert not starting.done()
    async with asyncio.timeout(5):
        assert await first.snapshot()
        assert (await first.resume([(0, Outcome(value=1))], NOW)).state == Finished(1)
        assert (await starting).state == Finished(2)
    await pool.close()


async def test_who_gives_up_waiting_takes_nothing() -> None:
    pool = SandboxPool(1)
    first, second = SandboxRuntime(pool), SandboxRuntime(pool)
    await first.start(program("  await services.tool.echo(1)"), {}, NOW)
    starting = asyncio.create_task(second.start(program("  return 2"), {}, NOW))
    await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await second.close()
    await first.close()
    async with asyncio.timeout(5):
        assert await result(pool, "  return 3") == 3
    await pool.close()


async def test_a_killed_process_is_replaced() -> None:
    before = processes()
    pool = SandboxPool(2)
    runtime = SandboxRuntime(pool)
    await runtime.start(program(THREE_CALLS), {}, NOW)
    snapshot = await runtime.snapshot()
    assert snapshot
    for _ in range(3):
        for process in processes() - before:
            os.kill(process, signal.SIGKILL)
        with pytest.raises(RuntimeDiedError):
            await runtime.resume([(0, Outcome(value=0))], NOW)
        assert await runtime.restore(program(THREE_CALLS), snapshot) == Waiting((0,))
    assert (await runtime.resume([(0, Outcome(value=0))], NOW)).state == Waiting((1,))
    await runtime.close()
    await pool.close()
    await until_gone(before)


async def test_a_snapshot_of_a_killed_process_is_an_error_of_its_own() -> None:
    before = processes()
    pool = SandboxPool(1)
    runtime = SandboxRuntime(pool)
    await runtime.start(program(THREE_CALLS), {}, NOW)
    for process in processes() - before:
        os.kill(process, signal.SIGKILL)
    with pytest.raises(RuntimeDiedError):
        await runtime.snapshot()
    await runtime.close()
    assert await result(pool, "  return 1") == 1
    await pool.close()


async def test_idle_processes_that_are_killed_are_not_missed() -> None:
    before = processes()
    pool = SandboxPool(2)
    assert await result(pool, "  return 1") == 1
    for process in processes() - before:
        os.kill(process, signal.SIGKILL)
    await asyncio.sleep(0.01)
    assert await asyncio.gather(*[result(pool, "  return 1") for _ in range(4)]) == [1] * 4
    await pool.close()


async def test_closing_ends_programs_that_wait() -> None:
    before = processes()
    pool = SandboxPool(2)
    runtime = SandboxRuntime(pool)
    await runtime.start(program(THREE_CALLS), {}, NOW)
    async with asyncio.timeout(5):
        await pool.close()
    await until_gone(before)
    with pytest.raises(RuntimeDiedError, match="were ended"):
        await runtime.resume([(0, Outcome(value=0))], NOW)
    await runtime.close()
    await pool.close()


async def test_a_pool_that_was_never_used_has_no_process() -> None:
    before = processes()
    pool = SandboxPool(2)
    assert processes() == before
    await pool.close()


async def test_what_programs_start_from_is_made_once_for_each_set_of_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "_MOST_PRELUDES", 3)
    pool = SandboxPool(1)

    def get(*methods: str) -> Any:
        return pool.run(lambda: pool.prelude(methods))

    first = await get("tool.echo")
    assert await get("tool.echo") is first
    assert await get("tool.other") is not first
    for number in range(5):
        await get(f"tool.method{number}")
        assert len(pool._preludes) <= 3
    assert await result(pool, "  return await services.tool.echo(7)") == 7
    await pool.close()


async def test_programs_do_not_see_each_other() -> None:
    pool = SandboxPool(1)
    source = """
seen = globals_of = None
async def job(input):
    global seen
    old, seen = seen, input["n"]
    fetch = Response = json = 5
    return old
"""
    for number in range(3):
        assert await result(pool, source, input={"n": number}) is None
    spoil = "fetch = services = settle = ConnectionError = None\ndef job(): return 1\n"
    assert await result(pool, spoil) == 1
    assert await result(pool, "  return (await settle(services.tool.echo(1)))[0]['ok']") is True
    await pool.close()
