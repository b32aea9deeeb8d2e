from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Allow
from sequential.services.base import CallContext, CallError, Service
from sequential.services.registry import Services, standard_services

OPEN = Allow()
CONTEXT = CallContext("run-1", "task", 0, 1, "key-1")


class Fake:
    def __init__(self, name: str, *methods: str, error: Exception | None = None) -> None:
        self.name = name
        self.closed = 0
        self._methods = methods
        self._error = error

    def methods(self) -> Sequence[str]:
        return self._methods

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        return method

    async def close(self) -> None:
        self.closed += 1
        if self._error:
            raise self._error


def services() -> Services:
    names = ("http", "clock", "gmail", "crm")
    fakes: list[Service] = [Fake(name, "users.find", "list") for name in names]
    return Services(fakes)


def failure(name: str, allow: Allow, method: str | None = None) -> tuple[str, str]:
    with pytest.raises(CallError) as error:
        services().get(name, allow, method)
    return error.value.failure.type, error.value.failure.message


def test_what_a_task_may_use() -> None:
    known = services()
    assert known.get("crm", OPEN).name == "crm"
    assert known.get("crm", Allow(services=("crm",)), "list").name == "crm"
    for allow in (OPEN, Allow(services=()), Allow(services=("crm",))):
        assert known.get("http", allow).name == "http"
        assert known.get("clock", allow).name == "clock"
    assert failure("gmail", Allow(services=("crm", "x"))) == (
        "PermissionError",
        "the service 'gmail' is not in the task's allow.services (crm, x)",
    )
    assert failure("gmail", Allow(services=()))[1].endswith("(no service)")


def test_what_is_not_there() -> None:
    assert failure("gmial", OPEN) == (
        "RuntimeError",
        "there is no service 'gmial'; did you mean 'gmail'? There are: clock, crm, gmail, http",
    )
    # A service that the task may not use is not told, nor whether a forbidden one exists.
    assert "gmail" not in failure("crm2", Allow(services=("crm2",)))[1]
    assert failure("nothing", Allow(services=()))[0] == "PermissionError"
    assert failure("crm", OPEN, "user.find") == (
        "RuntimeError",
        (
            "the service 'crm' has no method 'user.find'; "
            "did you mean 'users.find'? It has: list, users.find"
        ),
    )


def test_methods() -> None:
    known = services()
    assert known.methods(OPEN) == ("crm.users.find", "crm.list", "gmail.users.find", "gmail.list")
    assert known.methods(Allow(services=("gmail",))) == ("gmail.users.find", "gmail.list")
    assert known.methods(Allow(services=())) == ()


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="two services named 'crm'"):
        Services([Fake("crm"), Fake("crm")])


async def test_close_is_done_once_for_each_even_if_one_fails() -> None:
    fakes = [Fake("a"), Fake("b", error=OSError("lost")), Fake("c")]
    known = Services(fakes)
    with pytest.raises(OSError, match="lost"):
        await known.close()
    await known.close()
    assert [fake.closed for fake in fakes] == [1, 1, 1]


async def test_the_services_of_a_project(tmp_path: Path) -> None:
    folder = tmp_path / "services"
    folder.mkdir()
    (folder / "crm.py").write_text("def find(email): return email\n")
    known = standard_services(project_folder=tmp_path)
    assert "crm.find" in known.methods(OPEN)
    assert known.get("http", OPEN, "fetch").name == "http"
    assert known.get("clock", OPEN, "sleep").name == "clock"
    assert await known.get("crm", OPEN).call("find", ["a"], {}, CONTEXT) == "a"
    await known.close()


def test_without_a_project() -> None:
    assert standard_services().get("clock", OPEN).name == "clock"


class Open(Fake):
    """A service with more methods than it can list."""

    def accepts(self, method: str) -> bool:
        return not method.startswith("no")


def test_what_a_source_writes_out_of_a_service_that_cannot_list_its_methods() -> None:
    known = Services([Open("gapi", "echo"), Fake("crm", "find")])
    source = """
    a = await services.gapi.drive.files.list(pageSize=5)
    b = await services.gapi.drive . files . get (id)
    c = services.gapi.drive()
    d = services.gapi.nothing()
    e = await services.crm.other()
    f = await call_host_tool("gapi", 'docs.documents.get', {})
    """
    assert known.methods(OPEN, source) == (
        "crm.find",
        "gapi.echo",
        "gapi.docs.documents.get",
        "gapi.drive.files.get",
        "gapi.drive.files.list",
    )
    assert known.get("gapi", OPEN, "anything.else").name == "gapi"
    with pytest.raises(CallError, match="has no method 'nothing'"):
        known.get("gapi", OPEN, "nothing")


def test_services_that_are_all_elsewhere() -> None:
    known = Services([Fake("clock", "sleep")], elsewhere=Open)
    source = "services.crm.find(1)\nservices.clock.sleep()\n__callHostTool__('mail', 'send')"
    assert known.methods(OPEN, source) == ("crm.find", "mail.send")
    assert known.methods(Allow(services=("crm",)), source) == ("crm.find",)
    assert known.get("crm", OPEN) is known.get("crm", OPEN)
    with pytest.raises(CallError, match="there is no service 'a/b'"):
        known.get("a/b", OPEN)


def test_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "crm.py").write_text("def find(email: str): return email\n")
    known = standard_services(project_folder=tmp_path, given=[Fake("mine", "x")])
    assert {"crm", "mine"} <= set(known.names())
    assert not {"http", "clock"} & set(known.names())
    assert (known.origin("crm"), known.origin("mine")) == ("project", "given")
    find = known.describe("crm").find("find")
    assert find is not None
    assert find.parameters["required"] == ["email"]
    with pytest.raises(CallError, match="did you mean 'crm'"):
        known.describe("cmr")
