"""`config show`, `config get`, `config set`."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Project


def stored() -> Any:
    return json.loads(Path(".sequentialrc.json").read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ("defaults.userId", "john"),
        ("--key", "defaults.userId", "--value", "john"),
        ("--key", "defaults.userId", "john"),
    ],
)
def test_set_in_every_form(project: Project, arguments: tuple[str, ...]) -> None:
    assert project.ok("config", "set", *arguments).out == "defaults.userId = john\n"
    assert stored() == {"adaptor": "default", "defaults": {"userId": "john"}}
    assert project.ok("config", "get", "defaults.userId").out == "john\n"
    assert project.ok("config", "get", "--key", "defaults.userId").out == "john\n"


def test_values_are_json_where_that_makes_sense(project: Project) -> None:
    project.ok("config", "set", "defaults.limit", "-5")
    project.ok("config", "set", "defaults.tags", '["a", "b"]')
    project.ok("config", "set", "runner.calls", "20")
    assert stored()["defaults"] == {"limit": -5, "tags": ["a", "b"]}
    assert stored()["runner"] == {"calls": 20}
    assert project.ok("config", "get", "defaults.tags").json == ["a", "b"]
    assert project.ok("config", "get", "defaults").json == {"limit": -5, "tags": ["a", "b"]}


def test_get_tells_what_is_in_force_also_if_nothing_is_stored(project: Project) -> None:
    assert project.ok("config", "get", "adaptor").out == "default\n"
    assert project.ok("config", "get", "retry.retries").out == "3\n"
    assert project.ok("config", "get", "http").json["timeout"] == 60
    assert not Path(".sequentialrc.json").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("get", "adapter"), "did you mean 'adaptor'"),
        (("get", "retry.retry"), "did you mean 'retries'"),
        (("get",), "KEY is missing"),
        (("set", "adaptor"), "VALUE is missing"),
        (("set", "adapter", "x"), "did you mean 'adaptor'"),
        (("set", "runner.calls", "many"), "int"),
        (("set", "runner.call", "1"), "did you mean 'calls'"),
        (("set", "..", "1"), "not the name of a setting"),
        (("set", "adaptor", "a", "--value", "b"), "given twice"),
    ],
)
def test_wrong_keys_and_values_change_nothing(
    project: Project, arguments: tuple[str, ...], part: str
) -> None:
    project.ok("init")
    before = stored()
    done = project("config", *arguments)
    assert (done.code, done.out) == (2, "")
    assert part in done.err
    assert len(done.err.splitlines()) == 1
    assert stored() == before


def test_an_adaptor_that_is_not_here_is_stored_with_a_note(project: Project) -> None:
    done = project.ok("config", "set", "adaptor", "mongo:./workflow")
    assert stored()["adaptor"] == "mongo:./workflow"
    assert "not available" in done.err
    assert "folder" in done.err
    assert project("list").code == 2
    assert project.ok("config", "set", "adaptor", "default").err == ""


def test_show_names_the_origin_of_each_setting(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.ok("config", "set", "defaults.userId", "john")
    monkeypatch.setenv("TASK_TIMEOUT", "5000")
    monkeypatch.setenv("TASK_MAX_RETRIES", "7")
    shown = project.ok("config", "show", "--json").json
    assert shown["settings"]["runner"]["timeout"] == 5
    assert shown["settings"]["retry"]["retries"] == 7
    origins = shown["origins"]
    assert origins["runner.timeout"] == "TASK_TIMEOUT"
    assert origins["retry.retries"] == "TASK_MAX_RETRIES"
    assert origins["defaults.userId"] == ".sequentialrc.json"
    assert origins["http.timeout"] == "default"
    lines = {
        line.split()[0]: line.split()[1:] for line in project.ok("config", "show").out.splitlines()
    }
    assert lines["retry.retries"] == ["7", "TASK_MAX_RETRIES"]
    assert lines["defaults.userId"] == ['"john"', ".sequentialrc.json"]


URL = "postgres://ada:s3cret@127.0.0.1:1/app"


def test_the_password_of_a_database_is_never_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [project.ok("config", "set", "adaptor", URL)]
    assert stored()["adaptor"] == URL
    commands = [("show",), ("show", "--json"), ("get", "adaptor")]
    shown += [project.ok("config", *command) for command in commands]
    monkeypatch.setenv("DATABASE_URL", URL.replace("postgres", "postgresql"))
    shown += [project.ok("config", *command) for command in commands]
    assert all("ada:***@127.0.0.1:1/app" in done.out for done in shown)
    shown += [project("list"), project("--storage", URL.replace("postgres", "postgers"), "list")]
    assert [done.code for done in shown[-2:]] != [0, 0]
    assert "s3cret" not in "".join(done.out + done.err for done in shown)


def test_a_supabase_project_is_named_as_the_origin(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://x.supabase.co")
    monkeypatch.setenv("SUPABASE_ANON_KEY", "s3cret")
    shown = project.ok("config", "show", "--json").json
    assert shown["settings"]["adaptor"] == "supabase"
    assert shown["origins"]["adaptor"] == "SUPABASE_URL"
    assert project.ok("config", "set", "adaptor", "folder").err == ""
    assert project.ok("config", "get", "adaptor").out == "folder\n"


def test_a_storage_of_the_command_line_is_named_as_the_origin(project: Project) -> None:
    project.ok("init")
    shown = project.ok("--storage", "sqlite:own.db", "config", "show", "--json").json
    assert Path(shown["settings"]["adaptor"].removeprefix("sqlite:")).name == "own.db"
    assert shown["origins"]["adaptor"] == "--storage"


def test_set_says_when_the_environment_has_the_last_word(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_MAX_RETRIES", "7")
    assert "TASK_MAX_RETRIES" in project.ok("config", "set", "retry.retries", "1").err


def test_every_key_that_is_shown_can_be_got_and_set(project: Project) -> None:
    for key in project.ok("config", "show", "--json").json["origins"]:
        value = project.ok("config", "get", key).out.strip()
        project.ok("config", "set", key, value)
    project.ok("list")


def test_a_wrong_variable_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_TIMEOUT", "soon")
    done = project("config", "show")
    assert done.code == 2
    assert "TASK_TIMEOUT" in done.err


def test_the_settings_file_stays_readable_for_others(project: Project) -> None:
    project.ok("init")
    project.ok("config", "set", "defaults.a", "ü")
    assert Path(".sequentialrc.json").stat().st_mode & 0o444 == 0o444
    assert "ü" in Path(".sequentialrc.json").read_text("utf-8")
    assert [path.name for path in project.folder.iterdir() if "tmp" in path.name] == []
