"""Tasks over HTTP."""

from typing import Any

import httpx
import pytest

from sequential.core.model import TaskConfig
from sequential.runner.engine import Engine

TASKS = "/api/v1/tasks"
CODE = "async def greet(name):\n    return 'Hello, ' + name"
GRAPH = {"initial": "ask", "states": {"ask": {"on": {"YES": "done"}}, "done": {"type": "final"}}}


async def test_a_task_is_stored_replaced_and_removed(client: httpx.AsyncClient) -> None:
    body = {"code": CODE, "config": {"inputs": [{"name": "name"}]}}
    first = await client.put(f"{TASKS}/greet", json=body)
    second = await client.put(f"{TASKS}/greet", json={**body, "code": CODE + " + '!'"})
    ran = await client.post("/tasks/greet", json={"name": "Ada"})

    assert [first.status_code, second.status_code] == [201, 200]
    assert second.json()["version"] == 2
    assert ran.json()["result"] == "Hello, Ada!"
    assert (await client.delete(f"{TASKS}/greet")).json() == {"deleted_runs": 1}
    assert (await client.get(f"{TASKS}/greet")).json()["error"]["code"] == "task_not_found"


async def test_tasks_are_listed_without_their_code(client: httpx.AsyncClient) -> None:
    listed = (await client.get(TASKS)).json()["items"]

    assert [task["identifier"] for task in listed] == ["approval", "failing", "hello"]
    assert {task["code"] for task in listed} == {""}
    assert "services.tool.echo" in (await client.get(f"{TASKS}/hello")).json()["code"]


async def test_a_task_may_follow_a_graph(client: httpx.AsyncClient) -> None:
    stored = await client.put(f"{TASKS}/graphed", json={"code": "", "graph": GRAPH})
    assert stored.status_code == 201, stored.text
    run = (await client.post("/api/v1/runs", json={"task": "graphed"})).json()

    accepted = await client.get(f"/api/v1/runs/{run['id']}/accepted-events")
    sent = await client.post(f"/api/v1/runs/{run['id']}/send", json={"event": "YES"})
    ended = await client.get(f"/api/v1/runs/{run['id']}/wait")

    assert accepted.json()["items"] == ["YES"]
    assert sent.status_code == 200
    assert ended.json()["status"] == "completed"


async def test_native_code_cannot_be_sent(client: httpx.AsyncClient, engine: Engine) -> None:
    await engine.store_task("trusted", CODE, TaskConfig("trusted", runtime="native"))

    sent = await client.put(f"{TASKS}/mine", json={"code": CODE, "config": {"runtime": "native"}})
    over = await client.put(f"{TASKS}/trusted", json={"code": "import os"})

    assert [sent.status_code, over.status_code] == [403, 403]
    assert (await engine.get_task("trusted")).code == CODE
    assert "mine" not in [task.identifier for task in await engine.list_tasks()]


DEEP: dict[str, Any] = {}
for _ in range(300):
    DEEP = {"x": DEEP}
DEEPLY = "value_not_supported"


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("x y", {"code": CODE}, "invalid_name"),
        ("a", {}, "invalid_request"),
        ("a", {"code": 7}, "invalid_request"),
        ("a", {"code": CODE, "config": {"timeout": "soon"}}, "invalid_config"),
        ("a", {"code": CODE, "config": {"timout": 3}}, "invalid_config"),
        ("a", {"code": CODE, "config": {"runtime": "lisp"}}, "invalid_config"),
        ("a", {"code": CODE, "config": {"handler": "x"}}, "invalid_config"),
        ("a", {"code": CODE, "config": {"schedules": [{"name": "s", "input": DEEP}]}}, DEEPLY),
        ("a", {"code": "", "graph": {"initial": "b", "states": {"a": {}}}}, "invalid_graph"),
    ],
)
async def test_what_is_wrong_is_not_stored(
    client: httpx.AsyncClient, engine: Engine, name: str, body: Any, code: str
) -> None:
    answer = await client.put(f"{TASKS}/{name}", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert [task.identifier for task in await engine.list_tasks()] == [
        "approval",
        "failing",
        "hello",
    ]
