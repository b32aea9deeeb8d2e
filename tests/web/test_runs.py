"""Runs over HTTP."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from sequential.core import values
from sequential.runner.engine import Engine

API = "/api/v1"
NOBODY = "019cab0e-97eb-7000-8000-000000000001"


async def started(client: httpx.AsyncClient, task: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"{API}/runs", json={"task": task, **body})
    assert answer.status_code == 201, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def ended(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    answer = await client.get(f"{API}/runs/{run_id}/wait", params={"timeout": 20})
    assert answer.status_code == 200
    run: dict[str, Any] = answer.json()
    return run


async def test_a_run_is_started_and_waited_for(client: httpx.AsyncClient) -> None:
    run = await started(client, "hello", input={"name": "Ada"})

    done = await ended(client, run["id"])

    assert done["status"] == "completed"
    assert done["result"] == {"hello": "Ada"}
    assert "code" not in done
    assert "lease_token" not in done


async def test_the_same_id_starts_one_run(client: httpx.AsyncClient) -> None:
    body = {"task": "hello", "input": {"name": "Ada"}, "id": "order-42"}
    first = await client.post(f"{API}/runs", json=body)
    second = await client.post(f"{API}/runs", json=body)
    by_header = await client.post(
        f"{API}/runs",
        json={"task": "hello", "input": {"name": "Ada"}},
        headers={"Idempotency-Key": "order-42"},
    )
    other = await client.post(f"{API}/runs", json={**body, "input": {"name": "Bob"}})

    assert [one.status_code for one in (first, second, by_header, other)] == [201, 200, 200, 409]
    assert first.json()["id"] == second.json()["id"] == by_header.json()["id"]
    assert other.json()["error"]["code"] == "run_exists"
    assert (await client.get(f"{API}/runs/order-42")).json()["id"] == first.json()["id"]


async def test_values_beyond_json_are_sent_tagged(client: httpx.AsyncClient) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    sent = values.to_json({"name": when}, "the input")
    run = await client.post(
        f"{API}/runs",
        json={"task": "hello", "input": sent},
        headers={"Sequential-Values": "tagged"},
    )
    # The field is declared to be text, so the value itself arrived as a date and is refused.
    assert run.status_code == 400
    assert "name" in run.json()["error"]["message"]

    waiting = await started(client, "approval")
    await client.post(
        f"{API}/runs/{waiting['id']}/answer",
        json={"name": "word", "data": values.to_json(when, "the data")},
        headers={"Sequential-Values": "tagged"},
    )
    assert values.from_json((await ended(client, waiting["id"]))["result"]) == when


async def test_a_waiting_run_is_answered_once(client: httpx.AsyncClient) -> None:
    run = await started(client, "approval")
    for data in ("first", "second"):
        answer = await client.post(
            f"{API}/runs/{run['id']}/answer", json={"name": "word", "data": data, "id": "a1"}
        )
        assert answer.status_code in (200, 409)  # 409: it has ended meanwhile

    assert (await ended(client, run["id"]))["result"] == "first"


async def test_runs_are_listed_in_pages(client: httpx.AsyncClient) -> None:
    made = [(await started(client, "approval"))["id"] for _ in range(5)]

    seen: list[str] = []
    before: str | None = None
    while True:
        params: dict[str, str | int] = {"task": "approval", "limit": 2}
        if before:
            params["before"] = before
        page = (await client.get(f"{API}/runs", params=params)).json()
        seen += [run["id"] for run in page["items"]]
        before = page["next"]
        if before is None:
            break

    assert seen == sorted(made, reverse=True)
    assert (await client.get(f"{API}/runs", params={"status": "completed"})).json()["items"] == []


async def test_calls_are_listed_without_their_payloads(client: httpx.AsyncClient) -> None:
    run = await started(client, "hello", input={"name": "x" * 5000})
    await ended(client, run["id"])

    (call,) = (await client.get(f"{API}/runs/{run['id']}/calls")).json()["items"]
    full = (await client.get(f"{API}/runs/{run['id']}/calls/0")).json()

    assert call["operation"] == full["operation"] == "tool.echo"
    assert call["result"] == {"$omitted": 5002}
    assert full["result"] == "x" * 5000
    missing = await client.get(f"{API}/runs/{run['id']}/calls/7")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "call_not_found")


async def test_a_run_is_operated(client: httpx.AsyncClient) -> None:
    run = await started(client, "approval")
    path = f"{API}/runs/{run['id']}"

    async def done(verb: str) -> str:
        answer = await client.post(f"{path}/{verb}")
        assert answer.status_code == 200, answer.text
        status: str = answer.json()["status"]
        return status

    assert await done("pause") == "paused"
    assert await done("unpause") == "suspended"
    refused = await client.delete(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "invalid_transition")
    assert await done("cancel") == "cancelled"
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_old_runs_are_pruned(client: httpx.AsyncClient) -> None:
    run = await started(client, "failing")
    failed = await ended(client, run["id"])
    assert failed["error"]["type"] == "ZeroDivisionError"

    would = await client.post(f"{API}/prune", json={"older_than": 0, "dry_run": True})
    assert would.json() == {"deleted": [run["id"]]}
    assert (await client.post(f"{API}/prune", json={"older_than": 0})).json() == would.json()
    assert (await client.get(f"{API}/runs/{run['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/runs", {"task": "nix"}, 404, "task_not_found"),
        ("POST", "/runs", {"task": "hello"}, 400, "invalid_input"),
        ("POST", "/runs", {"task": "hello", "inputs": {}}, 400, "invalid_request"),
        ("POST", "/runs", {"task": 7}, 400, "invalid_request"),
        ("POST", "/runs", {"task": "hello", "input": []}, 400, "invalid_request"),
        ("POST", "/runs", {"task": "../etc", "input": {}}, 400, "invalid_name"),
        ("POST", "/runs", {"task": "hello", "delay": -1}, 400, "invalid_request"),
        ("GET", f"/runs/{NOBODY}", None, 404, "run_not_found"),
        ("GET", "/runs/never-started", None, 404, "run_not_found"),
        ("GET", "/runs?limit=0", None, 400, "invalid_request"),
        ("GET", "/runs?limit=many", None, 400, "invalid_request"),
        ("GET", "/runs?status=odd", None, 400, "invalid_request"),
        ("GET", "/runs?task=nix", None, 404, "task_not_found"),
        ("POST", f"/runs/{NOBODY}/cancel", None, 404, "run_not_found"),
        ("POST", f"/runs/{NOBODY}/answer", {"name": "word"}, 404, "run_not_found"),
        ("POST", "/prune", {}, 400, "invalid_request"),
        ("GET", "/nothing", None, 404, "not_found"),
        ("PATCH", "/runs", None, 405, "method_not_allowed"),
    ],
)
async def test_what_is_wrong_is_refused_in_one_line(
    client: httpx.AsyncClient,
    engine: Engine,
    method: str,
    path: str,
    body: Any,
    status: int,
    code: str,
) -> None:
    answer = await client.request(method, API + path, json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "\n" not in answer.json()["error"]["message"]
    assert await engine.list_runs() == []
