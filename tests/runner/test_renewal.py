"""Settings, services and modules taken over by an engine that goes on."""

import importlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sequential.config import Settings, load_settings
from sequential.core.model import InputField, RetryPolicy, TaskConfig
from sequential.errors import ServiceLoadError
from sequential.runner.engine import Engine
from sequential.runner.renewal import forget_modules, renew_services, renew_settings
from sequential.services.http_settings import HttpSettings
from sequential.testing.services import FakeService

CALLS = "async def calls():\n    return await services.crm.find()"
HELLO = "async def hello(name):\n    return name"


def write_service(project: Path, answer: Any, name: str = "crm") -> None:
    (project / "services").mkdir(exist_ok=True)
    (project / "services" / f"{name}.py").write_text(f"def find():\n    return {answer!r}")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    write_service(tmp_path, "old")
    settings = Settings(project=tmp_path, adaptor="memory", tasks=tmp_path / "tasks")
    async with Engine("memory:", [FakeService("given", {})], settings) as made:
        await made.store_task("calls", CALLS, TaskConfig("calls"))
        await made.store_task("hello", HELLO, TaskConfig("hello", inputs=(InputField("name"),)))
        yield made


async def result(engine: Engine, task: str) -> Any:
    run = await engine.run(task)
    return run.result if run.error is None else run.error.message


async def test_a_service_is_replaced_for_the_next_call(engine: Engine, tmp_path: Path) -> None:
    before = await result(engine, "calls")
    write_service(tmp_path, "new")
    replaced = await renew_services(engine)

    assert (before, await result(engine, "calls")) == ("old", "new")
    assert [service.name for service in replaced] == ["crm"]


async def test_services_come_and_go(engine: Engine, tmp_path: Path) -> None:
    names = engine.services.names()
    write_service(tmp_path, 1, "added")
    (tmp_path / "services/crm.py").unlink()
    await renew_services(engine)

    assert set(engine.services.names()) == {*names, "added"} - {"crm"}
    assert engine.services.origin("added") == "project"
    assert "no attribute 'crm'" in await result(engine, "calls")


async def test_one_of_the_package_is_back_when_a_file_is_gone(
    engine: Engine, tmp_path: Path
) -> None:
    write_service(tmp_path, "mine", "websearch")
    await renew_services(engine)
    hidden = engine.services.origin("websearch")
    (tmp_path / "services/websearch.py").unlink()
    await renew_services(engine)

    assert (hidden, engine.services.origin("websearch")) == ("project", "package")


async def test_services_that_were_given_stay(engine: Engine, tmp_path: Path) -> None:
    given = engine.services.find("given")
    write_service(tmp_path, "mine", "given")
    replaced = await renew_services(engine)

    assert engine.services.find("given") is given
    assert given not in replaced


async def test_a_broken_file_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    write_service(tmp_path, "new", "aaa")  # is loaded before the broken one
    (tmp_path / "services/crm.py").write_text("def find(")
    names = engine.services.names()

    with pytest.raises(ServiceLoadError, match=r"crm\.py:1"):
        await renew_services(engine)
    assert engine.services.names() == names
    assert await result(engine, "calls") == "old"


async def test_settings_count_for_the_next_run(engine: Engine, tmp_path: Path) -> None:
    rc = '{"defaults": {"name": "Ada"}, "retry": {"retries": 7}, "runner": {"park_after": 9}}'
    (tmp_path / ".sequentialrc.json").write_text(rc)
    old = await engine.create_run("calls")
    waiting = renew_settings(engine, load_settings(tmp_path, adaptor="memory"))
    new = await engine.create_run("calls")

    assert waiting == []
    assert await result(engine, "hello") == "Ada"
    assert (old.config.retry, new.config.retry) == (RetryPolicy(), RetryPolicy(retries=7))
    assert engine.settings.runner.park_after == 9


async def test_what_needs_another_engine_is_named_and_stays(engine: Engine) -> None:
    old = engine.settings
    runner = msgspec.structs.replace(old.runner, live_programs=3, timeout=5)
    other = msgspec.structs.replace(old, adaptor="sqlite", runner=runner)

    assert renew_settings(engine, other) == ["adaptor", "runner.live_programs"]
    assert engine.settings.adaptor == old.adaptor
    assert engine.settings.runner.live_programs == old.runner.live_programs
    assert engine.settings.runner.timeout == 5
    assert renew_settings(engine, old) == []


async def test_other_settings_of_http_come_with_the_services(engine: Engine) -> None:
    http = engine.services.find("http")
    renew_settings(engine, msgspec.structs.replace(engine.settings, http=HttpSettings(timeout=3)))
    kept = await renew_services(engine)
    replaced = await renew_services(engine, http=True)

    assert http not in kept
    assert http in replaced
    assert engine.services.find("http") is not http


def test_a_module_is_imported_anew_by_the_next_who_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "renewed_by_this_test.py"
    file.write_text("VALUE = 1")
    old = importlib.import_module("renewed_by_this_test")
    file.write_text("VALUE = 2")  # in the same second, and as long as before
    forget_modules([file])
    new = importlib.import_module("renewed_by_this_test")
    sys.modules.pop("renewed_by_this_test")

    assert (old.VALUE, new.VALUE) == (1, 2)
