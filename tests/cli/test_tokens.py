"""`tokens create`, `tokens list`, `tokens revoke`, and when `serve` wants one."""

import asyncio
from pathlib import Path

import pytest

from sequential.runner.engine import Engine
from support.command_line import Project


@pytest.fixture(autouse=True, params=["folder", "sqlite"])
def store(request: pytest.FixtureRequest, project: Project) -> None:
    """Every test is done on each of these."""
    project.ok("init")
    project.ok("config", "set", "adaptor", request.param)


def test_a_token_is_made_listed_and_revoked(project: Project) -> None:
    made = project.ok("tokens", "create", "ci", "--role", "operate", "--expires", "90d")
    token = made.out.strip()
    listed = project.ok("tokens", "list").out

    assert token.startswith("seq_")
    assert "It is not shown again." in made.err
    assert "operate" in listed
    assert "until " in listed
    assert listed.endswith("  ci\n")
    assert token not in listed + project.ok("tokens", "list", "--json").out

    assert project.ok("tokens", "revoke", "ci").out.startswith("revoked  ")
    assert "There are no tokens yet" in project.ok("tokens", "list").err


async def noted(folder: Path) -> list[tuple[str, str]]:
    async with Engine(project=folder) as engine:
        return [(entry.actor, entry.action) for entry in await engine.audit.list()]


def test_it_is_in_the_audit_log(project: Project) -> None:
    project.ok("tokens", "create", "ci")
    project.ok("tokens", "revoke", "ci")

    assert asyncio.run(noted(project.folder)) == [
        ("command line", "tokens.revoke"),
        ("command line", "tokens.create"),
    ]


def test_as_json(project: Project) -> None:
    limits = '{"hosts": ["api.example.com"], "runs": 5}'
    made = project.ok(
        "tokens", "create", "guest", "--role", "operate", "--limits", limits, "--json"
    ).json
    listed = project.ok("tokens", "list", "--json").json

    assert made.pop("token").startswith(f"seq_{made['id']}_")
    assert listed == [made]
    assert made["limits"] == {"hosts": ["api.example.com"], "runs": 5}
    assert "with limits" in project.ok("tokens", "list").out
    assert project.ok("tokens", "revoke", made["id"], "--json").json == [made]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "a", "--limits", '{"rnus": 5}'), "unknown field `rnus`"),
        (("create", "a", "--limits", "{"), "--limits:"),
        (("create", "a", "--limits", '{"runs": 5}'), "limits are for tokens of the role operate"),
        (("create", "a", "--expires", "soon"), "no span of time"),
        (("create", ""), "a token's name is 1 to 100 printable characters"),
        (("revoke", "nobody"), "there is no token 'nobody'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    project: Project, arguments: tuple[str, ...], says: str
) -> None:
    done = project("tokens", *arguments)

    assert done.code == 2
    assert says in done.err
    assert "There are no tokens yet" in project.ok("tokens", "list").err


def test_the_server_listens_for_others_only_with_a_token(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQUENTIAL_TOKEN", raising=False)
    for host in ("0.0.0.0", "::"):
        done = project("serve", "--host", host, "--port", "0")

        assert done.code == 2
        assert "tokens create NAME --role operate" in done.err
        assert "Serving" not in done.err
