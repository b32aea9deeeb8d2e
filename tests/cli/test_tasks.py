"""`create-task`, `list`, `describe`, `delete`."""

import ast
import json
import re
from pathlib import Path

import pytest

from sequential.cli import templates
from sequential.core.inputs import TYPES
from sequential.core.model import InputField
from sequential.runtimes.sandbox.dry_run import dry_run
from support.command_line import Open, Project
from support.http_api import HttpApi

QUICK = "def main():\n    return 1\n"


def test_create_task_writes_a_task_that_passes_the_dry_run(project: Project) -> None:
    done = project.ok("create-task", "my-emails", "--inputs", "userId,email", "--description", "Hi")
    folder = Path("tasks/my-emails")
    assert {path.name for path in folder.iterdir()} == {
        "code.py",
        "config.json",
        "meta.json",
        "runs",
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["name"] == "my-emails"
    assert config["description"] == "Hi"
    assert [field["name"] for field in config["inputs"]] == ["userId", "email"]
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["created"]
    assert meta["version"] == 1
    assert "run my-emails" in done.out
    assert project.ok("run", "my-emails", "--dry-run").out == "no problems\n"


def test_the_printed_example_input_fits_the_task(project: Project, api: HttpApi) -> None:
    inputs = ",".join(f"a_{kind}:{kind}" for kind in TYPES)
    done = project.ok("create-task", "all-types", "--inputs", inputs)
    example = re.search(r"--input '(.*)'", done.out)
    assert example
    checked = project("run", "all-types", "--dry-run", "--input", example[1])
    assert (checked.code, checked.out) == (0, "no problems\n")


def test_the_template_runs_as_it_is(project: Project, api: HttpApi) -> None:
    project.ok("create-task", "first-one", "--inputs", "userId,limit:integer")
    code = Path("tasks/first-one/code.py")
    code.write_text(code.read_text().replace("https://postman-echo.com/get", f"{api.url}/echo"))
    done = project.ok("run", "first-one", "--input", '{"userId": "a b", "limit": 3}')
    assert done.json["success"] is True
    assert done.json["data"]["query"] == "userId=a+b&limit=3"
    assert "answered with 200" in done.err


FIELDS = [
    (),
    (InputField("userId"),),
    tuple(InputField(f"a_rather_long_name_{n}") for n in range(12)),
    tuple(InputField(f"a_{kind}", kind) for kind in TYPES),
]
DESCRIPTIONS = ["", "plain", 'says "hello"', '"""', "ends with \\", "ü\u2028\x1b", "'''", "a\nb"]


@pytest.mark.parametrize("fields", FIELDS, ids=len)
@pytest.mark.parametrize("task", ["my-emails", "fetch", "print", "userId", "A"])
def test_every_template_passes_the_dry_run(task: str, fields: tuple[InputField, ...]) -> None:
    code = templates.code(task, fields, "What it is for")
    assert dry_run(code, task=task, input_names=[field.name for field in fields]) == []
    assert max(len(line) for line in code.splitlines()) <= 100 or len(fields) > 4


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_any_description_makes_valid_code(project: Project, description: str) -> None:
    project.ok("create-task", "described", "--description", description)
    code = Path("tasks/described/code.py").read_text()
    docstring = ast.get_docstring(ast.parse(code)) or ""
    assert docstring.strip() == project.ok("describe", "described", "--json").json["description"]


@pytest.mark.parametrize(
    ("inputs", "part"),
    [
        ("a,a", "named twice"),
        ("a b", "cannot be used"),
        ("1a", "cannot be used"),
        ("class", "reserved"),
        ("fetch", "needs this name"),
        ("a:strng", "did you mean string"),
        ("a:str", "did you mean string"),
        ("a:\x1b[31m", "not known"),
        ("a" * 99, "too long"),
    ],
)
def test_wrong_inputs_are_refused_and_nothing_is_made(
    project: Project, inputs: str, part: str
) -> None:
    done = project("create-task", "wrong", "--inputs", inputs)
    assert done.code == 2
    assert part in done.err
    assert "\x1b" not in done.err
    assert not Path("tasks/wrong").exists()


def test_an_existing_task_is_not_touched(project: Project) -> None:
    folder = project.task("mine", QUICK)
    done = project("create-task", "mine")
    assert done.code == 2
    assert "there is a task mine already" in done.err
    assert [path.name for path in folder.iterdir()] == ["code.py"]
    assert (folder / "code.py").read_text() == QUICK


@pytest.mark.parametrize("file", ["config.json", "notes.txt", "code.py"])
def test_a_folder_that_holds_something_is_not_touched(project: Project, file: str) -> None:
    folder = Path("tasks/mine")
    folder.mkdir(parents=True)
    (folder / file).write_bytes(b"\xff{")
    done = project("create-task", "mine")
    assert done.code == 2
    assert [path.name for path in folder.iterdir()] == [file]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_folder_that_cannot_be_written_is_one_line(project: Project) -> None:
    done = project("--project", "/proc/self", "create-task", "mine")
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1
    assert "/proc/self" in done.err


def test_list_without_tasks_says_how_to_begin(project: Project) -> None:
    done = project.ok("list")
    assert done.out == ""
    assert "create-task" in done.err
    assert project.ok("list", "--json").json == []


def test_list_shows_tasks_with_their_runs(project: Project) -> None:
    project.task("one", QUICK, description="The first")
    project.task("two", QUICK, inputs=[{"name": "n", "type": "integer", "default": 1}])
    project.ok("run", "one")
    lines = project.ok("list").out.splitlines()
    assert re.match(r"one +1 +completed +\d\d:\d\d:\d\d +The first$", lines[1])
    assert re.match(r"two +0$", lines[2])
    assert "n: integer" in project.ok("list", "-v").out


def test_list_json_has_one_shape_for_all_tasks(project: Project) -> None:
    project.task("one", QUICK)
    project.task("two", QUICK, timeout=5, inputs=[{"name": "n"}])
    project.ok("run", "one")
    one, two = project.ok("list", "--json").json
    assert list(one) == list(two) == list(project.ok("describe", "one", "--json").json)
    assert (one["name"], one["runs"], one["last_run"]["status"]) == (
        "one",
        {"total": 1, "completed": 1},
        "completed",
    )
    assert two["last_run"] is None
    assert two["inputs"] == [
        {"name": "n", "type": "string", "description": "", "required": True, "default": None}
    ]


def test_describe_tells_what_a_person_wants_to_know(project: Project) -> None:
    project.task(
        "one",
        QUICK,
        description="The \x1b[31mfirst",
        timeout=90,
        inputs=[{"name": "n", "type": "integer", "default": 1, "description": "How many"}],
        allow={"hosts": ["api.example.com"], "services": []},
    )
    text = project.ok("describe", "one").out
    for part in ("tasks/one/code.py", "1 min 30 s", "api.example.com", "default 1", "How many"):
        assert part in text
    assert "\x1b" not in text


def test_a_damaged_task_is_named(project: Project) -> None:
    project.task("good", QUICK)
    (project.task("bad", QUICK) / "config.json").write_text("{")
    done = project.ok("list")
    assert "good" in done.out
    assert "tasks/bad/config.json" in done.err


def test_an_unknown_task_suggests_the_nearest(project: Project) -> None:
    project.task("my-emails", QUICK)
    for command in ("run", "describe", "history", "delete"):
        done = project(command, "my-email")
        assert done.code == 2
        assert "did you mean my-emails?" in done.err


def test_delete_without_a_terminal_needs_force(project: Project) -> None:
    project.task("one", QUICK)
    done = project("delete", "one")
    assert done.code == 2
    assert "--force" in done.err
    assert Path("tasks/one/code.py").exists()


def test_delete_removes_the_task_and_its_runs_and_says_how_many(project: Project) -> None:
    project.task("one", QUICK)
    project.ok("run", "one")
    project.ok("run", "one")
    assert "2 runs" in project.ok("delete", "one", "--force").out
    assert not Path("tasks/one").exists()
    assert project.ok("list", "--json").json == []


@pytest.mark.parametrize(("answer", "is_there"), [("y", False), ("n", True)])
def test_delete_asks_on_a_terminal(
    project: Project, terminal: Open, answer: str, is_there: bool
) -> None:
    project.task("one", QUICK)
    project.ok("run", "one")
    shell = terminal("delete", "one")
    shell.until("with 1 run? [y/N]")
    shell.type(f"{answer}\r")
    code, text = shell.wait()
    assert Path("tasks/one").exists() is is_there
    assert code == (1 if is_there else 0)
    assert ("Nothing was removed" in text) is is_there


def test_ctrl_c_at_the_question_removes_nothing(project: Project, terminal: Open) -> None:
    project.task("one", QUICK)
    shell = terminal("delete", "one")
    shell.until("[y/N]: ")
    shell.type("\x03")
    code, text = shell.wait()
    assert code == 130
    assert "Traceback" not in text
    assert Path("tasks/one/code.py").exists()
