"""The original's executors by name, with the shapes of their replies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest

from sequential.core.model import InputField, TaskConfig
from sequential.runner.engine import Engine
from sequential.testing.services import FakeService
from sequential.web import executor_services
from sequential.web.executor_services import EXECUTORS
from sequential.web.services_app import create_services_app

DENO = "/functions/v1/deno-executor"
STACK = "/functions/v1/simple-stack-processor"
TASKS = "/functions/v1/task-executor"
GREET = """
async def main(name):
    print("greeting", name)
    return await services.tool.echo(f"hello {name}")
"""
WAITS = """
async def main():
    first = await wait_for_event("first")
    return [first, await wait_for_event("second")]
"""


@pytest.fixture
def tool() -> FakeService:
    return FakeService("tool", {"echo": lambda value: value})


@pytest.fixture
async def engine(tool: FakeService) -> AsyncIterator[Engine]:
    async with Engine("memory:", [tool]) as made:
        inputs = (InputField("name", description="who"),)
        config = TaskConfig("greet", "Greets.", inputs=inputs)
        await made.store_task("greet", GREET, config)
        yield made


@contextlib.asynccontextmanager
async def client_of(engine: Engine, *names: str, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_services_app(engine, names, **more)
    transport = httpx.ASGITransport(cast("Any", app), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3100") as made:
        yield made


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(engine, *EXECUTORS) as made:
        yield made


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- deno-executor -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [DENO, "/services/deno-executor"])
async def test_a_program_is_run_to_its_end(client: httpx.AsyncClient, path: str) -> None:
    told = await post(client, path, taskCode=GREET, taskName="greet", taskInput={"name": "Ada"})
    assert told.pop("taskRunId")
    assert told == {"status": "completed", "result": "hello Ada"}


async def test_a_program_that_waits_is_paused_and_resumed(client: httpx.AsyncClient) -> None:
    told = await post(client, DENO, taskCode=WAITS, taskRunId="order-7")
    assert told["status"] == "paused"
    data = told["suspensionData"]
    assert (data["serviceName"], data["methodPath"]) == ("events", "wait")
    assert data["childStackRunId"] == told["stackRunId"]

    again = await post(client, DENO + "/resume", stackRunId=told["stackRunId"], result={"ok": 1})
    assert again["status"] == "paused"
    assert again["stackRunId"] != told["stackRunId"]
    # The same answer again, whose reply was lost, is no answer to the next question.
    same = await post(client, DENO + "/resume", stackRunId=told["stackRunId"], result={"ok": 1})
    assert same["stackRunId"] == again["stackRunId"]

    done = await post(client, DENO + "/resume", stackRunId="order-7", result=2)
    assert (done["status"], done["result"]) == ("completed", [{"ok": 1}, 2])


async def test_a_run_that_was_sent_before_is_the_one_there_is(
    client: httpx.AsyncClient, tool: FakeService
) -> None:
    sent = {"taskCode": GREET, "taskInput": {"name": "Ada"}, "taskRunId": "order-7"}
    first = await post(client, DENO, **sent)
    assert await post(client, DENO, **sent) == first
    assert len(tool.performed) == 1
    other = await client.post(DENO, json={**sent, "taskInput": {"name": "Grace"}})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "run_exists")


async def test_a_program_that_fails(client: httpx.AsyncClient) -> None:
    told = await post(client, DENO, taskCode="def main():\n    return 1 / 0")
    assert told["status"] == "error"
    assert told["error"]["name"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    "code",
    [
        "import os\ndef main():\n    return os.listdir('/')",
        "def main():\n    return open('/etc/passwd').read()",
        "import subprocess\ndef main():\n    return subprocess.run(['id'])",
        "def main():\n    return ().__class__.__bases__[0].__subclasses__()",
        "async def main():\n    r = await fetch('http://127.0.0.1:1/')\n    return r.status",
    ],
)
async def test_what_is_sent_runs_in_the_sandbox(client: httpx.AsyncClient, code: str) -> None:
    # Whatever else the body says.
    told = await post(client, DENO, taskCode=code, runtime="native", config={"runtime": "native"})
    assert told["status"] == "error"


async def test_services_that_need_a_permission_are_not_for_sent_programs(engine: Engine) -> None:
    class Guarded(FakeService):
        named_only = True

    vault = Guarded("vault", {"open": lambda: "gold"})
    engine.services.add(vault)
    async with client_of(engine, "deno-executor") as client:
        code = "async def main():\n    return await call_host_tool('vault', 'open', {})"
        told = await post(client, DENO, taskCode=code)
        assert "only tasks whose allow.services names" in told["error"]["message"]
        assert vault.performed == []


async def test_a_program_that_takes_long_goes_on_by_itself(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "slow"

    engine.services.add(FakeService("slow", {"call": slow}))
    monkeypatch.setattr(executor_services, "PATIENCE", 0.1)
    async with client_of(engine, "deno-executor") as client:
        code = "async def main():\n    return await services.slow.call()"
        told = await post(client, DENO, taskCode=code)
        assert (told["status"], told["suspensionData"]["serviceName"]) == ("paused", "slow")
        release.set()
        run = await engine.wait(told["taskRunId"], 10)
        assert run.result == "slow"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "missing required field `taskCode`"),
        ({"taskCode": ""}, "taskCode is empty"),
        ({"taskCode": 5}, "Expected `str`, got `int`"),
        ({"taskCode": "x", "taskName": "../x"}, "cannot be used"),
        ({"taskCode": "x", "taskInput": [1]}, "Expected `object`"),
    ],
)
async def test_what_is_no_program(client: httpx.AsyncClient, body: Any, says: str) -> None:
    answer = await client.post(DENO, json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


async def test_resuming_what_is_not_there(client: httpx.AsyncClient) -> None:
    for unknown in ("nothing", "019a2b3c-4d5e-7f00-8000-000000000000:0"):
        answer = await client.post(DENO + "/resume", json={"stackRunId": unknown})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")


# --- simple-stack-processor ----------------------------------------------------------------------


async def test_a_pass_over_what_is_due(client: httpx.AsyncClient, engine: Engine) -> None:
    idle = {"status": "success", "processed": 0, "reason": "nothing is due"}
    assert await post(client, STACK, trigger="process-next") == idle
    runs = [await engine.create_run("greet", {"name": name}) for name in ("Ada", "Grace")]
    assert await post(client, STACK) == {"status": "success", "processed": 2}
    results = [(await engine.get_run(run.id)).result for run in runs]
    assert results == ["hello Ada", "hello Grace"]
    assert await post(client, STACK, trigger="process-next") == idle


async def test_one_run_is_taken_care_of(client: httpx.AsyncClient, engine: Engine) -> None:
    run = await engine.create_run("greet", {"name": "Ada"})
    done = {"status": "success", "processed": 1, "reason": "the run is completed"}
    assert await post(client, STACK, stackRunId=run.id) == done
    again = await post(client, STACK, stackRunId=f"{run.id}:0")
    assert again == {**done, "processed": 0}
    answer = await client.post(STACK, json={"trigger": "explode"})
    assert answer.status_code == 400


# --- task-executor -------------------------------------------------------------------------------


async def test_a_task_is_submitted_and_followed(client: httpx.AsyncClient, engine: Engine) -> None:
    told = await post(client, TASKS + "/execute", task_identifier="greet", input={"name": "Ada"})
    assert told["result"]["status"] == "submitted"
    run_id = told["result"]["taskRunId"]
    await engine.wait(run_id, 10)

    status = (await client.get(TASKS + "/status", params={"task_id": run_id})).json()
    assert (status["status"], status["result"]) == ("completed", "hello Ada")
    assert [call["operation"] for call in status["stack_runs"]] == ["tool.echo"]
    assert "code" not in status
    logs = (await client.get(TASKS + "/logs", params={"task_id": run_id, "limit": 5})).json()
    assert [line["text"] for line in logs["logs"]] == ["greeting Ada\n"]


async def test_what_there_is(client: httpx.AsyncClient, engine: Engine) -> None:
    schema = (await client.get(TASKS + "/schema", params={"task_identifier": "greet"})).json()
    assert (schema["description"], schema["inputs"][0]["name"]) == ("Greets.", "name")
    tasks = (await client.get(TASKS + "/list", params={"type": "tasks"})).json()["tasks"]
    assert [task["identifier"] for task in tasks] == ["greet"]
    await engine.create_run("greet", {"name": "Ada"})
    runs = (await client.get(TASKS + "/list", params={"type": "runs"})).json()["runs"]
    assert [run["status"] for run in runs] == ["pending"]
    assert (await client.get(TASKS + "/list", params={"type": "x"})).status_code == 400
    health = (await client.get(TASKS + "/status")).json()
    assert (health["success"], health["data"]["service"]) == (True, "task-executor")


async def test_a_task_that_is_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.post(TASKS + "/execute", json={"task_identifier": "gret"})
    assert answer.status_code == 404
    assert "did you mean greet?" in answer.json()["error"]["message"]
    assert (await client.get(TASKS + "/logs", params={"task_id": "x"})).status_code == 404
    answer = await client.post(TASKS + "/execute", json={"task_identifier": "greet"})
    assert answer.status_code == 400


# --- how they are offered ------------------------------------------------------------------------


async def test_they_are_there_only_when_they_are_named(engine: Engine) -> None:
    async with client_of(engine, "task-executor") as client:
        assert (await client.get("/services/task-executor/health")).status_code == 200
        assert (await client.get(DENO + "/health")).status_code == 404
        assert (await client.post(DENO, json={"taskCode": GREET})).status_code == 400
    app = create_services_app(engine)
    assert not any("executor" in route.path for route in app.routes)


@pytest.mark.parametrize("name", sorted(EXECUTORS))
async def test_one_alone_is_at_the_root_as_well(engine: Engine, name: str) -> None:
    async with client_of(engine, name, alone=name) as client:
        assert (await client.get("/health")).status_code == 200
        path = "/execute" if name == "task-executor" else "/"
        bodies = {"deno-executor": {"taskCode": "def main():\n    return 1"}}
        body = bodies.get(name, {"task_identifier": "greet", "input": {"name": "x"}})
        body = {} if name == "simple-stack-processor" else body
        assert (await client.post(path, json=body)).status_code == 200
        assert (await client.get(f"/functions/v1/{name}/health")).json()["success"] is True
