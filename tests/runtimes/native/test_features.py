"""What native tasks can do, as people write them."""

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Limits, Status, TaskConfig
from support.native_lab import NATIVE, NativeLab
from support.native_programs import GIVEN, native_programs

PROGRAMS = native_programs()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
async def test_python_does_what_it_does(lab: NativeLab, name: str) -> None:
    source, expected = PROGRAMS[name]
    assert await lab.value(source, GIVEN) == expected


# --- calls ---------------------------------------------------------------------------------------


async def test_a_task_waits_for_events_and_other_tasks(lab: NativeLab) -> None:
    async with lab.engine() as engine:
        await lab.store(
            engine, "    return [await wait_for_event('go'), await run_task('child')]\n"
        )
        child = "def child(): return 'from the child'"
        await engine.store_task("child", child, TaskConfig(name="child", runtime="native"))
        run = await engine.create_run("job")
        await engine.answer(run.id, "go", {"early": True})
        assert (await engine.resume(run.id)).value == [{"early": True}, "from the child"]


async def test_an_event_may_be_waited_for_in_vain(lab: NativeLab) -> None:
    code = """
    try:
        return await wait_for_event("never", timeout=5)
    except TimeoutError:
        return "late"
"""
    assert await lab.value(code) == "late"


async def test_calls_show_where_they_were_made(lab: NativeLab) -> None:
    code = """import asyncio
async def job():
    await services.tool.echo(1)
    await asyncio.gather(helper(2), services.tool.echo(3))
    await asyncio.sleep(1)
async def helper(x):
    return await services.tool.echo(x)
"""
    calls = await lab.calls(await lab.run(code))
    assert [call.where and call.where.line for call in calls] == [3, 7, 4, 5]
    assert calls[1].where is not None
    assert calls[1].where.source == "return await services.tool.echo(x)"


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("services.tool.echo(object())", "input of tool.echo[0] is an object"),
        ("services.tool.echo(x={1: {'a': lambda: 1}})", "input of tool.echo.x[1].a is a function"),
        ("services.tool.echo('x' * 5000)", "limits.result_kb"),
        ("services.tool()", "call one of its methods"),
        ("fetch('http://a', json=object())", "input of http.fetch.json is an object"),
        ("call_host_tool('tool', 'echo', 5)", "takes the arguments as a dict, or as a list"),
    ],
)
async def test_arguments_that_cannot_be_written_down_are_refused(
    lab: NativeLab, call: str, why: str
) -> None:
    config = TaskConfig(name="job", limits=Limits(result_kb=4))
    run = await lab.run(f"    return await {call}\n", config=config)
    assert run.error is not None
    assert (run.error.type, why in run.error.message) == ("TypeError", True), run.error
    assert await lab.calls(run) == []


# --- the entry and its input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "given", "seen"),
    [
        ("input", {"a": 1}, {"a": 1}),
        ("a", {"a": 1}, {"a": 1}),
        ("a, b=2", {"a": 1}, [1, 2]),
        ("*, a, **rest", {"a": 1, "b": 2}, [1, {"b": 2}]),
        ("a, /, b", {"b": 2, "a": 1}, [1, 2]),
        ("", {"a": 1}, None),
        ("**given", {"a": 1}, {"a": 1}),
        ("*given", {}, ()),
    ],
)
async def test_parameters_are_filled_from_the_input(
    lab: NativeLab, signature: str, given: Any, seen: Any
) -> None:
    parts = [part.strip("* ").partition("=")[0] for part in signature.split(",")]
    names = [part for part in parts if part not in ("", "/")]
    shown = names[0] if len(names) == 1 else f"[{', '.join(names)}]" if names else None
    assert await lab.value(f"def job({signature}): return {shown}", given) == seen


async def test_a_missing_parameter_is_the_tasks_error(lab: NativeLab) -> None:
    failure = await lab.failure("async def job(a, b): pass", {"a": 1})
    assert str(failure) == "TypeError: job() missing 1 required positional argument: 'b'"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("x = 1", "there is no function in job"),
        ("def one(): pass\ndef two(): pass", "there are 2 public functions in job"),
        ("from os.path import join", "there is no function"),
        ("job = 5", "there is no function"),
    ],
)
async def test_a_task_without_an_entry_is_told(lab: NativeLab, code: str, why: str) -> None:
    failure = await lab.failure(code)
    assert why in failure.message
    assert "name the one to start with job() or main()" in failure.message


async def test_source_that_is_no_python_is_told(lab: NativeLab) -> None:
    failure = await lab.failure("def job(:\n")
    assert failure.type == "SyntaxError"
    assert "line 1" in failure.message


async def test_async_generators_are_no_tasks(lab: NativeLab) -> None:
    failure = await lab.failure("async def job():\n    yield 1\n")
    assert "async generator" in failure.message


# --- what comes out of it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("object()", "the result is an object"),
        ("{'rows': [1, {'owner': iter([])}]}", "the result.rows[1].owner is a list_iterator"),
        ("'\\ud800'", "half of a surrogate pair"),
        ("[0] * 5000", "limits.result_kb"),
        ("(lambda x: [x.append(x), x])([])[1]", "nested"),
    ],
)
async def test_results_that_cannot_be_written_down(lab: NativeLab, value: str, why: str) -> None:
    config = TaskConfig(name="job", limits=Limits(result_kb=4))
    run = await lab.run(f"    return {value}\n", config=config)
    assert run.error is not None
    assert (run.error.type, why in run.error.message) == ("TypeError", True), run.error


async def test_a_large_result_is_kept(lab: NativeLab) -> None:
    assert len(await lab.value("    return 'x' * 10_000_000\n")) == 10_000_000


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("import sys; sys.exit('stopped')", "SystemExit: stopped"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError", "ValueError"),
        ("raise KeyError('name')", "KeyError: name"),
        ("raise ValueError('\\ud800\\0\\n')", "ValueError: ?\0\n"),
        ("raise type('Odd', (Exception,), {'__str__': lambda s: 1})", "Odd: (the exception has no"),
        ("def f(): f()\n    f()", "RecursionError: maximum recursion depth exceeded"),
        ("raise ValueError('x' * 10**6)", "ValueError: xxx"),
        (
            "raise ExceptionGroup('all', [OSError('a'), ExceptionGroup('in', [KeyError('b')])])",
            "ExceptionGroup: all (2 sub-exceptions): OSError: a; KeyError: b",
        ),
        ("e = ValueError('a'); e.add_note('at row 5'); raise e", "ValueError: a\nat row 5"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise StopIteration", "RuntimeError: coroutine raised StopIteration"),
        ("await 5", "TypeError: object int can't be used in 'await' expression"),
    ],
)
async def test_any_end_is_told_with_its_line(lab: NativeLab, statement: str, error: str) -> None:
    run = await lab.run(f"async def job():\n    await services.tool.echo(1)\n    {statement}\n")
    assert run.status is Status.FAILED
    assert run.error is not None
    assert str(run.error).startswith(error)
    assert len(run.error.message) < 20_000
    assert run.error.traceback[0].line >= 3


async def test_a_traceback_has_the_authors_lines(lab: NativeLab) -> None:
    code = """import json
async def job():
    await helper()
async def helper():
    try:
        await services.tool.fail()
    except OSError as error:
        json.loads("{")
"""
    failure = await lab.failure(code)
    assert [(f.line, f.function, f.source) for f in failure.traceback] == [
        (3, "job", "await helper()"),
        (8, "helper", 'json.loads("{")'),
    ]
    assert {f.file for f in failure.traceback} == {"tasks/job/code.py"}


async def test_the_error_of_a_group_of_tasks_names_what_went_wrong(lab: NativeLab) -> None:
    code = """import asyncio
async def job():
    async with asyncio.TaskGroup() as group:
        group.create_task(one())
async def one():
    raise ValueError("in one")
"""
    failure = await lab.failure(code)
    assert failure.message.endswith("(1 sub-exception): ValueError: in one")
    assert [frame.line for frame in failure.traceback] == [3, 6]


# --- print ---------------------------------------------------------------------------------------


async def test_what_is_printed_is_the_runs_log(
    lab: NativeLab, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
    print("one", 2, sep="-")
    await services.tool.echo(1)
    print("no end", end="")
    print()
    import sys; print("to the terminal", file=sys.stderr)
"""
    assert await lab.log(await lab.run(code)) == "one-2\nno end\n"
    assert capsys.readouterr().err == "to the terminal\n"


async def test_printing_has_a_limit_for_each_turn(lab: NativeLab) -> None:
    config = TaskConfig(name="job", limits=Limits(output_kb=1))
    code = """
    print("x" * 1000)
    await services.tool.echo(1)
    print("x" * 1000)
    while True:
        print("and again")
"""
    run = await lab.run(code, config=config)
    assert "printed more than 1 KiB between two calls (limits.output_kb)" in str(run.error)
    assert len(await lab.log(run)) <= 2050


async def test_an_exception_that_nobody_asked_for_is_in_the_log(lab: NativeLab) -> None:
    code = """
    import asyncio, gc
    async def forgotten():
        raise ValueError("nobody asks")
    asyncio.create_task(forgotten())
    await services.tool.echo(1)
    gc.collect()
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
"""
    log = await lab.log(await lab.run(code))
    assert "nobody asks" in log
    assert "ZeroDivisionError" in log


# --- odd times ---


@pytest.mark.parametrize(
    ("wait", "error"),
    [
        ("await asyncio.sleep(float('nan'))", "ValueError: Invalid delay: NaN"),
        ("await asyncio.sleep(float('inf'))", "RuntimeError: the task waits for something"),
        ("time.sleep(float('inf'))", "ValueError: sleep() needs a finite number"),
        ("time.sleep(-1)", "ValueError: sleep() cannot sleep for a negative time"),
        ("time.sleep('5')", "TypeError: "),
        ("await asyncio.sleep('5')", "TypeError: "),
    ],
)
async def test_odd_times_to_wait_for(lab: NativeLab, wait: str, error: str) -> None:
    failure = await lab.failure(f"    import asyncio, time\n    {wait}\n")
    assert str(failure).startswith(error)


async def test_a_sleep_without_end_can_be_cancelled(lab: NativeLab) -> None:
    code = """
    import asyncio, math
    try:
        await asyncio.wait_for(asyncio.sleep(math.inf), 3600)
    except TimeoutError:
        await asyncio.sleep(-5)
        return "after an hour"
"""
    assert await lab.value(code) == "after an hour"


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "what", "instead"),
    [
        ("socket.create_connection(('127.0.0.1', 9))", "look up a host", "fetch"),
        ("with socket.socket() as one: one.connect(('127.0.0.1', 9))", "a connection", "fetch"),
        ("with socket.socket() as one: one.bind(('127.0.0.1', 0))", "open a socket", "fetch"),
        ("import threading; threading.Thread(target=print).start()", "start a thread", "step"),
        (
            "asyncio.get_running_loop().call_soon_threadsafe(print)",
            "threads",
            "step",
        ),
        ("await asyncio.open_connection('a', 1)", "sockets", "fetch"),
        ("await asyncio.create_subprocess_exec('true')", "", "step"),
        (
            "from concurrent.futures import ThreadPoolExecutor; ThreadPoolExecutor().submit(id)",
            "thread",
            "step",
        ),
        ("asyncio.get_running_loop().add_signal_handler(2, print)", "signals", "wait"),
        ("asyncio.run(asyncio.sleep(0))", "asyncio.run() cannot be", ""),
        ("asyncio.get_running_loop().stop()", "when the task returns", ""),
    ],
)
async def test_what_would_not_survive_is_refused(
    lab: NativeLab, statement: str, what: str, instead: str
) -> None:
    failure = await lab.failure(
        f"    import asyncio, socket\n    await services.tool.echo(1)\n    {statement}\n"
    )
    assert failure.type == "RuntimeError"
    assert what in failure.message
    assert instead in failure.message
    assert failure.traceback[-1].line == 4


async def test_threads_and_sockets_of_others_are_left_alone(lab: NativeLab) -> None:
    await lab.value("    return 1\n")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    server.close()
    assert await asyncio.to_thread(lambda: 5) == 5


# --- waiting for nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        "await asyncio.get_running_loop().create_future()",
        "await asyncio.Event().wait()",
        "await asyncio.gather(asyncio.Event().wait(), services.tool.echo(1))",
        "lock = asyncio.Lock(); await lock.acquire(); await lock.acquire()",
        "await asyncio.create_task(asyncio.Queue().get())",
        "await asyncio.wait([asyncio.create_task(asyncio.Event().wait())])",
    ],
)
async def test_a_task_that_nothing_can_wake_ends(lab: NativeLab, wait: str) -> None:
    failure = await lab.failure(f"    import asyncio\n    {wait}\n")
    assert failure.type == "RuntimeError"
    assert "waits for something that will not come" in failure.message
    assert failure.traceback[-1].line == 3


async def test_a_task_may_tidy_up_after_it_waited_for_nothing(lab: NativeLab) -> None:
    code = """
    import asyncio
    try:
        await asyncio.Event().wait()
    finally:
        print(await services.tool.echo("tidied"))
"""
    run = await lab.run(code)
    assert "will not come" in str(run.error)
    assert await lab.log(run) == "tidied\n"


async def test_tasks_that_wait_for_each_other_end(lab: NativeLab) -> None:
    code = """
    import asyncio
    async def first(): await tasks[1]
    async def second(): await tasks[0]
    tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
    await asyncio.wait(tasks)
"""
    assert "will not come" in (await lab.failure(code)).message


async def test_what_libraries_do_in_threads_is_done_in_place(lab: NativeLab) -> None:
    code = """
    import asyncio, threading
    return await asyncio.to_thread(threading.get_ident) == threading.get_ident()
"""
    assert await lab.value(code) is True


async def test_a_task_that_takes_no_hint_ends_all_the_same(lab: NativeLab) -> None:
    code = """
    import asyncio
    while True:
        try:
            await asyncio.Event().wait()
        except Exception:
            pass
"""
    assert "will not come" in (await lab.failure(code)).message


# --- tasks that do not let go --------------------------------------------------------------------

STUBBORN = {
    "swallows its cancellation": """
    import asyncio
    while True:
        try:
            await asyncio.sleep(1e6)
        except BaseException:
            pass
""",
    "swallows everything, blocking": """
    import time
    while True:
        try:
            time.sleep(1e6)
        except BaseException:
            pass
""",
    "waits in its finally": """
    import asyncio
    try:
        await asyncio.sleep(1e6)
    finally:
        await services.tool.echo("too late")
""",
    "sleeps in its finally": """
    import time
    try:
        time.sleep(1e6)
    finally:
        time.sleep(5)
""",
    "computes for ever": """
    while True:
        pass
""",
}


@pytest.mark.parametrize("how", sorted(STUBBORN))
async def test_an_engine_closes_whatever_its_tasks_do(
    lab: NativeLab, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sequential.runner.drive.LINGER", 0.05)
    monkeypatch.setattr("sequential.runtimes.native.baton.ENDING", 0.05)
    async with lab.engine() as engine:
        await lab.store(engine, STUBBORN[how])
        run = await engine.create_run("job")
        driving = asyncio.create_task(engine.drive(run.id))
        if how == "computes for ever":
            while (await engine.get_run(run.id)).status is Status.PENDING:
                await asyncio.sleep(0.001)
        else:
            await driving
    await driving
    async with lab.engine() as engine:
        stored = await engine.get_run(run.id)
        assert stored.status is Status.SUSPENDED
        assert stored.turn == (0 if how == "computes for ever" else 1)
        assert (await engine.cancel(run.id)).status is Status.CANCELLED
    async with asyncio.timeout(10):  # nothing goes on at the expense of other runs
        while not all(is_at_rest(thread) for thread in threading.enumerate()):
            await asyncio.sleep(0.01)


def is_at_rest(thread: threading.Thread) -> bool:
    """Whether this is no program's thread, or one that waits for what will not come."""
    frame = sys._current_frames().get(thread.ident or 0)
    here = Path(frame.f_code.co_filename).stem if frame else "threading"
    return not thread.name.startswith("task ") or here == "threading"


async def test_a_task_that_computes_for_ever_fails_with_its_timeout(
    lab: NativeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sequential.runtimes.native.baton.ENDING", 0.05)
    config = TaskConfig(name="job", timeout=0.2)
    run = await lab.run("    while True: pass\n", config=config)
    assert "longer than its timeout of 0.2 s" in str(run.error)


async def test_a_task_that_computes_can_be_cancelled(
    lab: NativeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sequential.runner.drive.LINGER", 0.05)
    monkeypatch.setattr("sequential.runtimes.native.baton.ENDING", 0.05)
    began = asyncio.Event()
    lab.methods(begin=lambda: began.set())
    async with lab.engine() as engine:
        await lab.store(engine, "    await services.tool.begin()\n    while True: pass\n", NATIVE)
        run = await engine.create_run("job")
        driving = asyncio.create_task(engine.resume(run.id))
        await began.wait()
        await engine.cancel(run.id)
        assert (await driving).status is Status.CANCELLED


async def test_a_service_that_is_cancelled_inside_has_failed(lab: NativeLab) -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    lab.methods(gives_up=gives_up)
    failure = await lab.failure("    await services.tool.gives_up()\n")
    assert str(failure) == "RuntimeError: CancelledError: "
