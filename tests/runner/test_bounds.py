"""What a run may do within bounds that an operator has set, whatever its task allows itself."""

from collections.abc import AsyncIterator

import pytest

from sequential.core.bounds import narrowed
from sequential.core.model import Allow, Bounds, Limits, TaskConfig
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService

CALLS = "async def main():\n    return await services.crm.find()"
SECRET = """
async def main():
    url = "https://api.example.com"
    return (await fetch(url, headers={"X-Key": "{{secret:db/password}}"})).status
"""
PARENT = "async def main(task='child'):\n    return await run_task(task, {})"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    crm = FakeService("crm", {"find": lambda: "found"})
    async with Engine("memory:", [crm]) as made:
        await made.store_task("child", CALLS, TaskConfig("child", allow=Allow(services=("crm",))))
        yield made


async def failure(engine: Engine, code: str, bounds: Bounds, allow: Allow = Allow()) -> str:
    """How a run of this code ends that is begun within bounds."""
    await engine.store_task("t", code, TaskConfig("t", allow=allow))
    run = await engine.create_run("t", within=[bounds])
    run = await engine.resume(run.id)
    return str(run.error) if run.error else f"returned {run.result}"


async def test_services(engine: Engine) -> None:
    allow = Allow(services=("crm",))
    assert "returned found" in await failure(engine, CALLS, Bounds(), allow=allow)
    assert "returned found" in await failure(engine, CALLS, Bounds(services=("*",)))
    by_name = "async def main():\n    return await call_host_tool('crm', 'find', [])"
    refused = await failure(engine, by_name, Bounds(services=("mail",)), allow=allow)

    assert "PermissionError: the operator lets this run use no service 'crm'" in refused


async def test_secrets(engine: Engine) -> None:
    await engine.keys.set("db/password", "s3cret")
    refused = await failure(
        engine, SECRET, Bounds(secrets=("crm/*",)), allow=Allow(secrets=("db/password",))
    )

    assert "the operator does not let this run use the secret 'db/password'" in refused


@pytest.mark.parametrize("bounds", [Bounds(hosts=("other.example",)), Bounds(hosts=())])
async def test_hosts(engine: Engine, bounds: Bounds) -> None:
    fetches = "async def main():\n    return (await fetch('http://127.0.0.1:9')).status"
    refused = await failure(engine, fetches, bounds, allow=Allow(hosts=("127.0.0.1",)))

    assert "PermissionError" in refused
    assert "is not in what the operator permits" in refused


async def test_tasks(engine: Engine) -> None:
    assert "returned found" in await failure(engine, PARENT, Bounds(tasks=("child",)))
    refused = await failure(engine, PARENT, Bounds(tasks=("t",)))

    assert "the operator does not let this run start the task 'child'" in refused


async def test_child_runs_inherit_them(engine: Engine) -> None:
    refused = await failure(engine, PARENT, Bounds(services=()))

    assert "task child failed" in refused
    child = (await engine.list_runs("child"))[0]
    assert child.config.allow.within == (Bounds(services=()),)


async def test_a_task_that_is_stored_within_bounds_stays_there(engine: Engine) -> None:
    await engine.store_task("p", PARENT, narrowed(TaskConfig("p"), Bounds(services=())))
    run = await engine.run("p")

    assert run.error is not None
    assert "task child failed" in run.error.message


async def test_limits_and_time(engine: Engine) -> None:
    await engine.store_task("t", "async def main():\n    return 1", TaskConfig("t", timeout=100.0))
    bounds = Bounds(timeout=5.0, limits=Limits(memory_mb=16))

    run = await engine.create_run("t", within=[bounds])

    assert run.config.timeout == 5.0
    assert run.config.limits.memory_mb == 16
    assert (await engine.get_task("t")).config.timeout == 100.0
