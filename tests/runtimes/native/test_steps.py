"""`step(function, ...)`: any Python, done beside the program and kept with the run."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import CallStatus, Limits, RetryPolicy, Status, TaskConfig
from support.native_lab import NativeLab

DESK: dict[str, Any] = {}
HEAD = "from sequential.task import step\nfrom desk import DESK\n"


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Where a test puts the functions that its task calls."""
    module = type(sys)("desk")
    module.DESK = DESK  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "desk", module)
    yield DESK
    DESK.clear()


def task(line: str) -> str:
    return f"{HEAD}async def job(input):\n    {line}\n"


async def test_an_ordinary_function_has_a_thread_of_its_own(lab: NativeLab) -> None:
    DESK["where"] = lambda: threading.current_thread()
    DESK["seen"] = []
    code = task('DESK["seen"].append(await step(lambda: DESK["where"]().name))')
    await lab.value(code)
    assert DESK["seen"] == ["step"]


async def test_an_async_function_is_awaited_by_the_engine(lab: NativeLab) -> None:
    engine_loop = asyncio.get_running_loop()

    async def check() -> bool:
        return asyncio.get_running_loop() is engine_loop

    DESK["check"] = check
    assert await lab.value(task('return await step(DESK["check"])')) is True


async def test_a_step_reaches_the_world_as_it_likes(lab: NativeLab) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    code = HEAD + (
        "import socket, threading, time\n"
        "def reach(port):\n"
        "    with socket.create_connection(('127.0.0.1', port)) as connection:\n"
        "        thread = threading.Thread(target=time.sleep, args=(0.001,))\n"
        "        thread.start(); thread.join()\n"
        "        return connection.recv(1)\n"
        "async def job(input):\n"
        "    return await step(reach, input['port'])\n"
    )
    port = server.sockets[0].getsockname()[1]
    assert await lab.value(code, {"port": port}) == b""
    server.close()


async def test_a_call_of_the_run_inside_of_a_step_is_refused(lab: NativeLab) -> None:
    code = HEAD + "async def job():\n    return await step(inside)\n"
    failure = await lab.failure(code + "async def inside():\n    await fetch('http://a.example')\n")
    assert "fetch() works inside of a run only" in failure.message


async def test_it_is_recorded_with_its_name_arguments_and_value(lab: NativeLab) -> None:
    code = HEAD + "def half(x, *, of): return x / of\nasync def job():\n"
    run = await lab.run(code + "    return await step(half, 5, of=2)\n")
    (call,) = await lab.calls(run)
    assert (call.operation, call.input) == ("step.half", {"$call": [[5], {"of": 2}]})
    assert (call.status, call.result) == (CallStatus.COMPLETED, 2.5)


@pytest.mark.parametrize(
    ("arguments", "recorded"),
    [
        ("object(), x=lambda: 1", {"$call": [["object"], {"x": "function"}]}),
        ("'x' * 5000", {"$call": [["str"], {}]}),
    ],
)
async def test_arguments_that_cannot_be_recorded_are_used_all_the_same(
    lab: NativeLab, arguments: str, recorded: Any
) -> None:
    code = task(f"return await step(lambda *a, **k: len(a), {arguments})")
    run = await lab.run(code, config=TaskConfig(name="job", limits=Limits(result_kb=4)))
    assert run.value == 1
    (call,) = await lab.calls(run)
    assert call.input == recorded


async def test_a_value_that_cannot_be_recorded_is_an_error(lab: NativeLab) -> None:
    failure = await lab.failure(task("return await step(object)"))
    assert failure.type == "TypeError"
    assert "the answer of step.object is an object" in failure.message


@pytest.mark.parametrize(
    ("raised", "type_", "message"),
    [
        ("ValueError('no')", "ValueError", "no"),
        ("KeyError('k')", "KeyError", "k"),
        ("UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')", "UnicodeDecodeError", "bad"),
        ("OSError(2, 'gone', 'file')", "FileNotFoundError", "[Errno 2] gone: 'file'"),
        ("decimal.InvalidOperation('d')", "InvalidOperation", "d"),
        ("Own(7)", "Own", "number 7"),
        ("StopIteration('s')", "RuntimeError", "StopIteration"),
        ("ExceptionGroup('g', [ValueError('a')])", "RuntimeError", "ValueError: a"),
        ("SystemExit(3)", "RuntimeError", "SystemExit: 3"),
        ("KeyboardInterrupt()", "RuntimeError", "KeyboardInterrupt"),
        ("asyncio.CancelledError()", "RuntimeError", "CancelledError"),
        ("GeneratorExit()", "RuntimeError", "GeneratorExit"),
        ("Mute()", "Mute", "(the exception has no text)"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_exceptions_keep_their_type_and_text(
    lab: NativeLab, kind: str, raised: str, type_: str, message: str
) -> None:
    code = f"""{HEAD}import asyncio, decimal
class Own(Exception):
    def __init__(self, number):
        self.number = number
    def __str__(self):
        return f"number {{self.number}}"
class Mute(Exception):
    def __str__(self):
        raise ValueError
{kind} fails():
    raise {raised}
async def job():
    await step(fails)
"""
    failure = await lab.failure(code)
    assert failure.type == type_
    assert message in failure.message
    assert failure.traceback[-1].source == "await step(fails)"


async def test_it_is_done_again_as_often_as_retries_says(lab: NativeLab) -> None:
    tries = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("down")
        return len(tries)

    DESK["flaky"] = flaky
    config = TaskConfig(name="job", retry=RetryPolicy(retries=9))
    run = await lab.run(task('return await step(DESK["flaky"], retries=2)'), config=config)
    assert run.value == 3
    tries.clear()
    run = await lab.run(task('return await step(DESK["flaky"])'), config=config)
    assert (str(run.error), len(tries)) == ("OSError: down", 1)


async def test_steps_at_the_same_time(lab: NativeLab) -> None:
    DESK["both"] = threading.Barrier(2, timeout=5).wait
    code = task('return sorted(await gather(step(DESK["both"]), step(DESK["both"])))')
    assert await lab.value(code) == [0, 1]


async def test_a_step_without_await_in_an_ordinary_function(lab: NativeLab) -> None:
    code = HEAD + "import asyncio\ndef job():\n    return asyncio.run(step(len, 'four'))\n"
    assert await lab.value(code) == 4


async def test_what_came_before_is_not_done_again(lab: NativeLab) -> None:
    """A run that failed at its second step goes on there."""
    done: list[str] = []
    DESK["do"] = done.append
    DESK["good"] = 0

    def fail() -> float:
        done.append("failed")
        return 1 / int(DESK["good"])

    DESK["fail"] = fail
    code = HEAD + (
        "async def job():\n"
        "    await step(DESK['do'], 'first')\n"
        "    return await step(DESK['fail'])\n"
    )
    async with lab.engine() as engine:
        await lab.store(engine, code)
        run = await engine.run("job")
        assert str(run.error) == "ZeroDivisionError: division by zero"
    async with lab.engine() as engine:
        DESK["good"] = 2
        await engine.retry(run.id)
        assert (await engine.resume(run.id)).value == 0.5
    assert done == ["first", "failed", "failed"]


async def test_an_engine_does_not_wait_for_a_step_that_blocks(lab: NativeLab) -> None:
    entered, leave = threading.Event(), threading.Event()
    done: list[int] = []

    def block() -> int:
        entered.set()
        assert leave.wait(30)
        done.append(1)
        return len(done)

    DESK["block"] = block
    async with lab.engine() as engine:
        await lab.store(engine, task('return await step(DESK["block"])'))
        run = await engine.create_run("job")
        driving = asyncio.create_task(engine.resume(run.id))
        await asyncio.to_thread(entered.wait, 10)
    assert (await driving).status is Status.SUSPENDED
    leave.set()
    async with lab.engine() as engine:
        run = await engine.resume(run.id)
    assert run.value == len(done)
    assert lab.replayed() == ["1 turn replayed from the journal"]


async def test_a_run_is_cancelled_in_the_middle_of_a_step(lab: NativeLab) -> None:
    entered, leave = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        leave.wait(30)

    DESK["block"] = block
    async with lab.engine() as engine:
        await lab.store(engine, task('return await step(DESK["block"])'))
        run = await engine.create_run("job")
        driving = asyncio.create_task(engine.resume(run.id))
        await asyncio.to_thread(entered.wait, 10)
        await engine.cancel(run.id)
        assert (await driving).status is Status.CANCELLED
    leave.set()


async def test_a_step_that_takes_too_long_is_given_up(lab: NativeLab) -> None:
    leave = threading.Event()
    DESK["block"] = lambda: leave.wait(30)
    code = task(
        'import asyncio\n    try: return await asyncio.wait_for(step(DESK["block"]), 60)'
        "\n    except TimeoutError: return 'too long'"
    )
    assert await lab.value(code) == "too long"
    leave.set()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from sequential.config import load_settings
from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine

CODE = '''
import os, signal
from sequential.task import step, uuid4

def note(path, text):
    with open(path, "a") as notes:
        notes.write(text + " ")
    return text

def perilous(path, key):
    if "again" not in note(path, "again" if os.path.exists(path + ".died") else "once"):
        open(path + ".died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return key

async def job(input):
    key, path = uuid4(), input["path"]
    await step(note, path, "before")
    return [await step(perilous, path, key) == key, await step(note, path, "after")]
'''

async def main(folder, run_id=None):
    async with Engine(settings=load_settings(Path(folder), environment={})) as engine:
        if run_id is None:
            await engine.store_task("job", CODE, TaskConfig(name="job", runtime="native"))
            run_id = (await engine.create_run("job", {"path": folder + "/notes"})).id
            print(run_id, flush=True)
        run = await engine.resume(run_id)
        print(run.status, run.result, run.error)

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_step_is_done_again_after_a_kill_and_what_came_before_is_not(tmp_path: Path) -> None:
    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    killed = process()
    assert killed.returncode == -9, killed.stderr
    done = process(killed.stdout.strip())
    assert done.stdout.strip() == "completed [True, 'after'] None", done.stderr
    assert (tmp_path / "notes").read_text() == "before once again after "


def test_a_process_ends_although_a_step_blocks(tmp_path: Path) -> None:
    source = """
import asyncio, sys
from pathlib import Path
from sequential.config import load_settings
from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine

CODE = '''
import sys, threading
from sequential.task import step
def block():
    sys.entered()
    threading.Event().wait()
async def job(): await step(block)
'''

async def main(folder):
    loop, entered = asyncio.get_running_loop(), asyncio.Event()
    sys.entered = lambda: loop.call_soon_threadsafe(entered.set)
    async with Engine(settings=load_settings(Path(folder), environment={})) as engine:
        await engine.store_task("job", CODE, TaskConfig(name="job", runtime="native"))
        run = await engine.create_run("job")
        driving = asyncio.create_task(engine.resume(run.id))
        await entered.wait()
    print((await driving).status)

asyncio.run(main(*sys.argv[1:]))
"""
    command = [sys.executable, "-c", source, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.returncode) == ("suspended", 0), done.stderr
