"""The service "admin-debug" over a store in memory, and as a task and an operator call it."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sequential.config import load_settings
from sequential.core import times
from sequential.core.model import Allow, Status, TaskConfig
from sequential.errors import StorageUnreachableError
from sequential.runner.engine import Engine
from sequential.services.admin_debug import AdminDebugService, service
from sequential.services.base import CallContext, CallError
from support.google_api import Google, google

CONTEXT = CallContext("run-1", "task", 0, 1, "key-1", allow=Allow(services=("admin-debug", "gapi")))
CODE = """
async def job():
    return await call_host_tool("admin-debug", "test-stack-processor", {})
"""


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    settings = load_settings(tmp_path, environment={}, adaptor="memory:")
    async with Engine(settings=settings) as engine:
        await engine.store_task("job", CODE, TaskConfig("job", allow=CONTEXT.allow))
        yield engine


@pytest.fixture
def debug(engine: Engine) -> AdminDebugService:
    return AdminDebugService(engine.storage, engine.services)


async def call(debug: AdminDebugService, method: str) -> Any:
    return await debug.call(method, [], {}, CONTEXT)


async def test_the_store_answers(
    engine: Engine, debug: AdminDebugService, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await call(debug, "ping")
    assert told["ok"] is True
    assert told["storage"] == "MemoryAdapter"
    assert 0 <= told["milliseconds"] < 1000

    async def fail(**_: object) -> Any:
        raise StorageUnreachableError("nobody there")

    monkeypatch.setattr(engine.storage, "query_task_runs", fail)
    told = await call(debug, "ping")
    assert (told["ok"], told["problem"]) == (False, "StorageUnreachableError: nobody there")


async def test_versions_and_services(debug: AdminDebugService) -> None:
    versions = await call(debug, "versions")
    assert versions["sequential-ecosystem"]
    assert {"msgspec", "pydantic-monty"} <= versions["libraries"].keys()
    known = {one["name"]: one for one in await call(debug, "services")}
    assert known["gapi"] == {"name": "gapi", "origin": "package", "missing": None}
    assert {"admin-debug", "keystore", "openai", "supabase", "websearch"} <= known.keys()


async def test_what_waits_is_counted(engine: Engine, debug: AdminDebugService) -> None:
    moment = datetime.now(UTC)
    later = await engine.create_run("job", delay=100)
    await engine.create_run("job")
    done = await engine.run("job")
    assert done.status is Status.COMPLETED
    counts = await call(debug, "counts")
    assert counts["tasks"] == 1
    assert {name: n for name, n in counts["runs"].items() if n} == {"pending": 2, "completed": 1}
    assert (counts["due"], counts["driven"], counts["damaged"]) == (1, 0, [])
    assert counts["next_wakeup"] == later.wake_at
    assert times.from_text(counts["next_wakeup"]) > moment


async def test_whether_somebody_takes_what_is_due(engine: Engine, debug: AdminDebugService) -> None:
    quiet = {"status": "success", "due": 0, "driven": 0, "late": 0.0, "reason": ""}
    assert await call(debug, "test-stack-processor") == quiet
    run = await engine.create_run("job")
    told = await call(debug, "test-stack-processor")
    assert (told["status"], told["due"]) == ("success", 1)

    past = times.to_text(datetime.now(UTC) - timedelta(minutes=5))
    await engine.storage.update_task_run(run.id, wake_at=past)
    told = await call(debug, "test-stack-processor")
    assert told["status"] == "error"
    assert told["late"] == pytest.approx(300, abs=30)
    assert "nobody takes it: start `sequential-ecosystem worker`" in told["reason"]


async def test_a_task_that_is_allowed_to_may_ask(engine: Engine) -> None:
    run = await engine.run("job")
    assert (run.value["status"], run.value["driven"]) == ("success", 1)
    await engine.store_task("job", CODE, TaskConfig("job"))
    run = await engine.run("job")
    assert run.error is not None
    assert "only tasks whose allow.services names the service 'admin-debug'" in run.error.message


@pytest.fixture
def server() -> Iterator[Google]:
    with google() as server:
        yield server


async def test_the_credentials_of_google(
    engine: Engine, server: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPI_ROOT_URL", server.api.url)
    asking = CODE.replace("test-stack-processor", "test-direct-gapi")
    await engine.store_task("job", asking, TaskConfig("job", allow=CONTEXT.allow))
    told = (await engine.run("job")).value
    assert told["ok"] is False
    assert "there is no secret 'GAPI_KEY'" in told["problem"]
    await engine.keys.set("GAPI_KEY", server.key)
    told = (await engine.run("job")).value
    assert (told["ok"], told["type"]) == (True, "service_account")

    only = Allow(services=("admin-debug",))
    await engine.store_task("job", asking, TaskConfig("job", allow=only))
    told = (await engine.run("job")).value
    assert told["ok"] is False
    assert "the service 'gapi' is not in the task's allow.services" in told["problem"]


async def test_without_a_store_and_services() -> None:
    for method in ("counts", "services", "test-stack-processor"):
        with pytest.raises(CallError, match="admin-debug: this process has no"):
            await service().call(method, [], {}, CONTEXT)
