"""With Azure's own package, in the programming model of version 2."""

from collections.abc import AsyncIterator
from typing import Any

import azure.functions as func
import pytest

from edge.conftest import SECRET, TOKEN, Cloud
from sequential.edge import Edge, azure
from sequential.errors import RunNotFoundError

HOST = "https://app.azurewebsites.example/api"


@pytest.fixture
async def edge(cloud: Cloud) -> AsyncIterator[Edge]:
    async with cloud.invoked(base_url="") as edge:
        yield edge


def app_of(edge: Edge) -> func.FunctionApp:
    """The app as one would deploy it."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    app.route("{*path}")(azure.handler(edge))
    app.timer_trigger("timer", "0 * * * * *")(azure.timer(edge))
    app.queue_trigger("msg", "resume", "AzureWebJobsStorage")(azure.queue(edge))
    return app


def functions(edge: Edge) -> dict[str, Any]:
    """What the host would call, by name."""
    found = app_of(edge).get_functions()
    return {str(one.get_function_name()): one.get_user_function() for one in found}


async def ask(edge: Edge, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    request = func.HttpRequest(
        method,
        f"{HOST}{path}",
        headers={"Authorization": f"Bearer {TOKEN}", **headers},
        params={},
        route_params={"path": path.partition("?")[0].removeprefix("/")},
        body=body,
    )
    return await functions(edge)["main"](request)


def test_the_app_has_its_functions(edge: Edge) -> None:
    assert sorted(functions(edge)) == ["main", "resume", "sweep"]


async def test_requests_are_answered(cloud: Cloud, edge: Edge) -> None:
    response = await ask(edge, "POST", "/tasks/steps", b'{"input": {"n": 2}}')
    assert isinstance(response, func.HttpResponse)
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert b'"result":[0,1]' in response.get_body()
    assert edge.base_url == HOST
    response = await ask(edge, "GET", "/health?a=1")
    assert response.status_code == 200
    assert (await ask(edge, "GET", "/health?" + "a=1&" * 1000)).status_code == 400
    assert (await ask(edge, "GET", "/", Authorization="")).status_code == 404


async def test_a_link_is_a_page(cloud: Cloud, edge: Edge) -> None:
    await ask(edge, "POST", "/sweep")
    async with cloud.engine() as engine:
        run = await engine.create_run("approval")
    link = edge.link(run.id, "a word")
    assert link.startswith(f"{HOST}/answer/{run.id}/a%20word?token=")
    response = await ask(edge, "GET", link.removeprefix(HOST))
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert (await ask(edge, "POST", link.removeprefix(HOST), b"1")).status_code == 202
    assert (await cloud.run(run.id)).answers == 1


async def test_timers_and_queues(cloud: Cloud, edge: Edge) -> None:
    async with cloud.engine() as engine:
        run = await engine.create_run("steps", {"n": 1})
    called = functions(edge)
    await called["sweep"](None)
    assert cloud.fired == [run.id]
    message = func.QueueMessage(body=f'{{"resume": "{run.id}"}}'.encode())
    await called["resume"](message)
    assert (await cloud.run(run.id)).value == [0]
    lost = func.QueueMessage(body=b'{"resume": "019cab0e-97eb-7000-8000-000000000001"}')
    with pytest.raises(RunNotFoundError):  # so that Azure delivers it again
        await called["resume"](lost)
    assert SECRET not in str(called)
