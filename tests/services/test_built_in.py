import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Allow, TaskConfig
from sequential.runner.engine import Engine
from sequential.services import built_in
from sequential.services.base import CallContext, CallError
from sequential.services.built_in import BuiltIn, built_in_services
from sequential.services.describe import description_of
from sequential.services.local import LocalService
from sequential.services.registry import Services, standard_services

CONTEXT = CallContext("run-1", "task", 0, 1, "key-1")
OPEN = Allow()
SOURCE = '''
from sequential.services.local import LocalService
MADE = []
def service(keys=None, nothing=5):
    """A service made of what the process has."""
    MADE.append(keys)
    made = LocalService("lab", "A laboratory.")
    made.add(lambda x: [x, keys], "echo")
    return made
'''


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, BuiltIn]]:
    """A table of one's own, with a module that can be imported and one that is not there."""
    (tmp_path / "lab_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    rows = {
        "lab": BuiltIn("lab_module:service", ("msgspec",), "lab"),
        "bare": BuiltIn("lab_module:service", ("no_such_package.deep",), "bare"),
        "later": BuiltIn("no_such_module:service"),
        "guarded": BuiltIn("lab_module:service", named_only=True),
    }
    monkeypatch.setattr(built_in, "BUILT_IN_SERVICES", rows)
    yield rows
    sys.modules.pop("lab_module", None)


def made() -> list[Any]:
    module: types.ModuleType | None = sys.modules.get("lab_module")
    return list(module.MADE) if module else []


async def test_one_is_made_when_it_is_first_used_and_no_sooner(table: dict[str, BuiltIn]) -> None:
    known = standard_services()
    known.provide(keys="the keystore", storage="the store")
    lab = known.get("lab", OPEN)
    assert "lab_module" not in sys.modules

    assert await lab.call("echo", [1], {}, CONTEXT) == [1, "the keystore"]
    assert await lab.call("echo", [2], {}, CONTEXT) == [2, "the keystore"]
    assert made() == ["the keystore"]
    assert description_of(lab).description == "A laboratory."
    assert known.origin("lab") == "package"
    await known.close()


def test_one_that_this_version_does_not_have_is_not_on_offer(table: dict[str, BuiltIn]) -> None:
    assert [service.name for service in built_in_services({})] == ["lab", "bare", "guarded"]


async def test_one_whose_packages_are_missing_names_the_extra(table: dict[str, BuiltIn]) -> None:
    known = standard_services()
    says = (
        "the service 'bare' needs packages that are not installed: "
        "pip install 'sequential-ecosystem[bare]'"
    )
    assert known.missing("bare") == says
    assert known.missing("lab") is None
    assert known.describe("bare").description == says
    assert "bare" not in " ".join(known.methods(OPEN))
    with pytest.raises(CallError) as error:
        await known.get("bare", OPEN, "anything").call("anything", [], {}, CONTEXT)
    assert (str(error.value), error.value.failure.code) == (says, "missing_extra")
    assert "lab_module" in sys.modules  # `methods` has asked the other one


def test_dangerous_ones_are_for_tasks_that_name_them(table: dict[str, BuiltIn]) -> None:
    known = standard_services()
    with pytest.raises(
        CallError, match=r"only tasks whose allow\.services names the service 'guar"
    ):
        known.get("guarded", OPEN)
    assert "guarded.echo" not in known.methods(OPEN)
    assert known.get("guarded", Allow(services=("guarded",))).name == "guarded"
    assert known.methods(Allow(services=("guarded",))) == ("guarded.echo",)
    # One of the project with such a name is the project's own affair.
    known.add(LocalService("guarded"))
    assert known.get("guarded", OPEN).methods() == ()


async def test_a_task_that_uses_one_whose_packages_are_missing_is_told(
    table: dict[str, BuiltIn],
) -> None:
    code = "async def main():\n    return await services.bare.users.find('a')"
    async with Engine("memory:") as engine:
        await engine.store_task("main", code, TaskConfig("main"))
        run = await engine.run("main")
        assert run.error is not None
        assert "pip install 'sequential-ecosystem[bare]'" in run.error.message
        # One that is there is called by name, and has the keystore, which it tries to give away.
        await engine.store_task("main", code.replace("bare.users.find", "lab.echo"), run.config)
        run = await engine.run("main")
        assert run.error is not None
        assert "the answer of lab.echo[1] is a Keystore" in run.error.message


def test_a_front_changes_nothing_about_that(table: dict[str, BuiltIn]) -> None:
    known = Services(built_in_services({}))
    known.front(lambda service: LocalService(service.name))
    with pytest.raises(CallError, match=r"only tasks whose allow\.services names"):
        known.get("guarded", OPEN)


def test_a_file_of_the_project_takes_precedence(table: dict[str, BuiltIn], tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "lab.py").write_text("def mine(): return 1\n")
    known = standard_services(project_folder=tmp_path)
    assert known.get("lab", OPEN).methods() == ("mine",)
    assert known.origin("lab") == "project"
    assert "lab_module" not in sys.modules


def test_the_real_table_is_well_formed() -> None:
    for name, row in built_in.BUILT_IN_SERVICES.items():
        module, _, function = row.home.partition(":")
        assert module == f"sequential.services.{name.replace('-', '_')}"
        assert function == "service"
        assert bool(row.packages) == bool(row.extra)


def test_tasks_that_do_not_name_one_do_not_have_it_made(table: dict[str, BuiltIn]) -> None:
    known = standard_services()
    assert known.methods(OPEN, "async def main(): pass") == ()
    assert "lab_module" not in sys.modules
    assert "lab.echo" in known.methods(OPEN, "async def main(): await services.lab.echo(1)")
