"""The endpoints of the original's dev server."""

import asyncio

import httpx

from sequential.runner.engine import Engine


async def test_a_run_is_submitted_and_its_status_has_its_calls(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    body = {"task_identifier": "hello", "input": {"name": "Ada"}}
    submitted = (await client.post("/task/submit", json=body)).json()
    run_id = submitted["taskRunId"]
    await engine.wait(run_id, 20)

    status = (await client.get(f"/task/status/{run_id}")).json()

    assert submitted["success"] is True
    assert submitted["data"] == {"result": {"taskRunId": run_id}}
    assert status["status"] == "completed"
    assert [call["operation"] for call in status["stack_runs"]] == ["tool.echo"]


async def test_a_task_is_run_and_waited_for(client: httpx.AsyncClient) -> None:
    plain = await client.post("/tasks/hello", json={"name": "Ada"})
    wrapped = await client.post("/tasks/hello", json={"input": {"name": "Ada"}, "id": "mine"})
    failing = await client.post("/tasks/failing")

    assert plain.json()["result"] == wrapped.json()["result"] == {"hello": "Ada"}
    assert failing.status_code == 200
    assert failing.json()["error"]["type"] == "ZeroDivisionError"


async def test_who_waits_longer_than_agreed_is_told_where_to_look(
    client: httpx.AsyncClient,
) -> None:
    waiting = await client.post("/tasks/approval", params={"timeout": 0.05})
    run_id = waiting.json()["id"]
    answered = await client.post(f"/resume/{run_id}/word", json={"yes": True})
    ended = await client.get(f"/api/v1/runs/{run_id}/wait")

    assert waiting.status_code == answered.status_code == 202
    assert ended.json()["result"] == {"yes": True}


async def test_a_call_is_answered_by_its_number(client: httpx.AsyncClient) -> None:
    run_id = (await client.post("/tasks/approval", params={"timeout": 0})).json()["id"]
    async with asyncio.timeout(20):
        while (await client.get(f"/api/v1/runs/{run_id}")).json()["status"] != "suspended":
            await asyncio.sleep(0.01)
    nothing = await client.post(f"/resume/{run_id}/7", json=1)
    answered = await client.post(f"/resume/{run_id}/0", json="by number")
    ended = await client.get(f"/api/v1/runs/{run_id}/wait")
    settled = await client.post(f"/resume/{run_id}/0", json="too late")

    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "call_not_found")
    assert answered.status_code == 202
    assert ended.json()["result"] == "by number"
    assert (settled.status_code, settled.json()["error"]["code"]) == (409, "invalid_transition")


async def test_resume_wakes_a_run(client: httpx.AsyncClient) -> None:
    run_id = (await client.post("/tasks/approval", params={"timeout": 0})).json()["id"]
    woken = await client.post(f"/resume/{run_id}")
    await client.post(f"/api/v1/runs/{run_id}/cancel")
    late = await client.post(f"/resume/{run_id}")

    assert woken.status_code == 202
    assert (late.status_code, late.json()["error"]["code"]) == (409, "invalid_transition")


async def test_the_server_says_what_it_is(client: httpx.AsyncClient) -> None:
    health = (await client.get("/health")).json()
    about = (await client.get("/")).json()

    assert (health["status"], health["backend"]) == ("ok", "memory")
    assert "/task/submit" in about["endpoints"]
    assert (await client.get("/api/v1/openapi.json")).json()["openapi"].startswith("3.1")
