"""`run` and `resume`: what they print, where, and how they exit."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Project, PutStdin, Start
from support.http_api import HttpApi

RECORD = "id task_identifier status input result error created_at updated_at".split()
ECHO = "def main(input):\n    return input\n"
FAILS = """\
def helper(value):
    return 1 / value

def main():
    print("before")
    return helper(0)
"""
ADD = "def add(a, b):\n    return a + b\n"
ADD_INPUTS = [
    {"name": "a", "type": "integer"},
    {"name": "b", "type": "integer", "required": False, "default": 10},
]


def test_run_prints_the_result_on_stdout_and_the_rest_on_stderr(
    project: Project, api: HttpApi
) -> None:
    project.task(
        "one",
        f"""\
async def one(input):
    response = await fetch("{api.url}/json/7")
    print("got", response.status)
    return {{"success": True, "n": response.json()["n"], "input": input}}
""",
    )
    done = project.ok("run", "one", "--input", '{"userId": "ü"}')
    assert done.json == {"success": True, "n": 7, "input": {"userId": "ü"}}
    log, status = done.err.splitlines()
    assert log == "got 200"
    (run_id,) = project.run_ids("one")
    assert status.startswith("completed in ")
    assert status.endswith(f", 1 call, run {run_id}")


def test_json_is_the_run_record_and_nothing_else(project: Project) -> None:
    project.task("one", "def one():\n    print('noise')\n    return {'a': 1}\n")
    done = project.ok("run", "one", "--json")
    record = done.json
    assert list(record)[:8] == RECORD
    assert record["task_identifier"] == "one"
    assert (record["status"], record["result"], record["error"]) == ("completed", {"a": 1}, None)
    assert record["input"] == {}
    assert "noise" in done.err
    assert not {"code", "config", "lease_token"} & set(record)


def test_a_failed_run_shows_its_traceback_and_exits_1(project: Project) -> None:
    project.task("bad", FAILS)
    done = project("run", "bad")
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    assert lines[0] == "before"
    assert lines[1:7] == [
        "Traceback (most recent call last):",
        '  File "tasks/bad/code.py", line 6, in main',
        "    return helper(0)",
        '  File "tasks/bad/code.py", line 2, in helper',
        "    return 1 / value",
        "ZeroDivisionError: division by zero",
    ]
    assert lines[7].startswith("failed in ")


def test_a_failed_run_as_json(project: Project) -> None:
    project.task("bad", FAILS)
    done = project("run", "bad", "--json")
    assert done.code == 1
    error = done.json["error"]
    assert (done.json["status"], error["type"], error["code"]) == (
        "failed",
        "ZeroDivisionError",
        "task_error",
    )
    assert [frame["line"] for frame in error["traceback"]] == [6, 2]
    assert error["traceback"][1]["source"] == "return 1 / value"
    assert "Traceback" in done.err


@pytest.mark.parametrize("result", [None, False, 0, "", [], "text", 12345678901234567890])
def test_any_result_is_printed_as_json(project: Project, result: Any) -> None:
    project.task("one", f"def one():\n    return {result!r}\n")
    assert project.ok("run", "one").json == result


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("{userId: 1}", "line 1, column 2"),
        ("", "is not JSON"),
        ('{"a": NaN}', "NaN"),
        ("[1]", "must be an object"),
        ("5", "must be an object"),
        ("@missing.json", "cannot be read"),
        ("@.", "cannot be read"),
        ("@binary", "not UTF-8"),
        ("[" * 100_000, "too deeply"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\x1b[31m": }', "column"),
    ],
)
def test_an_input_that_is_no_object_starts_nothing(project: Project, given: Any, part: str) -> None:
    project.task("echo", ECHO)
    Path("binary").write_bytes(b"\xff")
    done = project("run", "echo", "--input", given)
    assert (done.code, done.out) == (2, "")
    assert part in done.err
    assert len(done.err.splitlines()) == 1
    assert "\x1b" not in done.err
    assert not Path("tasks/echo/runs").exists()


@pytest.mark.parametrize("form", ["@input.json", "-", '{"a": 1}'])
def test_the_input_comes_from_a_file_stdin_or_the_command_line(
    project: Project, stdin: PutStdin, form: str
) -> None:
    project.task("echo", ECHO)
    Path("input.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    stdin(b'{"a": 1}')
    assert project.ok("run", "echo", "--input", form).json == {"a": 1}


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({}, ['"a" (integer) is missing']),
        ({"a": "1"}, ['"a" must be integer, this is string']),
        ({"a": 1, "c": 2}, ['"c" is not a field']),
        ({"b": True}, ['"a" (integer) is missing', '"b" must be integer']),
    ],
)
def test_missing_and_mistyped_inputs_are_refused_at_once(
    project: Project, given: Any, parts: list[str]
) -> None:
    project.task("add", ADD, inputs=ADD_INPUTS)
    done = project("run", "add", "--input", json.dumps(given))
    assert (done.code, done.out) == (2, "")
    assert all(part in done.err for part in parts)
    assert not Path("tasks/add/runs").exists()


def test_defaults_fill_in_what_is_missing(project: Project) -> None:
    project.task("add", ADD, inputs=ADD_INPUTS)
    assert project.ok("run", "add", "--input", '{"a": 1}').json == 11
    project.ok("config", "set", "defaults.a", "5")
    assert project.ok("run", "add").json == 15
    assert project.ok("run", "add", "--input", '{"a": 1, "b": 1}').json == 2


def test_save_keeps_the_last_run_that_completed(project: Project) -> None:
    project.task("echo", "def echo(input):\n    return 1 / input['n']\n")
    done = project.ok("run", "echo", "--save", "--json", "--input", '{"n": 2}')
    saved = Path("tasks/echo/results.json")
    assert json.loads(saved.read_text()) == done.json
    assert str(saved) in done.err
    assert project("run", "echo", "--save", "--input", '{"n": 0}').code == 1
    assert json.loads(saved.read_text())["result"] == 0.5
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith(".")] == []
    assert len(project.run_ids("echo")) == 2


def test_verbose_tells_every_step(project: Project, api: HttpApi) -> None:
    project.task(
        "one",
        f"""\
import asyncio
async def one():
    await fetch("{api.url}/flaky/a/1?retry_after=0")
    await asyncio.sleep(0.01)
    return 1
""",
    )
    text = project.ok("run", "one", "--verbose").err
    place = f"GET 127.0.0.1:{api.port}/flaky/a/1"
    for part in (
        "of one: started",
        place,
        "attempt 2 of 4 in 1 s, after HTTP 503",
        "completed in",
        "sleep",
    ):
        assert part in text


def test_without_verbose_a_pipe_sees_only_the_log_and_the_end(
    project: Project, api: HttpApi
) -> None:
    project.task("one", f'async def one():\n    await fetch("{api.url}/json/1")\n')
    assert len(project.ok("run", "one").err.splitlines()) == 1


def test_task_timeout_and_max_retries_work(
    project: Project, api: HttpApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.task("slow", "import asyncio\nasync def slow():\n    await asyncio.sleep(60)\n")
    monkeypatch.setenv("TASK_TIMEOUT", "300")
    done = project("run", "slow")
    assert done.code == 1
    assert "TimeoutError" in done.err
    monkeypatch.delenv("TASK_TIMEOUT")
    monkeypatch.setenv("TASK_MAX_RETRIES", "0")
    project.task(
        "flaky", f'async def flaky():\n    return (await fetch("{api.url}/flaky/b/1")).status\n'
    )
    assert project.ok("run", "flaky").out == "503\n"


def test_a_service_of_the_project(project: Project) -> None:
    Path("services").mkdir()
    Path("services/crm.py").write_text("def find(name: str):\n    return {'name': name}\n")
    project.task("one", "async def one():\n    return await services.crm.find(name='Ada')\n")
    assert project.ok("run", "one").json == {"name": "Ada"}


def test_a_service_file_that_is_broken_is_one_line(project: Project) -> None:
    Path("services").mkdir()
    Path("services/crm.py").write_text("def find(:\n")
    project.task("one", "def one():\n    return 1\n")
    done = project("run", "one")
    assert done.code == 2
    assert "services/crm.py:1" in done.err
    assert len(done.err.splitlines()) == 1


def test_resume_of_a_run_that_has_ended_prints_it_as_it_is(project: Project) -> None:
    project.task("bad", FAILS)
    project.task("good", "def good():\n    return [1]\n")
    assert project("run", "bad").code == 1
    project.ok("run", "good")
    failed = project("resume", project.run_ids("bad")[0])
    assert failed.code == 1
    assert "ZeroDivisionError" in failed.err
    completed = project.ok("resume", project.run_ids("good")[0][:23])
    assert completed.json == [1]
    assert project.ok("resume", project.run_ids("good")[0], "--json").json["status"] == "completed"


def test_resume_of_an_unknown_or_ambiguous_run_is_refused(project: Project) -> None:
    project.task("good", "def good():\n    return [1]\n")
    project.ok("run", "good")
    project.ok("run", "good")
    assert project("resume", "ffff").code == 2
    done = project("resume", "01")
    assert done.code == 2
    assert all(run_id in done.err for run_id in project.run_ids("good"))


def test_a_run_that_another_process_drives_is_refused(
    project: Project, api: HttpApi, start: Start
) -> None:
    project.task(
        "slow", f'async def slow():\n    return (await fetch("{api.url}/slow/1")).status\n'
    )
    process = start("run", "slow")
    deadline = time.monotonic() + 10
    while not api.count("/slow/1"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (run_id,) = project.run_ids("slow")
    refused = project("resume", run_id)
    assert refused.code == 2
    assert "another process" in refused.err
    assert "Unfinished" not in project.ok("list").err
    assert process.wait().code == 0
    assert api.count("/slow/1") == 1


def test_code_that_changed_does_not_break_a_run_in_flight(
    project: Project, api: HttpApi, start: Start
) -> None:
    project.task(
        "slow",
        f"""\
async def slow():
    await fetch("{api.url}/slow/1")
    return "as it started"
""",
    )
    process = start("run", "slow")
    while not api.count("/slow/1"):
        time.sleep(0.02)
    process.kill()
    process.wait()
    project.task("slow", "def slow():\n    return 'changed'\n")
    (run_id,) = project.run_ids("slow")
    assert project.ok("resume", run_id).json == "as it started"
    assert project.ok("run", "slow").json == "changed"


def test_the_log_reaches_a_pipe_as_it_was_printed(project: Project, start: Start) -> None:
    project.task("one", "def one():\n    print('\\x1b[31mred\\x1b[0m', end='')\n    print('a')\n")
    assert start("run", "one").wait().err.splitlines()[0] == "\x1b[31mred\x1b[0ma"


@pytest.mark.parametrize("store", ["folder", "sqlite"])
def test_a_run_loads_nothing_that_it_does_not_use(project: Project, store: str) -> None:
    project.task("one", "import asyncio\nasync def one():\n    await asyncio.sleep(0)\n")
    project("sync-tasks", "--adaptor", store)
    code = f"""
import sys
from sequential.cli.app import run
run(["--storage", "{store}", "run", "one"])
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "completed" in done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    others = {"folder", "sqlite", "postgres", "supabase", "redis", "firestore", "memory"} - {store}
    assert f"sequential.storage.{store}" in loaded
    assert loaded & {f"sequential.storage.{name}" for name in others} == set()
    # The folder `google` is loaded by every start of Python where some package of Google is.
    unwanted = {"aiohttp", "cryptography", "psycopg", "redis", "google.auth", "grpc", "rich"}
    assert loaded & unwanted == set()
    assert loaded & {"sequential.runner.task_sync", "sequential.runner.worker"} == set()
