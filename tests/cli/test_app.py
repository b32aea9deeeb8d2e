"""What all commands share: help, names, errors, exit codes, start-up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sequential.cli import output
from sequential.cli.app import COMMANDS, cli
from support.command_line import SCRIPT, Project, Start


def every_command() -> list[tuple[str, ...]]:
    """The words of each command that there is, sub-commands too."""
    found: list[tuple[str, ...]] = []

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        found.append(path)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                walk(below, (*path, name))

    walk(cli, ())
    return found


def test_there_is_every_promised_command() -> None:
    promised = "init create-task run list describe history show resume delete".split()
    words = {" ".join(path) for path in every_command()}
    assert {*promised, "config show", "config get", "config set"} <= words


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_help_shows_an_example_of_its_command(
    project: Project, path: tuple[str, ...]
) -> None:
    text = project.ok(*path, "--help").out
    _, _, examples = text.partition("Example")
    assert examples
    lines = [line for line in examples.splitlines()[1:] if line.startswith("  ")]
    start = " ".join(["  sequential-ecosystem", *path])
    assert any(line.startswith(start) for line in lines), examples


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_help_fits_a_terminal_of_eighty_columns(
    project: Project, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = project.ok(*path, "--help").out.splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_short_descriptions_are_not_cut(project: Project) -> None:
    for path in [(), ("config",)]:
        assert "..." not in project.ok(*path, "--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("name", ["sequential-ecosystem", "sequential"])
def test_both_names_are_installed_and_used_in_hints(name: str, tmp_path: Path) -> None:
    script = SCRIPT.with_name(name)
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(f"{name} 0.")
    refused = subprocess.run(
        [script, "show", "nothing", "1"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert f"`{name} list`" in refused.stderr


def test_no_arguments_print_the_help(project: Project) -> None:
    done = project()
    assert done.code == 2
    assert "create-task" in done.out + done.err


@pytest.mark.parametrize(
    ("typed", "meant"), [("rum", "run"), ("creat-task", "create-task"), ("histroy", "history")]
)
def test_an_unknown_command_suggests_the_nearest(project: Project, typed: str, meant: str) -> None:
    done = project(typed)
    assert (done.code, done.out) == (2, "")
    assert f"did you mean {meant}?" in done.err
    assert len(done.err.splitlines()) == 1


def test_an_unknown_command_that_is_near_to_none_lists_all(project: Project) -> None:
    done = project("\x1b[31mxyzzy")
    assert all(name in done.err for name in COMMANDS)
    assert "\x1b" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "a", "b"),
        ("run", "a", "--jsn"),
        ("history", "a", "--limit", "0"),
        ("history", "a", "--limit", "x"),
        ("config", "set"),
        ("config", "gte"),
        ("--project", "nowhere", "list"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(project: Project, arguments: tuple[str, ...]) -> None:
    done = project(*arguments)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("Error: ")


@pytest.mark.parametrize(
    "name", ["../evil", "", "a" * 300, "täsk", "con", "class", "a b", "-x", "a\n"]
)
@pytest.mark.parametrize("command", ["create-task", "run", "describe", "history", "delete"])
def test_hostile_names_are_refused_by_every_command(
    project: Project, command: str, name: str
) -> None:
    done = project(command, "--", name)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "name" in done.err
    assert list(project.folder.parent.glob("evil*")) == []


@pytest.mark.parametrize("prefix", ["../..", "", "x", "*", "%", "0" * 99])
@pytest.mark.parametrize("command", [("resume",), ("show", "quick")])
def test_hostile_run_ids_are_refused(
    project: Project, command: tuple[str, ...], prefix: str
) -> None:
    project.task("quick", "def main():\n    return 1\n")
    done = project(*command, "--", prefix)
    assert (done.code, done.out) == (2, "")
    assert "not a run id" in done.err


def test_an_unexpected_error_is_one_line_with_a_hint(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("sequential.runner.engine.Engine.list_tasks", broken)
    done = project("list")
    assert (done.code, done.out) == (1, "")
    assert "KeyError: 'x'" in done.err
    assert "--debug" in done.err
    monkeypatch.setenv("SEQUENTIAL_DEBUG", "1")
    with pytest.raises(KeyError):
        project("list")


def test_a_broken_settings_file_is_one_line(project: Project) -> None:
    Path(".sequentialrc.json").write_text('{"adaptor": 5}')
    done = project("list")
    assert done.code == 2
    assert ".sequentialrc.json" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_store_that_cannot_be_used_is_one_line(project: Project) -> None:
    Path("tasks").write_text("a file in the place of the folder")
    for command in [("create-task", "a"), ("init",)]:
        done = project(*command)
        assert done.code in (1, 2)
        assert len(done.err.splitlines()) == 1
        assert "tasks" in done.err


def test_commands_find_the_project_from_a_folder_below(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.ok("init")
    project.task("quick", "def main():\n    return 1\n")
    below = project.folder / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert project.ok("run", "quick").out == "1\n"
    monkeypatch.chdir("/")
    assert project.ok("--project", str(project.folder), "run", "quick").out == "1\n"


def test_an_unknown_adapter_is_refused_with_those_there_are(project: Project) -> None:
    done = project("--storage", "sqlte:x.db", "list")
    assert done.code == 2
    assert "folder" in done.err


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("rum",), ("run", "--help")])
def test_help_needs_no_heavy_modules(arguments: tuple[str, ...]) -> None:
    heavy = {"asyncio", "aiohttp", "msgspec", "rich", "pydantic_monty", "zstandard"}
    code = (
        "import sys; from sequential.cli.app import run; run(sys.argv[1:]); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert shown.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_silent(project: Project, start: Start) -> None:
    for number in range(3):
        project.task(f"task-{number}", "def main():\n    return 1\n")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = start("list", "--json", stdout=writing).wait()
    finally:
        os.close(writing)
    assert done.err == ""
    assert done.code == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_an_error(project: Project, start: Start) -> None:
    project.task("quick", "def main():\n    return 1\n")
    with Path("/dev/full").open("w") as full:
        done = start("describe", "quick", stdout=full).wait()
    assert done.code == 1
    assert "the output cannot be written" in done.err
    assert len(done.err.splitlines()) == 1


def test_text_that_the_encoding_lacks_is_escaped(project: Project, start: Start) -> None:
    project.task("quick", "def main():\n    return 'grüße'\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = start("run", "quick", env=environment).wait()
    assert done.json == "grüße"
    assert done.out.isascii()


def test_a_folder_that_is_not_there_any_more(
    project: Project, start: Start, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"cd {gone} && rmdir {gone} && exec {SCRIPT} list"
    done = subprocess.run(
        [shutil.which("sh") or "sh", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr


def test_json_is_safe_to_show() -> None:
    text = output.json_text({"a": "\x1b[31m\x9b\x7f\u202eü"})
    assert "ü" in text
    assert not any(character in text for character in "\x1b\x9b\x7f\u202e")
