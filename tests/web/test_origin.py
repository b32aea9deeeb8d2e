"""Requests that pages of other sites make a browser send."""

import httpx
import pytest

from sequential.runner.engine import Engine
from sequential.web.settings import ServerSettings
from web.conftest import serving

RUNS = "/api/v1/runs"
APPROVAL = {"task": "approval"}
OURS = "http://127.0.0.1:3000"
APP = "https://app.example.com"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "https://127.0.0.1:3000.evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "file://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": OURS},
    ],
)
async def test_pages_of_others_change_nothing(
    client: httpx.AsyncClient, engine: Engine, headers: dict[str, str]
) -> None:
    answer = await client.post(RUNS, json=APPROVAL, headers=headers)

    assert answer.status_code == 403
    assert "another site" in answer.json()["error"]["message"]
    assert await engine.list_runs() == []
    assert await engine.audit.list() == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": OURS},
        {"Origin": OURS, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_programs_and_our_own_pages_do(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await client.post(RUNS, json=APPROVAL, headers=headers)).status_code == 201


async def test_passwords_that_a_browser_adds_are_no_help_to_them(engine: Engine) -> None:
    _, token = await engine.tokens.create("me", "operate")
    async with serving(engine) as client:
        theirs = {"Origin": "https://evil.example"}
        basic = await client.post(RUNS, json=APPROVAL, headers=theirs, auth=("me", token))
        bearer = {**theirs, "Authorization": f"Bearer {token}"}
        known = await client.post(RUNS, json=APPROVAL, headers=bearer)

    assert [basic.status_code, known.status_code] == [403, 201]
    assert "access-control-allow-origin" not in known.headers


async def test_behind_a_proxy_our_own_pages_have_the_public_address(engine: Engine) -> None:
    async with serving(engine, ServerSettings(public_url="https://seq.example.com/at")) as client:
        ours = {"Origin": "https://seq.example.com"}
        plain = {"Origin": "http://seq.example.com"}
        assert (await client.post(RUNS, json=APPROVAL, headers=ours)).status_code == 201
        assert (await client.post(RUNS, json=APPROVAL, headers=plain)).status_code == 403


async def test_nothing_is_shared_by_default(client: httpx.AsyncClient) -> None:
    asked = await client.options(
        RUNS, headers={"Origin": APP, "Access-Control-Request-Method": "POST"}
    )
    read = await client.get(RUNS, headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"})

    for answer in (asked, read):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert read.headers["cross-origin-resource-policy"] == "same-origin"


async def test_origins_that_are_allowed(engine: Engine) -> None:
    async with serving(engine, ServerSettings(origins=(APP,))) as client:
        asking = {"Origin": APP, "Access-Control-Request-Method": "POST"}
        asked = await client.options(RUNS, headers=asking)
        sent = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
        done = await client.post(RUNS, json=APPROVAL, headers=sent)
        error = await client.get(f"{RUNS}/no-such", headers=sent)
        other = await client.options(RUNS, headers={**asking, "Origin": f"{APP}.evil.example"})

    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == APP
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    assert done.status_code == 201
    for answer in (done, error):
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in other.headers
