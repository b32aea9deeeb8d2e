"""Every route: what it answers, to whom, and what it refuses."""

from typing import Any

import pytest

from edge.conftest import SECRET, TOKEN, URL, Cloud, code_of, get, post
from sequential.core.model import Status
from sequential.edge import Edge, Request

ID = "019cab0e-97eb-7000-8000-000000000001"


async def test_a_run_is_started_and_its_result_comes_at_once(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        response = await edge.handle(post("/tasks/steps", {"input": {"n": 3}}))
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        run = response.json
        assert (run["task"], run["status"], run["result"]) == ("steps", "completed", [0, 1, 2])
        assert (await edge.handle(get(f"/runs/{run['id']}"))).json == run
    assert cloud.fired == []


async def test_start_names_the_task_in_the_body(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        response = await edge.handle(post("/start", {"task": "steps", "input": {"n": 1}}))
        assert (response.status, response.json["result"]) == (200, [0])
        response = await edge.handle(post("/start", {"input": {"n": 1}}))
        assert code_of(response) == (400, "invalid_input")
        response = await edge.handle(post("/tasks/steps", {"task": "other"}))
        assert code_of(response) == (400, "invalid_input")


async def test_a_run_that_waits_says_until_when(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        response = await edge.handle(post("/tasks/sleeper"))
        run = response.json
        assert (response.status, run["status"]) == (202, "suspended")
        assert run["wake_at"] > run["created_at"]
        assert cloud.scheduled == [(run["id"], run["wake_at"])]
        assert cloud.fired == []


async def test_a_run_that_fails_is_a_result(cloud: Cloud) -> None:
    async with cloud.engine() as engine:
        code = "async def steps(n):\n    raise ValueError('no\\nway')\n"
        task = await engine.get_task("steps")
        await engine.store_task("steps", code, task.config)
    async with cloud.invoked() as edge:
        response = await edge.handle(post("/tasks/steps", {"input": {"n": 3}}))
    error = {"type": "ValueError", "message": "no\nway", "code": "task_error"}
    assert (response.status, response.json["status"]) == (200, "failed")
    assert response.json["error"] == error


async def test_the_same_id_starts_one_run(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        ask = post("/tasks/steps", {"input": {"n": 2}, "id": ID})
        first, second = await edge.handle(ask), await edge.handle(ask)
        assert first.json == second.json
        assert len(cloud.tool.performed) == 2
        response = await edge.handle(post("/tasks/sleeper", {"id": ID}))
        assert code_of(response) == (409, "run_exists")


async def test_health_is_told_to_everybody_and_touches_no_store() -> None:
    edge = Edge("postgres://nobody@nowhere.invalid/none", secret=SECRET)
    response = await edge.handle(Request("GET", "/health"))
    assert (response.status, response.json) == (200, {"status": "ok", "backend": "postgres"})


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        (post("/tasks/none", {}), (404, "task_not_found")),
        (post("/tasks/..", {}), (400, "invalid_name")),
        (post("/tasks/steps", {"input": {}}), (400, "invalid_input")),
        (post("/tasks/steps", {"input": {"n": "x"}}), (400, "invalid_input")),
        (post("/tasks/steps", {"inputs": {"n": 1}}), (400, "invalid_input")),
        (post("/tasks/steps", {"input": [1]}), (400, "invalid_input")),
        (post("/tasks/steps", {"input": {"n": 1}, "id": "1"}), (400, "invalid_name")),
        (post("/tasks/steps", b"not json"), (400, "invalid_input")),
        (post("/tasks/steps", b"\xff\xfe"), (400, "invalid_input")),
        (post("/tasks/steps", b"[" * 100_000), (400, "invalid_input")),
        (post("/tasks/steps", b'{"input":' + b'{"a":' * 50_000), (400, "invalid_input")),
        (post("/tasks/steps", b'{"input":{"n":1e999}}'), (400, "invalid_input")),
        (get(f"/runs/{ID}"), (404, "run_not_found")),
        (get("/runs/x"), (400, "invalid_name")),
        (get("/tasks/steps"), (405, "method_not_allowed")),
        (post(f"/runs/{ID}"), (405, "method_not_allowed")),
        (get(f"/resume/{ID}"), (405, "method_not_allowed")),
        (post("/"), (404, "not_found")),
        (post("/tasks"), (404, "not_found")),
        (post("/tasks/a/b"), (404, "not_found")),
        (post("/health/x"), (404, "not_found")),
        (post(f"/answer/{ID}"), (404, "not_found")),
    ],
    ids=lambda value: value.path if isinstance(value, Request) else value[1],
)
async def test_what_is_wrong_is_refused_in_one_line(
    cloud: Cloud, ask: Request, refusal: tuple[int, str]
) -> None:
    async with cloud.invoked() as edge:
        assert code_of(await edge.handle(ask)) == refusal
    async with cloud.engine() as engine:
        assert await engine.list_runs() == []


async def test_a_refused_method_says_which_is_right(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        response = await edge.handle(get("/tasks/steps"))
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/tasks/steps", "/start", f"/runs/{ID}", "/sweep"])
@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer ü", "Bearer \0"],
)
async def test_only_who_has_the_token_may_start_and_look(
    cloud: Cloud, path: str, authorization: str
) -> None:
    method = "GET" if path.startswith("/runs") else "POST"
    async with cloud.invoked() as edge:
        response = await edge.handle(Request(method, path, {"authorization": authorization}))
    assert code_of(response) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_without_a_token_nobody_may_start(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQUENTIAL_TOKEN", raising=False)
    async with cloud.invoked(token=None) as edge:
        for token in ("", "None"):
            response = await edge.handle(post("/tasks/steps", {"input": {"n": 1}}, token=token))
            assert code_of(response) == (403, "no_token")


async def test_an_open_function_is_opened_by_saying_so(cloud: Cloud) -> None:
    async with cloud.invoked(token="", is_open=True) as edge:
        response = await edge.handle(Request("POST", "/tasks/steps", body=b'{"input":{"n":1}}'))
    assert (response.status, response.json["result"]) == (200, [0])


async def test_the_token_may_come_from_the_environment(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQUENTIAL_TOKEN", "from-outside")
    async with cloud.invoked(token=None) as edge:
        ask = post("/tasks/steps", {"input": {"n": 1}}, token="from-outside")
        assert (await edge.handle(ask)).status == 200


async def test_a_body_that_is_too_large_is_not_read(cloud: Cloud) -> None:
    async with cloud.invoked(largest_body=100) as edge:
        large = {"input": {"n": 1}, "id": "x" * 100}
        for token in (TOKEN, "wrong"):
            response = await edge.handle(post("/tasks/steps", large, token=token))
            assert code_of(response) == (413, "too_large")


async def test_a_store_that_cannot_be_reached_is_not_named(cloud: Cloud, caplog: Any) -> None:
    edge = Edge("postgres://u:secret@127.0.0.1:1/none", token=TOKEN, secret=SECRET)
    response = await edge.handle(post("/tasks/steps", {"input": {"n": 1}}))
    assert code_of(response) == (503, "storage_unreachable")
    assert b"127.0.0.1" not in response.body
    assert response.headers["Retry-After"] == "5"
    assert "secret" not in caplog.text


async def test_what_nobody_foresaw_is_logged_and_not_told(cloud: Cloud, caplog: Any) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("inside")

    edge = Edge(broken, token=TOKEN, secret=SECRET)
    response = await edge.handle(post("/tasks/steps", {"input": {"n": 1}}))
    assert code_of(response) == (500, "internal")
    assert b"inside" not in response.body
    assert "inside" in caplog.text


async def test_an_operator_may_have_paused_the_run(cloud: Cloud) -> None:
    async with cloud.invoked(budget=0) as edge:
        run = (await edge.handle(post("/tasks/steps", {"input": {"n": 2}}))).json
        async with cloud.engine() as engine:
            await engine.pause(run["id"])
        assert await cloud.deliver(edge) == 1
        assert (await cloud.run(run["id"])).status is Status.PAUSED


async def test_a_path_below_the_base_url_is_understood(cloud: Cloud) -> None:
    async with cloud.invoked(base_url=f"{URL}/api/v1/") as edge:
        for path in ("/api/v1/tasks/steps", "/tasks/steps"):
            response = await edge.handle(post(path, {"input": {"n": 1}}))
            assert response.status == 200
