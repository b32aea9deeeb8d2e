"""`run --dry-run`."""

import re
from pathlib import Path

import pytest

from support.command_line import Open, Project

BAD = """\
async def bad():
    response = fetch("https://example.com/")
    yield 1
    return respons
"""


def test_all_problems_at_once_and_nothing_is_run(project: Project) -> None:
    project.task("bad", BAD)
    done = project("run", "bad", "--dry-run")
    assert done.code == 1
    places = re.findall(r"^tasks/bad/code\.py:(\d+):(\d+): .+", done.out, re.MULTILINE)
    assert {line for line, _ in places} >= {"2", "3"}
    assert "write instead: " in done.out
    assert not Path("tasks/bad/runs").exists()


def test_problems_as_json(project: Project) -> None:
    project.task("bad", BAD)
    done = project("run", "bad", "--dry-run", "--json")
    assert done.code == 1
    assert all(
        list(problem) == ["file", "line", "column", "message", "instead", "severity"]
        for problem in done.json
    )
    assert {problem["file"] for problem in done.json} == {"tasks/bad/code.py"}


def test_a_good_task_has_no_problems(project: Project) -> None:
    project.task("good", "def good():\n    return 1\n")
    assert project.ok("run", "good", "--dry-run").out == "no problems\n"
    assert project.ok("run", "good", "--dry-run", "--json").json == []
    assert not Path("tasks/good/runs").exists()


def test_a_terminal_shows_the_source_with_a_caret(project: Project, terminal: Open) -> None:
    project.task("bad", "def bad():\n    x = 'ü'; yield 1\n")
    code, text = terminal("run", "bad", "--dry-run", NO_COLOR="1").wait()
    assert code == 1
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if "yield 1" in line)
    assert lines[at + 1].index("^") == lines[at].index("yield")


def test_the_config_is_checked_too(project: Project) -> None:
    project.task(
        "bad",
        "def bad(a, b):\n    return 1\n",
        timeout=-1,
        inputs=[
            {"name": "a", "type": "strng"},
            {"name": "b", "type": "integer", "default": "x"},
            {"name": "b"},
        ],
    )
    done = project("run", "bad", "--dry-run", "--json")
    assert done.code == 1
    messages = [p["message"] for p in done.json if p["file"] == "tasks/bad/config.json"]
    assert len(messages) == 4


def test_a_config_that_cannot_be_read_is_a_problem(project: Project) -> None:
    folder = project.task("bad", "def bad():\n    return 1\n")
    (folder / "config.json").write_text('{"name": "bad", "inputs": [{"nam": 1}]}')
    done = project("run", "bad", "--dry-run")
    assert done.code == 1
    assert "tasks/bad/config.json" in done.out
    assert len(done.out.splitlines()) == 1


def test_the_input_is_checked_when_it_is_given(project: Project) -> None:
    project.task("add", "def add(a):\n    return a\n", inputs=[{"name": "a", "type": "integer"}])
    assert project("run", "add", "--dry-run").code == 0
    done = project("run", "add", "--dry-run", "--input", '{"a": "1"}')
    assert done.code == 1
    assert "must be integer" in done.out
    assert project("run", "add", "--dry-run", "--input", "{").code == 2


def test_services_of_the_project_are_known(project: Project) -> None:
    Path("services").mkdir()
    Path("services/crm.py").write_text("def find(name):\n    return name\n")
    project.task("one", "async def one():\n    return await services.crm.fnd('Ada')\n")
    done = project("run", "one", "--dry-run")
    assert done.code == 1
    assert "find" in done.out


def test_a_warning_is_a_problem_as_well(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from sequential.runtimes.sandbox.dry_run import Problem

    found = [Problem(1, 5, "perhaps", "perhaps not", "warning")]
    monkeypatch.setattr("sequential.runtimes.sandbox.dry_run.dry_run", lambda *_, **__: found)
    project.task("one", "def one():\n    return 1\n")
    done = project("run", "one", "--dry-run")
    assert (done.code, done.out.splitlines()[0]) == (1, "tasks/one/code.py:1:5: warning: perhaps")


def test_a_native_task_is_ordinary_python_and_only_compiled(project: Project) -> None:
    code = "import csv\nraise SystemExit(1)\nclass A: x: int = 1\nasync def one(a): pass\n"
    project.task("one", code, runtime="native")
    assert project("run", "one", "--dry-run").out == "no problems\n"
    project.task("one", "from crm.orders import charge as main\n", runtime="native")
    assert project("run", "one", "--dry-run").out == "no problems\n"
    project.task("one", "def one(:\n", runtime="native")
    done = project("run", "one", "--dry-run")
    assert (done.code, done.out.startswith("tasks/one/code.py:1:9: syntax error")) == (1, True)
    project.task("one", "x = 1\n", runtime="native")
    assert "there is no function to start" in project("run", "one", "--dry-run").out


def test_an_operator_may_turn_native_tasks_off(project: Project) -> None:
    project.task("one", "def one():\n    return 1\n", runtime="native")
    assert project("run", "one").out == "1\n"
    project.ok("init")
    project.ok("config", "set", "runner.native", "false")
    done = project("run", "one")
    assert done.code == 2
    assert "sequential-ecosystem config set runner.native true" in done.err
    assert project.ok("history", "one", "--json").json[0]["status"] == "completed"


def test_a_native_task_imports_modules_of_its_project(project: Project) -> None:
    project.ok("create-task", "sums", "--native")
    Path("counting_of_this_test.py").write_text("def add(a, b):\n    return a + b\n")
    code = "from counting_of_this_test import add\ndef sums():\n    return add(1, 2)\n"
    (project.folder / "tasks" / "sums" / "code.py").write_text(code)
    assert project("run", "sums").out == "3\n"
