"""Leases of processes that were killed: others on the machine take over at once."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sequential.errors import RunBusyError
from sequential.runner import holder
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/ns/pid").exists(), reason="only Linux tells when a process was started"
)


def test_tokens_differ_and_their_process_lives() -> None:
    tokens = {holder.new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert not any(holder.has_died(token) for token in tokens)


@pytest.mark.parametrize(
    "token", [None, "", "token", "0123456789abcdef", "a@b", "a@b.c.d", "a@..", "a@.1.2"]
)
def test_nothing_is_said_of_tokens_that_tell_nothing(token: str | None) -> None:
    assert not holder.has_died(token)


def other_process(*, wait: bool) -> "tuple[subprocess.Popen[str], str]":
    code = "from sequential.runner.holder import new_token\nprint(new_token(), flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    token = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL if wait else signal.SIGSTOP)
    return process, token


def test_a_killed_process_has_died_even_before_its_parent_asks() -> None:
    process, token = other_process(wait=True)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert holder.has_died(token)
    process.communicate()
    assert holder.has_died(token)


def test_a_frozen_process_has_not_died() -> None:
    process, token = other_process(wait=False)
    assert not holder.has_died(token)
    process.kill()
    process.communicate()


def test_a_number_that_was_given_to_another_process_is_told_apart() -> None:
    token = holder.new_token()
    place = token.partition("@")[2].partition(".")[0]
    assert holder.has_died(f"0@{place}.{os.getpid()}.1")


def test_another_machine_may_have_a_process_of_that_number(monkeypatch: Any) -> None:
    process, token = other_process(wait=True)
    process.communicate()
    monkeypatch.setattr(holder, "_here", lambda: "elsewhere")
    assert not holder.has_died(token)


WORKER = """
import asyncio, sys
from pathlib import Path
from sequential import Engine, TaskConfig

async def main():
    async with Engine(sys.argv[1]) as engine:
        code = "async def job():\\n    await sleep(0)\\n    return await services.slow.answer()\\n"
        await engine.store_task("job", code, TaskConfig(name="job"))
        run = await engine.start("job", id="one")
        while not [c for c in await engine.list_calls(run.id) if c.operation == "slow.answer"]:
            await asyncio.sleep(0.01)
        print("driven", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
SLOW = "import asyncio\nfrom pathlib import Path\nasync def answer():\n"
SLOW += "    if Path('killed').exists():\n        return 'at once'\n    await asyncio.sleep(60)\n"


@pytest.mark.parametrize("how", ["start", "worker"])
async def test_the_run_of_a_killed_process_goes_on_before_its_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("services").mkdir()
    Path("services/slow.py").write_text(SLOW)
    command = [sys.executable, "-c", WORKER, "sqlite:./x.db"]
    killed = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert killed.stdout
    assert await killed.stdout.readline() == b"driven\n"
    async with Engine("sqlite:./x.db") as engine:
        run = await engine.get("one")
        with pytest.raises(RunBusyError):  # it lives
            await engine.drive(run.id)
        Path("killed").touch()
        killed.kill()
        await killed.wait()
        if how == "worker":
            await Worker(engine).run(until_idle=True)
        else:
            run = await engine.start("job", id="one")
        assert (await run.wait(timeout=20)).result == "at once"
        assert (await engine.list_calls(run.id))[1].attempts == 1
