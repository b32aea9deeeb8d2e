"""`init`: what it makes, and that it leaves alone what is there."""

import json
from pathlib import Path

import pytest

from support.command_line import Project


def test_init_makes_a_project_and_says_what_to_do_next(project: Project) -> None:
    done = project.ok("init")
    assert Path("tasks").is_dir()
    assert json.loads(Path(".sequentialrc.json").read_text()) == {
        "adaptor": "default",
        "defaults": {},
    }
    assert ".sequential/" in Path(".gitignore").read_text().splitlines()
    next_steps = done.out.partition("Next:")[2].split("\n")
    assert "create-task" in next_steps[1]
    assert "run" in next_steps[2]


def test_the_next_steps_work_as_they_are_printed(project: Project) -> None:
    next_steps = project.ok("init").out.partition("Next:")[2].strip().split("\n")
    create = next_steps[0].split()[1:]
    project.ok(*create)
    assert project.ok("run", create[1], "--dry-run").out == "no problems\n"


def test_init_twice_changes_nothing(project: Project) -> None:
    project.ok("init")
    project.ok("config", "set", "defaults.userId", "john")
    before = {path: path.read_bytes() for path in project.folder.iterdir() if path.is_file()}
    done = project.ok("init")
    assert {path: path.read_bytes() for path in before} == before
    assert "created" not in done.out


def test_init_keeps_what_a_gitignore_holds(project: Project) -> None:
    Path(".gitignore").write_text("*.log")
    project.ok("init")
    lines = Path(".gitignore").read_text().splitlines()
    assert lines[0] == "*.log"
    assert lines.count(".sequential/") == lines.count(".changes") == 1
    Path(".gitignore").write_text("/.sequential\n")
    assert "changed  .gitignore" in project.ok("init").out
    assert ".sequential/" not in Path(".gitignore").read_text()
    assert "exists   .gitignore" in project.ok("init").out


def test_init_makes_the_folder_it_is_given(project: Project) -> None:
    project.ok("--project", "new/deep", "init")
    assert Path("new/deep/tasks").is_dir()
    assert not Path("tasks").exists()


def test_init_refuses_a_broken_settings_file(project: Project) -> None:
    Path(".sequentialrc.json").write_text("{")
    done = project("init")
    assert done.code == 2
    assert Path(".sequentialrc.json").read_text() == "{"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_init_where_nothing_can_be_written_is_one_line(project: Project) -> None:
    done = project("--project", "/proc/self", "init")
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "/proc/self" in done.err


def test_the_key_is_never_committed_even_without_init(project: Project) -> None:
    project.task("quick", "def main():\n    return 1\n")
    project.ok("run", "quick")
    assert Path(".sequential/.gitignore").read_text() == "*\n"
    assert Path(".sequential/secret.key").stat().st_mode & 0o777 == 0o600
