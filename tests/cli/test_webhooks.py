"""`webhooks list`, `set`, `delete` and `url`."""

import pytest

from sequential.cli import webhooks
from sequential.core.webhook import STYLES
from support.command_line import Project

CODE = "def main(payload):\n    return payload\n"
GITHUB = ("--style", "github", "--secret", "github/hook")
URL = "http://127.0.0.1:3000/webhooks/deploy/push"


@pytest.fixture(autouse=True)
def deploy(project: Project) -> None:
    """A task that is there in every test."""
    project.ok("init")
    project.task("deploy", CODE, inputs=[{"name": "payload", "type": "any"}])


def test_a_webhook_is_set_listed_and_deleted(project: Project) -> None:
    assert "There are no webhooks" in project.ok("webhooks", "list").err
    done = project.ok("webhooks", "set", "deploy", "push", *GITHUB)
    assert done.out == f"set      deploy/push: starts a run\nurl      {URL}\n"
    assert "It takes nothing yet: its secret is not set" in done.err
    assert "keys set github/hook" in project.ok("webhooks", "list").out
    project.ok("keys", "set", "github/hook", "--value", "a long secret")
    title, row = project.ok("webhooks", "list", "deploy").out.splitlines()
    assert title.split() == ["task", "webhook", "style", "secret", "does"]
    assert row.split() == ["deploy", "push", "github", "github/hook", "starts", "a", "run"]
    assert project.ok("webhooks", "url", "deploy", "push").out == f"{URL}\n"
    assert project.ok("webhooks", "delete", "deploy", "push").out == "deleted  deploy/push\n"
    gone = project("webhooks", "url", "deploy", "push")
    assert (gone.code, "the task deploy has no webhook push" in gone.err) == (2, True)


def test_a_webhook_as_a_document_and_in_describe(project: Project) -> None:
    done = project.ok("webhooks", "set", "deploy", "push", *GITHUB, "--json").json
    assert done.pop("problem").startswith("its secret is not set")
    assert done == {
        "task": "deploy",
        "name": "push",
        "secret": "github/hook",
        "style": "github",
        "previous_secret": None,
        "start": None,
        "answer": None,
        "tolerance": None,
        "origin": "api",
        "url": URL,
    }
    described = project.ok("describe", "deploy", "--json").json
    (webhook,) = described["webhooks"]
    assert (webhook["name"], webhook["url"]) == ("push", "/webhooks/deploy/push")
    assert "Webhooks\nwebhook  style" in project.ok("describe", "deploy").out
    assert project.ok("list", "--json").json[0]["webhooks"] == described["webhooks"]


def test_what_is_not_given_stays_as_it_is(project: Project) -> None:
    project.ok("webhooks", "set", "deploy", "push", *GITHUB, "--start", "payload=$.commits.0")
    changed = project.ok(
        *(
            "webhooks",
            "set",
            "deploy",
            "push",
            "--secret",
            "new",
            "--previous-secret",
            "github/hook",
        ),
        "--json",
    ).json
    assert (changed["style"], changed["start"]) == ("github", {"payload": "$.commits.0"})
    assert (changed["secret"], changed["previous_secret"]) == ("new", "github/hook")
    answering = ("--answer", "word", "--run", "$.run", "--previous-secret", "")
    changed = project.ok("webhooks", "set", "deploy", "push", *answering, "--json").json
    assert (changed["start"], changed["previous_secret"]) == (None, None)
    assert changed["answer"] == {"event": "word", "run": "$.run"}
    assert "answers word" in project.ok("webhooks", "list").out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "give --secret"),
        (("--secret", "s", "--answer", "word"), "--answer and --run go together"),
        (("--secret", "s", "--start", "payload"), "write FIELD=PATH"),
        (("--secret", "s", "--start", "payload=x"), "is no path"),
        (("--secret", "s", "--start", "nobody=$.x"), "has no input nobody"),
        (("--secret", "s", "--style", "gitlab"), "gitlab"),
        (("--secret", "s", "--start", "p=$", "--answer", "e", "--run", "$"), "one of --start"),
    ],
)
def test_what_cannot_be_is_refused(project: Project, given: tuple[str, ...], told: str) -> None:
    refused = project("webhooks", "set", "deploy", "push", *given)
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err
    assert project.ok("webhooks", "list", "--json").json == []


def test_those_of_config_json_are_listed_with_what_is_wrong(project: Project) -> None:
    own = [{"name": "push", "secret": "hook", "start": {"payload": "nowhere"}}]
    project.task("deploy", CODE, inputs=[{"name": "payload"}], webhooks=own)
    (listed,) = project.ok("webhooks", "list", "--json").json
    assert (listed["origin"], "is no path" in listed["problem"]) == ("config.json", True)
    refused = project("webhooks", "delete", "deploy", "push")
    assert (refused.code, "config.json of deploy" in refused.err) == (2, True)


def test_the_styles_are_those_there_are() -> None:
    assert webhooks.STYLES == STYLES
