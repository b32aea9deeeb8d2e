"""The engine as programs use it: opened by a URL, runs started, waited for and answered."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sequential import Engine, Run, Status, TaskConfig
from sequential.errors import (
    ConfigError,
    InvalidInputError,
    InvalidTaskError,
    RunExistsError,
    RunNotCompletedError,
    RunNotFoundError,
    TaskNotFoundError,
)
from sequential.storage.memory import MemoryAdapter
from sequential.task import step, task
from sequential.testing.clock import FakeClock

ADD = "def add(a, b):\n    return a + b\n"
ASK = "async def ask():\n    return await wait_for_event('colour')\n"


@task
async def order(item: str, count: int = 1) -> dict[str, object]:
    """A task in a module of one's own."""
    price = await step(price_of, item)
    return {"item": item, "total": price * count}


@task(name="big-order", timeout=60.0)
async def large(input: dict[str, int]) -> int:
    return len(input)


def price_of(item: str) -> int:
    return len(item)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_a_run_is_started_waited_for_and_has_a_result(project: Path) -> None:
    async with Engine("sqlite:./x.db") as engine:
        await engine.store_task("add", ADD, TaskConfig(name="add"))
        run = await engine.start("add", {"a": 1, "b": 2})
        assert isinstance(run, Run)
        assert (await run.wait()).result == 3
        assert (run.status, run.task, run.error) == (Status.COMPLETED, "add", None)
    assert (project / "x.db").exists()


async def test_it_waits_in_the_background_for_days() -> None:
    code = (
        "import asyncio\nasync def nap():\n    await asyncio.sleep(86400 * 30)\n    return 'up'\n"
    )
    async with Engine(MemoryAdapter(), clock=FakeClock()) as engine:
        await engine.store_task("nap", code, TaskConfig(name="nap"))
        run = await engine.start("nap")
        assert (await run.wait()).result == "up"


async def test_a_run_is_answered_by_handle_and_by_engine(project: Path) -> None:
    async with Engine("memory:") as engine:
        await engine.store_task("ask", ASK, TaskConfig(name="ask"))
        one, two = await engine.start("ask"), await engine.start("ask")
        await one.answer("colour", "red")
        await engine.answer(two.id, "colour", "blue")
        assert [(await run.wait()).result for run in (one, two)] == ["red", "blue"]


async def test_what_has_no_result_says_why(project: Path) -> None:
    async with Engine("memory:") as engine:
        await engine.store_task("ask", ASK, TaskConfig(name="ask"))
        await engine.store_task("bad", "def bad():\n    return 1 / 0\n", TaskConfig(name="bad"))
        failed = await (await engine.start("bad")).wait()
        with pytest.raises(RunNotCompletedError, match="failed: ZeroDivisionError"):
            _ = failed.result
        waiting = await (await engine.start("ask")).wait(timeout=0.01)
        with pytest.raises(RunNotCompletedError, match="wait for it first"):
            _ = waiting.result
        await waiting.pause()
        assert waiting.status is Status.PAUSED
        await waiting.answer("colour", "green")
        await waiting.unpause()
        assert (await waiting.wait()).result == "green"
        given_up = await (await engine.start("ask")).cancel()
        assert (await given_up.refresh()).status is Status.CANCELLED


async def test_a_retried_run_goes_on_here(project: Path) -> None:
    tries: list[int] = []

    @task
    async def flaky() -> str:  # not at the top of the module: used as an ordinary function below
        return "done"

    assert await flaky() == "done"
    code = "async def once():\n    return await services.tool.attempt()\n"
    from sequential.testing.services import FakeService

    def attempt() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        return "at last"

    async with Engine("memory:", [FakeService("tool", {"attempt": attempt})]) as engine:
        await engine.store_task("once", code, TaskConfig(name="once"))
        run = await (await engine.start("once")).wait()
        assert run.status is Status.FAILED
        await run.retry()
        assert (await run.wait()).result == "at last"


async def test_a_run_with_an_id_of_ones_own_is_started_once(project: Path) -> None:
    async with Engine("sqlite:./x.db") as engine:
        await engine.store_task("add", ADD, TaskConfig(name="add"))
        first = await engine.start("add", {"a": 1, "b": 2}, id="order 42 / ü")
        await first.wait()
        again = await engine.start("add", {"a": 1, "b": 2}, id="order 42 / ü")
        assert (again.id, again.result) == (first.id, 3)
        assert (await engine.get("order 42 / ü")).id == (await engine.get(first.id)).id == first.id
        with pytest.raises(RunExistsError, match="another task or another input"):
            await engine.start("add", {"a": 1, "b": 3}, id="order 42 / ü")
        assert len(await engine.list_runs()) == 1
        like_an_id = "0b0b0b0b-0000-4000-8000-000000000000"
        other = await engine.start("add", {"a": 1, "b": 2}, id=like_an_id)
        assert (await engine.get(like_an_id)).id == other.id


async def test_mistakes_are_told_before_anything_is_written(project: Path) -> None:
    engine = Engine("memory:")
    with pytest.raises(ConfigError, match=r"use `async with Engine\(...\) as engine:`"):
        await engine.list_runs()
    with pytest.raises(AttributeError, match="no attribute 'strat'"):
        _ = engine.strat
    async with engine:
        with pytest.raises(TaskNotFoundError):
            await engine.start("unknown")
        with pytest.raises(RunNotFoundError):
            await engine.get("unknown")
        with pytest.raises(InvalidTaskError, match=r"put `@task` of `sequential\.task` above it"):
            await engine.start(price_of)
        with pytest.raises(InvalidTaskError, match="move it to the top of its module"):
            await engine.start(task(lambda: 1))
        with pytest.raises(InvalidInputError):
            await engine.start(order, {"item": 7})
        with pytest.raises(ConfigError, match="@task of price_of"):
            await engine.start(task(name="p", nonsense=1)(price_of))
        assert await engine.list_runs() == []
    del price_of.__sequential_task__  # type: ignore[attr-defined]


async def test_a_decorated_function_is_a_task_and_stays_a_function(project: Path) -> None:
    assert (await order("tea", 2))["total"] == 6
    async with Engine("memory:") as engine:
        run = await engine.start(order, {"item": "coffee", "count": 2})
        assert (await run.wait()).result == {"item": "coffee", "total": 12}
        assert (await (await engine.start(order, {"item": "tea"})).wait()).result["total"] == 3
        (call,) = await engine.list_calls(run.id)
        assert (call.operation, call.where and call.where.source) == (
            "step.price_of",
            "price = await step(price_of, item)",
        )
        assert (await (await engine.start(large, {"a": 1, "b": 2})).wait()).result == 2
        stored = await engine.get_task("big-order")
        assert (stored.config.timeout, stored.config.runtime, stored.version) == (60.0, "native", 1)


SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from sequential import Engine
from sequential.task import step, task

def note(number):
    with open("notes.txt", "a") as file:
        file.write(f"{number}\\n")
    if number == 2 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), 9)
    return number

@task
async def count(to: int) -> int:
    total = 0
    for number in range(to):
        total += await step(note, number)
    return total

async def main():
    async with Engine(sys.argv[1]) as engine:
        run = await engine.start(count, {"to": 5}, id="my count")
        print((await run.wait()).result)

if __name__ == "__main__":
    asyncio.run(main())
"""


SUBMIT = """
import asyncio
from counting import count
from sequential import Engine

async def main():
    async with Engine() as engine:
        await engine.start(count, {"to": 3}, delay=0.2)

asyncio.run(main())
"""


@pytest.mark.parametrize("storage", ["sqlite:./x.db", "folder"])
async def test_a_killed_script_goes_on_when_it_is_started_again(
    project: Path, storage: str
) -> None:
    (project / "counting.py").write_text(SCRIPT)
    rc = {"runner": {"lease": 0.5}}
    (project / ".sequentialrc.json").write_text(json.dumps(rc))
    command = [sys.executable, "counting.py", storage]
    killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("10\n", "")
    assert (project / "notes.txt").read_text().split() == ["0", "1", "2", "2", "3", "4"]


async def test_a_worker_drives_the_run_of_a_script(project: Path) -> None:
    (project / "counting.py").write_text(SCRIPT)
    (project / "killed").touch()
    (project / ".sequentialrc.json").write_text(
        json.dumps({"adaptor": "sqlite:x.db", "runner": {"lease": 0.5}})
    )
    (project / "submitting.py").write_text(SUBMIT)
    await asyncio.to_thread(subprocess.run, [sys.executable, "submitting.py"], check=True)
    worker = Path(sys.executable).with_name("sequential-ecosystem")
    command = [str(worker), "worker", "--until-idle"]
    await asyncio.sleep(0.3)  # by then the run is due
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert "count: completed" in done.stderr


async def test_a_worker_that_cannot_import_the_module_says_what_to_do(project: Path) -> None:
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far_away.py").write_text(
        "from sequential.task import task\n\n\n@task\nasync def hello() -> str:\n    return 'hi'\n"
    )
    submit = "import asyncio, far_away\nfrom sequential import SyncEngine\n"
    submit += "with SyncEngine('sqlite:../x.db') as engine:\n"
    submit += "    engine.start(far_away.hello, delay=0.1, id='it')\n"
    command = [sys.executable, "-c", submit]
    await asyncio.to_thread(subprocess.run, command, check=True, cwd=elsewhere)
    async with Engine("sqlite:./x.db") as engine:
        failed = await engine.resume((await engine.get("it")).id)
        assert str(failed.error) == (
            "ImportError: No module named 'far_away': install far_away and what it imports where "
            "this worker runs, or start the worker in its folder, then retry this run"
        )
