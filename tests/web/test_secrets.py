"""Secrets are in no answer, whatever was done with them."""

import base64
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest

from sequential import Secret
from sequential.config import Settings
from sequential.core.model import InputField, RetryPolicy, TaskConfig
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.services.http import HttpSettings
from sequential.services.local import LocalService
from sequential.web.app import create_app
from sequential.web.openapi import document
from support.http_api import HttpApi, serve
from web.conftest import serving

SECRET = "s3cr3t-Zaub3rw0rt/und+mehr"
crm = LocalService("crm")


@crm.method("echo")
def echo(token: Annotated[str, Secret("crm/token")]) -> dict[str, object]:
    return {"token": token, "in": [f"Bearer {token}"]}


@crm.method("fail")
def fail(token: Annotated[str, Secret("crm/token")]) -> None:
    raise RuntimeError(f"{token} is not accepted")


CODE = """
async def job(api, fails):
    headers = {"Authorization": "Bearer {{secret:crm/token}}"}
    answer = await fetch(f"{api}/mirror", headers=headers)
    print(answer.headers, answer.text)
    seen = [answer.text, await services.crm.echo()]
    if fails:
        await services.crm.fail()
    return seen
"""


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


@pytest.fixture
async def used(api: HttpApi, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine whose runs have used a secret."""
    settings = Settings(
        tmp_path,
        adaptor="memory:",
        http=HttpSettings(allow_loopback=True),
        runner=RunnerSettings(retry=RetryPolicy(retries=0)),
    )
    async with Engine(settings=settings, services=[crm]) as engine:
        await engine.keys.set("crm/token", SECRET)
        inputs = (InputField("api"), InputField("fails", type="boolean"))
        await engine.store_task("job", CODE, TaskConfig("job", inputs=inputs))
        yield engine


def traces(text: str) -> list[str]:
    """Pieces of the secret, however they are spelled."""
    encoded = base64.b64encode(SECRET.encode()).decode()
    return [piece for piece in ("s3cr3t", "Zaub3r", encoded[:16]) if piece in text]


async def test_no_endpoint_gives_them_away(used: Engine, api: HttpApi) -> None:
    _, token = await used.tokens.create("me", "operate")
    async with serving(used) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        shown: list[httpx.Response] = []
        for fails in (False, True):
            given = {"input": {"api": api.url, "fails": fails}}
            shown.append(await client.post("/tasks/job", json=given))
        again = await client.put("/api/v1/keys/crm/token", json={"value": SECRET})
        shown += [again, await client.put("/api/v1/keys/crm/other", json={"valu": SECRET})]
        shown += [await client.get(path) for path in await every_address(client)]
        retried = await client.post(f"/api/v1/runs/{shown[1].json()['id']}/retry")
        shown += [retried, await client.get("/api/v1/audit")]

    assert [shown[0].json()["status"], shown[1].json()["status"]] == ["completed", "failed"]
    assert "{{secret:crm/token}}" in shown[0].text or "crm/token" in shown[0].text
    assert api.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    for answer in shown:
        assert traces(answer.text + str(answer.headers)) == [], answer.request.url
        assert token not in answer.text


async def every_address(client: httpx.AsyncClient) -> list[str]:
    """The addresses of all that can be looked at, for each run and call there is."""
    runs = [run["id"] for run in (await client.get("/api/v1/runs")).json()["items"]]
    found: list[str] = []
    for path, methods in document(create_app(Engine("memory:")))["paths"].items():
        if "get" not in methods or path == "/api/v1/events":  # this one does not end
            continue
        for run_id in runs if "{run_id}" in path else [""]:
            for number in ("0", "1") if "{sequence}" in path else [""]:
                address = path.replace("{run_id}", run_id).replace("{sequence}", number)
                found.append(re.sub(r"\{[^}]+\}", "job", address))
    assert len(found) > 20
    return found
