"""`services list`, `services describe`, `services call`, `services start`."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command_line import Process, Project, PutStdin, Start

CRM = '''
"""Customers of ours."""
import msgspec
from typing import Annotated

from sequential import CallError, Failure, LocalService, Secret, TryAgain
from sequential.core.model import Outcome

service = LocalService("crm", __doc__)
tried = []


@service.method("customers.find", timeout=30, retry="safe")
def find(id: str, tags: list[str] | None = None) -> dict[str, str]:
    """A customer by id.

    At once.
    """
    if id != "1":
        raise CallError("LookupError", f"there is no customer {id}")
    return {"id": id, "name": "Ada"}


@service.method()
def whoami(token: Annotated[str, Secret("crm/token")]) -> bool:
    return token == "s3cret value"


@service.method()
def flaky() -> int:
    tried.append(1)
    if len(tried) < 2:
        raise TryAgain(Outcome(error=Failure("OSError", "busy")), retry_after=0.01)
    return len(tried)
'''


@pytest.fixture(autouse=True)
def services(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SEQUENTIAL_TOKEN", "SERVICE_CLIENT_TYPE", "SERVICE_CLIENT_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    project.ok("init")
    Path("services").mkdir()
    Path("services/crm.py").write_text(CRM)


def test_what_there_is(project: Project) -> None:
    line = next(one for one in project.ok("services", "list").out.splitlines() if "crm" in one)
    assert line.split() == ["crm", "project", "3", "Customers", "of", "ours."]
    listed = {one["name"]: one for one in project.ok("services", "list", "--json").json}
    assert listed["crm"] == {
        "name": "crm",
        "origin": "project",
        "description": "\nCustomers of ours.\n".strip(),
        "methods": ["customers.find", "whoami", "flaky"],
        "is_open": False,
        "missing": None,
    }
    assert not {"http", "clock", "events"} & set(listed)


def test_what_a_service_says_of_itself(project: Project) -> None:
    assert project.ok("services", "describe", "crm").out.splitlines() == [
        "crm  Customers of ours.",
        "  customers.find(id: string, tags?: array of string or null) -> object  [safe, 30 s]",
        "      A customer by id.",
        "  whoami() -> boolean  [unsafe, secret crm/token]",
        "  flaky() -> integer  [unsafe]",
    ]
    told = project.ok("services", "describe", "crm", "--json").json
    assert told["methods"][0]["parameters"]["required"] == ["id"]
    done = project("services", "describe", "cmr")
    assert (done.code, "did you mean 'crm'?" in done.err) == (2, True)


def test_a_call(project: Project, stdin: PutStdin) -> None:
    expected = {"id": "1", "name": "Ada"}
    for args in ('{"id": "1"}', '["1"]', '["1", ["a"]]'):
        assert project.ok("services", "call", "crm", "customers.find", "--args", args).json == (
            expected
        )
    stdin(b'{"id": "1"}')
    assert project.ok("services", "call", "crm", "customers.find", "--args", "-").json == expected


def test_a_call_with_a_secret_and_one_that_is_tried_again(
    project: Project, stdin: PutStdin
) -> None:
    missing = project("services", "call", "crm", "whoami")
    assert (missing.code, "keys set crm/token" in missing.err) == (1, True)
    stdin(b"s3cret value\n")
    project.ok("keys", "set", "crm/token")
    assert project.ok("services", "call", "crm", "whoami").json is True
    assert project.ok("services", "call", "crm", "flaky").json == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["crm", "customers.find", "--args", '["2"]'], 1, "LookupError: there is no customer 2"),
        (["crm", "customers.find", "--args", "[5]"], 2, "id: expected `str`, got `int`"),
        (["crm", "customers.find"], 2, "missing a required argument: 'id'"),
        (["crm", "customer.find"], 2, "did you mean 'customers.find'?"),
        (["cmr", "customers.find"], 2, "did you mean 'crm'?"),
        (["crm", "customers.find", "--args", "{"], 2, "--args is not JSON"),
        (["crm", "customers.find", "--args", "5"], 2, "an object of named arguments, or an array"),
        (["events", "wait", "--args", '{"name": "x"}'], 2, "call it in a task"),
    ],
)
def test_calls_that_fail(project: Project, arguments: list[str], code: int, says: str) -> None:
    done = project("services", "call", *arguments)
    assert (done.code, says in done.err, done.out) == (code, True, ""), done


def test_an_error_as_json(project: Project) -> None:
    done = project("services", "call", "crm", "customers.find", "--args", '["2"]', "--json")
    assert done.json["error"] == {
        "type": "LookupError",
        "message": "there is no customer 2",
        "code": "call_failed",
    }


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "set SEQUENTIAL_TOKEN or --token"),
        (["cmr"], "there is no service 'cmr': did you mean crm?"),
        (["deno-exec"], "did you mean deno-executor?"),
    ],
)
def test_what_cannot_be_started(project: Project, arguments: list[str], says: str) -> None:
    done = project("services", "start", "--port", "0", *arguments)
    assert (done.code, says in done.err, done.out) == (2, True, "")


@pytest.fixture
def started(start: Start, project: Project) -> Iterator[dict[str, str]]:
    """A server in a process: the URLs of its services by name."""
    process: Process = start(
        *("services", "start", "crm", "deno-executor", "--port", "0", "--separate-ports", "--json")
    )
    assert process.popen.stdout is not None
    text = ""
    while not text.rstrip().endswith("\n}"):
        line = process.popen.stdout.readline()
        assert line, process.popen.stderr and process.popen.stderr.read()
        text += line
    yield {one["name"]: one["url"] for one in json.loads(text)["services"]}
    process.popen.terminate()
    assert process.popen.wait(20) == 128 + 15


def post(url: str, body: Any, **headers: str) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_services_in_a_process_of_their_own(started: dict[str, str], project: Project) -> None:
    before = sorted(path for path in project.folder.iterdir() if path.name != "tasks")
    called = {"method": "customers.find", "args": ["1"]}
    assert post(started["crm"], called) == {"result": {"id": "1", "name": "Ada"}}
    code = "async def main():\n    return await services.crm.customers.find('1')"
    assert post(started["deno-executor"], {"taskCode": code})["result"]["name"] == "Ada"
    # What is sent reaches nothing on this machine, as it might for a person's own tasks.
    code = f"async def main():\n    return (await fetch('{started['crm']}/health')).status"
    told = post(started["deno-executor"], {"taskCode": code})["error"]
    assert "is an address of this machine" in told["message"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        post(started["crm"], called, Origin="http://evil.example")
    assert sorted(p for p in project.folder.iterdir() if p.name != "tasks") == before


def test_a_project_whose_services_are_in_another_process(
    started: dict[str, str], project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    settings = {"services": {"crm": started["crm"]}}
    (elsewhere / ".sequentialrc.json").write_text(json.dumps(settings))
    there = ("--project", str(elsewhere))
    call = ("services", "call", "crm", "customers.find", "--args", '["1"]')
    assert project.ok(*there, *call).json["name"] == "Ada"
    (one,) = [
        s for s in project.ok(*there, "services", "list", "--json").json if s["name"] == "crm"
    ]
    assert (one["origin"], one["is_open"]) == ("remote", True)


def test_where_a_service_is_can_be_set_and_looked_up(project: Project) -> None:
    project.ok("config", "set", "services.billing", "http://10.0.0.5:3100")
    project.ok("config", "set", "services.mail", '{"url": "http://10.0.0.6", "timeout": 5}')
    assert project.ok("config", "get", "services.billing").out == "http://10.0.0.5:3100\n"
    assert project.ok("config", "get", "services.mail.timeout").out == "5.0\n"
    done = project("config", "set", "services.bad", "nope")
    assert (done.code, "'nope' is no URL of a server" in done.err) == (2, True)
    assert "bad" not in Path(".sequentialrc.json").read_text()
