"""`keys set`, `keys get`, `keys list`, `keys delete`."""

from pathlib import Path

import pytest

from support.command_line import Open, Project, PutStdin
from support.http_api import HttpApi


@pytest.fixture(autouse=True, params=["folder", "sqlite"])
def store(request: pytest.FixtureRequest, project: Project) -> None:
    """Every test is done on each of these."""
    project.ok("init")
    project.ok("config", "set", "adaptor", request.param)


def test_a_secret_from_stdin(project: Project, stdin: PutStdin) -> None:
    stdin(b"s3cret value\n")
    assert project.ok("keys", "set", "crm/token").out == "set      crm/token\n"
    assert project.ok("keys", "get", "crm/token").out == "s3cret value\n"
    stdin(b"another one\r\n")
    project.ok("keys", "set", "crm/token", "-")
    assert project.ok("keys", "get", "crm/token").out == "another one\n"


def test_a_secret_from_a_file(project: Project) -> None:
    Path("key.pem").write_text("-----BEGIN-----\nabc\n-----END-----\n")
    project.ok("keys", "set", "google/key", "--value-file", "key.pem")
    assert project.ok("keys", "get", "google/key").out == Path("key.pem").read_text()


def test_a_secret_typed_in_is_not_shown(project: Project, terminal: Open) -> None:
    window = terminal("keys", "set", "crm/token")
    window.until("Value of crm/token (not shown)")
    window.type("s3cret value\n")
    code, shown = window.wait()
    assert code == 0
    assert "s3cret" not in shown
    assert project.ok("keys", "get", "crm/token").out == "s3cret value\n"


def test_a_secret_on_the_command_line_comes_with_a_warning(project: Project) -> None:
    done = project.ok("keys", "set", "crm/token", "--value", "s3cret value")
    assert "delete the line from its history" in done.err
    assert "s3cret" not in done.out + done.err
    assert project.ok("keys", "get", "crm/token").out == "s3cret value\n"


def test_a_short_secret_comes_with_a_warning(project: Project, stdin: PutStdin) -> None:
    stdin(b"12345")
    assert "shorter than 6 characters" in project.ok("keys", "set", "pin").err
    stdin(b"123456")
    assert project.ok("keys", "set", "pin").err == ""


def test_names_are_listed(project: Project) -> None:
    assert project.ok("keys", "list").out == ""
    assert "There are no secrets yet" in project.ok("keys", "list").err
    assert project.ok("keys", "list", "--json").json == []
    for name in ("google/id", "crm"):
        project.ok("keys", "set", name, "--value", "a value")
    assert project.ok("keys", "list").out == "crm\ngoogle/id\n"
    assert project.ok("keys", "list", "--json").json == ["crm", "google/id"]


def test_secrets_are_deleted(project: Project) -> None:
    for name in ("a", "b", "c"):
        project.ok("keys", "set", name, "--value", "a value")
    assert project.ok("keys", "delete", "a", "b").out == "deleted  a\ndeleted  b\n"
    assert project.ok("keys", "list").out == "c\n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("get", "crm/tokn"), "there is no secret crm/tokn: did you mean crm/token?"),
        (("delete", "crm/token", "crm/tokn"), "did you mean crm/token?"),
        (("get", "zzz"), "there is no secret zzz: `sequential-ecosystem keys set zzz`"),
        (("get", "../zzz"), "not a name of a secret: '../zzz'"),
        (("set", "a b"), "not a name of a secret: 'a b'"),
        (("set", "a", "s3cret"), "stays in the shell's history"),
        (("set", "a", "-", "--value", "x"), "give one of"),
        (("set", "a", "--value-file", "none"), "none cannot be read: No such file"),
        (("set", "a", "--value", ""), "the value of a has 0 bytes"),
        (("delete",), "Missing argument"),
        (("show",), "No such command"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    project: Project, arguments: tuple[str, ...], part: str
) -> None:
    project.ok("keys", "set", "crm/token", "--value", "a value")
    done = project("keys", *arguments)
    assert (done.code, done.out) == (2, "")
    assert part in done.err
    assert len(done.err.splitlines()) == 1
    assert project.ok("keys", "list").out == "crm/token\n"


def test_bytes_that_are_no_text_are_refused(project: Project, stdin: PutStdin) -> None:
    stdin(b"\xff\xfe")
    assert "the value in stdin is not UTF-8 text (byte 0)" in project("keys", "set", "a").err


def test_another_secret_is_said_in_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.ok("keys", "set", "crm/token", "--value", "a value")
    monkeypatch.setenv("SEQUENTIAL_SECRET", "another")
    done = project("keys", "get", "crm/token")
    assert (done.code, done.out) == (2, "")
    assert "the keystore was written with another SEQUENTIAL_SECRET" in done.err
    assert len(done.err.splitlines()) == 1


def test_without_a_lasting_key_nothing_is_kept(project: Project) -> None:
    Path(".sequential").write_text("not a folder")
    done = project("keys", "set", "crm/token", "--value", "a value")
    assert done.code == 2
    assert "set the variable SEQUENTIAL_SECRET" in done.err
    assert project.ok("keys", "list").out == ""


def test_what_a_task_sent_is_shown_by_no_command(project: Project, api: HttpApi) -> None:
    code = """
async def ask(url):
    answer = await fetch(url, headers={"Authorization": "Bearer {{secret:crm/token}}"})
    print(answer.text)
    return answer.json()
"""
    project.ok("config", "set", "adaptor", "folder")
    project.task("ask", code, inputs=[{"name": "url"}])
    project.ok("keys", "set", "crm/token", "--value", "s3cret value")
    given = '{"url": "' + api.url + '/mirror"}'
    shown = [project.ok("run", "ask", "--input", given, "--verbose", "--save")]
    (run_id,) = project.run_ids("ask")
    shown += [project.ok("show", "ask", run_id), project.ok("show", "ask", run_id, "--json")]
    shown += [project.ok("history", "ask", "--json"), project.ok("describe", "ask")]
    assert api.last.headers["authorization"] == "Bearer s3cret value"
    assert "Bearer {{secret:crm/token}}" in shown[0].out
    assert "s3cret" not in "".join(done.out + done.err for done in shown)
    assert "s3cret" not in Path("tasks/ask/results.json").read_text()
