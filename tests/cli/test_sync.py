"""`sync-tasks` and `pull-tasks`: tasks between the folder and a database."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sequential.errors import StorageReadOnlyError
from sequential.storage.folder_task_files import TaskFiles
from support.command_line import Done, Project

GREET = "def greet(name):\n    return 'Hello, ' + name\n"
INPUTS = [{"name": "name"}]


@pytest.fixture(autouse=True)
def tasks(project: Project) -> None:
    """A project on SQLite with two tasks in its folder."""
    project.ok("init")
    project.ok("config", "set", "adaptor", "sqlite")
    project.task("greet", GREET, inputs=INPUTS)
    project.task("one", "def one():\n    return 1\n")


def changes(done: Done) -> dict[str, tuple[Any, ...]]:
    """What became of each task, with its version before and after."""
    return {
        task["name"]: (task["change"], task["old_version"], task["version"])
        for task in done.json["tasks"]
    }


def sync(project: Project, *arguments: str) -> dict[str, tuple[Any, ...]]:
    return changes(project.ok("sync-tasks", *arguments, "--json"))


def pull(project: Project, *arguments: str) -> dict[str, tuple[Any, ...]]:
    return changes(project("pull-tasks", *arguments, "--json"))


# From the folder into the database


def test_tasks_are_added_updated_and_left_unchanged(project: Project) -> None:
    assert sync(project) == {"greet": ("added", None, 1), "one": ("added", None, 1)}
    assert sync(project) == {"greet": ("unchanged", 1, 1), "one": ("unchanged", 1, 1)}
    project.task("one", "def one():\n    return 2\n")
    assert sync(project) == {"greet": ("unchanged", 1, 1), "one": ("updated", 1, 2)}
    project.task("greet", GREET, inputs=INPUTS, description="new")
    assert sync(project, "--task", "greet") == {"greet": ("updated", 1, 2)}
    assert project.ok("run", "one").out == "2\n"
    assert project.ok("describe", "greet", "--json").json["description"] == "new"


def test_the_report_for_people(project: Project) -> None:
    done = project.ok("sync-tasks")
    assert done.out == "added      greet  version 1\nadded      one    version 1\n"
    assert "2 added; storage sqlite" in done.err
    project.task("one", "def one():\n    x = 1\n    return x\n", timeout=5)
    done = project.ok("sync-tasks", "--verbose")
    lines = done.out.splitlines()
    assert lines[0] == "unchanged  greet  version 1"
    assert lines[2] == "updated    one    version 1 -> 2"
    assert lines[3].startswith("  digest ")
    assert " -> " in lines[3]
    assert lines[4:] == ["  code.py: 2 lines added, 1 removed", "  config.json: timeout"]


def test_a_dry_run_writes_nothing(project: Project) -> None:
    done = project.ok("sync-tasks", "--dry-run")
    assert "added      greet  version 1\n" in done.out
    assert "dry run: nothing was written" in done.err
    assert project.ok("list", "--json").json == []
    assert not Path("tasks/one/meta.json").exists()
    sync(project)
    project.task("one", "def one():\n    return 2\n")
    assert sync(project, "--dry-run")["one"] == ("updated", 1, 2)
    assert project.ok("run", "one").out == "1\n"


def test_what_is_wrong_with_a_task_is_listed_and_the_others_are_copied(project: Project) -> None:
    project.task("bad", "def bad():\n    yield 1\n    del x\n", timeout=-1)
    (project.task("worse", "def worse():\n    return 1\n") / "config.json").write_text("{,}")
    (project.folder / "tasks" / "no-task").mkdir()
    done = project("sync-tasks")
    assert done.code == 1
    lines = done.out.splitlines()
    bad = lines.index("refused    bad    3 problems")
    assert lines[bad + 1] == "  config.json: timeout must be more than 0, this is -1"
    assert lines[bad + 2].startswith("  tasks/bad/code.py:2:5: ")
    assert lines[bad + 3].startswith("  tasks/bad/code.py:3:5: ")
    assert "refused    worse  1 problem" in lines
    assert any(line.startswith("  tasks/worse/config.json: ") for line in lines)
    assert "2 added, 2 refused" in done.err
    assert [task["name"] for task in project.ok("list", "--json").json] == ["greet", "one"]


def test_a_task_that_became_wrong_stays_as_it_was(project: Project) -> None:
    sync(project)
    project.task("one", "def one(:\n")
    done = project("sync-tasks", "--json")
    assert done.code == 1
    assert changes(done)["one"] == ("refused", 1, 1)
    assert project.ok("run", "one").out == "1\n"


def test_tasks_that_only_the_database_has_are_left_alone_and_mentioned(project: Project) -> None:
    project.ok("create-task", "elsewhere")
    done = project.ok("sync-tasks")
    assert "Only in the storage, and left alone: elsewhere" in done.err
    assert project.ok("sync-tasks", "--json").json["elsewhere"] == ["elsewhere"]
    assert project.ok("describe", "elsewhere", "--json").json["version"] == 1


def test_an_unknown_task_is_answered_with_the_nearest(project: Project) -> None:
    done = project("sync-tasks", "--task", "gret")
    assert done.code == 2
    assert "there is no task gret in the tasks folder: did you mean greet?" in done.err
    assert project("pull-tasks", "--task", "../x").code == 2
    assert "in the storage: there are none" in project("pull-tasks", "--task", "gret").err


def test_the_storage_can_be_named(project: Project) -> None:
    done = project.ok("sync-tasks", "--adaptor", "sqlite:other.db")
    assert "storage sqlite:" in done.err
    assert project.ok("list", "--json").json == []
    stored = project.ok("--storage", "sqlite:other.db", "list", "--json").json
    assert [task["name"] for task in stored] == ["greet", "one"]
    assert project("sync-tasks", "--adaptor", "sqlit").code == 2


@pytest.mark.parametrize("command", ["sync-tasks", "pull-tasks"])
@pytest.mark.parametrize("arguments", [("--adaptor", "folder"), ("--adaptor", "default")])
def test_the_folder_itself_has_nothing_to_exchange(
    project: Project, command: str, arguments: tuple[str, ...]
) -> None:
    done = project.ok(command, *arguments)
    assert "nothing to do: the storage is the tasks folder itself" in done.out
    assert "--adaptor sqlite" in done.out
    assert project.ok(command, *arguments, "--json").json["tasks"] == []


def test_runs_from_the_database_need_no_folder(project: Project) -> None:
    sync(project)
    shutil.move("tasks", "elsewhere")
    run_id = project.ok("submit", "greet", "--input", '{"name": "Ada"}').out.strip()
    project.ok("worker", "--until-idle")
    assert project.ok("wait", run_id).out == '"Hello, Ada"\n'
    assert project.ok("run", "greet", "--input", '{"name": "Bob"}').out == '"Hello, Bob"\n'
    assert project.ok("show", "greet", run_id, "--json").json["status"] == "completed"
    assert not Path("tasks").exists()


def test_a_folder_that_cannot_be_written_can_be_synced(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise StorageReadOnlyError

    monkeypatch.setattr(TaskFiles, "note_exchanged", read_only)
    assert sync(project)["greet"] == ("added", None, 1)


def test_a_task_that_is_in_the_folder_only_is_told_how_to_get_into_the_database(
    project: Project,
) -> None:
    (project.folder / "tasks" / "no-task").mkdir()
    for command in (
        ("run",),
        ("run", "--dry-run"),
        ("submit",),
        ("describe",),
        ("history",),
        ("delete", "--force"),
        ("worker", "--task"),
    ):
        done = project(*command, "greet")
        assert (done.code, done.out) == (2, "")
        assert "`sequential-ecosystem sync-tasks --task greet` copies it" in done.err
    named = project("--storage", "sqlite:other.db", "run", "greet")
    assert "`sequential-ecosystem sync-tasks --adaptor sqlite:other.db --task greet`" in named.err
    assert "sync-tasks" not in project("run", "no-task").err
    assert "sync-tasks" not in project("--storage", "memory:", "run", "greet").err
    sync(project, "--task", "greet")
    assert project("run", "--dry-run", "greet").code == 0
    assert "did you mean greet?" in project("run", "gret").err


def test_an_empty_database_beside_a_folder_with_tasks_says_how_they_get_there(
    project: Project,
) -> None:
    empty = project.ok("list").err
    assert "There are no tasks yet: sequential-ecosystem create-task my-task\n" in empty
    assert "has 2 tasks, copied into this storage by: sequential-ecosystem sync-tasks\n" in empty
    sync(project, "--task", "one")
    assert "sync-tasks" not in project.ok("list").err


# From the database into the folder


def test_a_folder_is_made_from_the_database(project: Project) -> None:
    sync(project)
    shutil.rmtree("tasks")
    assert pull(project) == {"greet": ("added", None, 1), "one": ("added", None, 1)}
    assert Path("tasks/greet/code.py").read_text() == GREET
    assert json.loads(Path("tasks/greet/config.json").read_text())["inputs"][0]["name"] == "name"
    assert pull(project) == {"greet": ("unchanged", None, 1), "one": ("unchanged", None, 1)}
    assert sync(project) == {"greet": ("unchanged", 1, 1), "one": ("unchanged", 1, 1)}
    given = ("run", "greet", "--input", '{"name": "Ada"}')
    assert project.ok("--storage", "folder", *given).out == '"Hello, Ada"\n'


def test_what_somebody_else_synced_arrives(project: Project) -> None:
    sync(project)
    shutil.copytree("tasks", "before")
    project.task("one", "def one():\n    return 2\n")
    sync(project)
    shutil.rmtree("tasks")
    shutil.move("before", "tasks")
    assert pull(project)["one"] == ("updated", None, 2)
    assert "return 2" in Path("tasks/one/code.py").read_text()
    assert json.loads(Path("tasks/one/meta.json").read_text())["version"] == 2
    assert pull(project)["one"] == ("unchanged", None, 2)


def test_changes_that_were_never_synced_are_not_overwritten(project: Project) -> None:
    sync(project)
    mine = "def one():\n    return 'mine'\n"
    project.task("one", mine)
    done = project("pull-tasks")
    assert done.code == 1
    assert "refused    one    1 problem" in done.out
    assert "tasks/one was changed and the changes were never synced" in done.out
    assert "`sequential-ecosystem sync-tasks`, or pull with --force" in done.err
    assert Path("tasks/one/code.py").read_text() == mine
    assert pull(project, "--dry-run", "--force")["one"] == ("updated", None, 1)
    assert Path("tasks/one/code.py").read_text() == mine
    assert pull(project, "--force")["one"] == ("updated", None, 1)
    assert "return 1" in Path("tasks/one/code.py").read_text()
    assert project.ok("pull-tasks").code == 0


def test_a_task_of_the_same_name_that_was_written_here_is_not_overwritten(
    project: Project,
) -> None:
    project.ok("create-task", "mine")
    project.task("mine", "def mine():\n    return 'mine'\n")
    done = project("pull-tasks", "--task", "mine")
    assert done.code == 1
    assert "return 'mine'" in Path("tasks/mine/code.py").read_text()


def test_a_file_that_cannot_be_read_is_overwritten_by_force_only(project: Project) -> None:
    sync(project)
    for file in ("config.json", "meta.json"):
        Path("tasks/one", file).write_text("{,}")
        assert pull(project)["one"][0] == "refused"
        assert pull(project, "--force")["one"][0] == "updated"
        assert pull(project)["one"][0] == "unchanged"


def test_tasks_that_only_the_folder_has_are_left_alone_and_mentioned(project: Project) -> None:
    sync(project, "--task", "one")
    assert "Only in the folder, and left alone: greet" in project.ok("pull-tasks").err


def test_the_folder_store_keeps_what_was_synced(project: Project) -> None:
    sync(project)
    before = json.loads(Path("tasks/one/meta.json").read_text())
    assert len(before["synced"]) == 64
    project.ok("--storage", "folder", "run", "one")
    assert json.loads(Path("tasks/one/meta.json").read_text()) == before
