"""The engine for programs that are not asynchronous: the same, waiting."""

import asyncio
import gc
import importlib.util
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sequential import LocalService, Status, SyncEngine, SyncRun, TaskConfig
from sequential.errors import ConfigError, RunNotCompletedError, TaskNotFoundError
from sequential.storage.memory import MemoryAdapter
from sequential.testing.clock import FakeClock

ROOT = Path(__file__).parents[2]
ADD = "def add(a, b):\n    return a + b\n"
ASK = "async def ask():\n    return await wait_for_event('colour')\n"
NAP = "import asyncio\nasync def nap():\n    await asyncio.sleep(86400 * 30)\n    return 'up'\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "sequential"]


def test_a_run_is_started_waited_for_and_has_a_result(project: Path) -> None:
    with SyncEngine("sqlite:./x.db") as engine:
        engine.store_task("add", ADD, TaskConfig(name="add"))
        run = engine.start("add", {"a": 1, "b": 2}, id="mine")
        assert isinstance(run, SyncRun)
        assert run.wait().result == 3
        assert engine.get("mine").id == run.id
        assert [one.status for one in engine.list_runs()] == [Status.COMPLETED]
        assert engine.run("add", {"a": 2, "b": 2}).value == 4
        assert [one.id for one in engine.ended_runs(-60)] != []
    assert threads() == []


def test_it_drives_runs_while_the_program_does_something_else(project: Path) -> None:
    with SyncEngine(MemoryAdapter(), clock=FakeClock()) as engine:
        engine.store_task("nap", NAP, TaskConfig(name="nap"))
        engine.store_task("ask", ASK, TaskConfig(name="ask"))
        nap, ask = engine.start("nap"), engine.start("ask")
        assert nap.wait().result == "up"
        with pytest.raises(RunNotCompletedError):
            _ = ask.result
        ask.pause().answer("colour", "red")
        assert ask.unpause().wait().result == "red"


def test_several_threads_use_one_engine(project: Path) -> None:
    with SyncEngine("memory:") as engine, ThreadPoolExecutor(8) as pool:
        engine.store_task("add", ADD, TaskConfig(name="add"))

        def one(number: int) -> int:
            result: int = engine.start("add", {"a": number, "b": 1}).wait().result
            return result

        assert list(pool.map(one, range(40))) == list(range(1, 41))


def test_secrets_are_kept_and_removed(project: Path) -> None:
    with SyncEngine("sqlite:./x.db") as engine:
        engine.keys.set("crm/token", "abc")
        engine.keys.set("other", "def")
        assert (engine.keys.get("crm/token"), engine.keys.list()) == (
            "abc",
            ["crm/token", "other"],
        )
        engine.keys.delete("crm/token", "other")
        assert engine.keys.list() == []


def test_mistakes_are_told(project: Path) -> None:
    engine = SyncEngine("memory:")
    with pytest.raises(ConfigError, match=r"use `with SyncEngine\(...\) as engine:`"):
        engine.list_runs()
    with pytest.raises(ConfigError), SyncEngine("nonsense:"):
        pass
    with engine, pytest.raises(TaskNotFoundError):
        engine.start("unknown")
    with pytest.raises(ConfigError, match="not open"):
        engine.list_runs()
    assert threads() == []


def test_a_service_that_asks_its_own_engine_is_told_so_and_does_not_hang(project: Path) -> None:
    tool = LocalService("tool")

    @tool.method()
    async def look() -> int:
        return len(engine.list_runs())

    code = "async def job():\n    return await services.tool.look()\n"
    with SyncEngine("memory:", [tool]) as engine:
        engine.store_task("job", code, TaskConfig(name="job"))
        run = engine.start("job").wait()
        assert "cannot be used by its own services" in str(run.error)


async def test_it_works_where_an_event_loop_is_running(project: Path) -> None:
    with SyncEngine("memory:") as engine:
        engine.store_task("add", ADD, TaskConfig(name="add"))
        assert engine.start("add", {"a": 1, "b": 2}).wait().result == 3
    assert asyncio.get_running_loop().is_running()


def test_an_engine_that_nobody_closed_is_closed_when_it_is_forgotten(project: Path) -> None:
    engine = SyncEngine("sqlite:./x.db").__enter__()
    engine.store_task("ask", ASK, TaskConfig(name="ask"))
    run_id = engine.start("ask").id
    del engine
    gc.collect()
    assert threads() == []
    with SyncEngine("sqlite:./x.db") as again:
        assert again.get(run_id).answer("colour", "blue").status is not Status.RUNNING
        assert again.resume(run_id).value == "blue"


SCRIPT = f"""
import sys
from sequential import SyncEngine, TaskConfig

engine = SyncEngine("sqlite:./x.db").__enter__()
engine.store_task("ask", {ASK!r}, TaskConfig(name="ask"))
run = engine.start("ask", id="one")
if sys.argv[1:] == ["wait"]:
    try:
        print("waiting", flush=True)
        run.wait()
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_ends_waiting(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        try:
            printed, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (printed, errors, process.returncode) == ("interrupted\n", "", 0)


def test_a_program_may_end_without_closing(project: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    with SyncEngine("sqlite:./x.db") as engine:
        run = engine.start("ask", id="one")
        assert run.answer("colour", "green").wait().result == "green"


def test_the_module_fits_the_engine() -> None:
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "sync_engine.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    assert script.TARGET.read_text() == script.written(), "run `make docs`"
