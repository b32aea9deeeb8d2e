"""Tasks that come over HTTP: what they cannot reach, however they try.

Names are faked by the `resolve` of `HttpService`, the documented seam. Nothing else is.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from sequential.cli.project import Project
from sequential.config import Settings, load_settings
from sequential.core.bounds import TokenLimits
from sequential.runner.engine import Engine
from sequential.services.http import HttpService, HttpSettings
from sequential.testing.services import FakeService
from sequential.web.settings import ServerSettings
from support.http_api import HttpApi, serve
from web.conftest import serving

TASKS = "/api/v1/tasks"
FETCHES = """
async def main(url):
    try:
        return (await fetch(url)).status
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "here.example": ["127.0.0.1"],
    "six.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "lan.example": ["10.0.0.1", "fd00::1"],
    "metadata.example": ["169.254.169.254"],
    "named.example": ["127.0.0.1"],
}

PRIVATE = (
    *("127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0", "[::1]", "[::]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    *("2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "017700000001"),
    *("here.example", "six.example", "mapped.example", "lan.example", "metadata.example"),
    *("10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "[fd00::1]", "[fe80::1]"),
    *("169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "168.63.129.16"),
)


async def resolve(host: str, port: int) -> Sequence[str]:
    return NAMES[host]


@pytest.fixture
def bait() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


@contextlib.asynccontextmanager
async def server(
    http: HttpSettings | None = None, **sent: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Engine]]:
    """A server that drives what it is sent, with these settings and caps."""
    service = HttpService(http or HttpSettings(), resolve=resolve)
    dangerous = FakeService("diagnostics", {"look": lambda: "seen"})
    dangerous.named_only = True  # type: ignore[attr-defined]
    settings = ServerSettings(sent=TokenLimits(**sent))
    async with Engine("memory:", [dangerous]) as engine:
        engine.services.add(service)
        async with serving(engine, settings) as client:
            yield client, engine


async def fetched(client: httpx.AsyncClient, url: str, hosts: Sequence[str] | None) -> Any:
    """What a task gets that is sent with this list of its own, and fetches this."""
    config: dict[str, Any] = {"inputs": [{"name": "url"}], "allow": {"hosts": hosts}}
    stored = await client.put(f"{TASKS}/spy", json={"code": FETCHES, "config": config})
    assert stored.status_code in {200, 201}, stored.text
    answer = (await client.post("/tasks/spy", json={"url": url})).json()
    assert answer["status"] == "completed", answer
    return answer["result"]


async def test_private_places_are_not_reached_even_if_the_task_names_them(bait: HttpApi) -> None:
    async with server() as (client, _):
        for host in PRIVATE:
            for hosts in (None, [host], ["*", host]):
                said = await fetched(client, f"http://{host}:{bait.port}/json/1", hosts)
                assert str(said).startswith(("PermissionError: ", "ValueError: ")), said

    assert bait.connections == 0


async def test_redirects_to_them_are_not_followed(bait: HttpApi) -> None:
    async with server(hosts=("*", "named.example")) as (client, _):
        start = f"http://named.example:{bait.port}/redirect?to="
        assert await fetched(client, f"{start}/json/1", ["named.example"]) == 200
        for there in (
            f"http://127.0.0.1:{bait.port}/json/2",
            f"//localhost:{bait.port}/json/2",
            f"http://[::ffff:127.0.0.1]:{bait.port}/json/2",
            f"http://here.example:{bait.port}/json/2",
            "http://169.254.169.254/latest/meta-data/",
        ):
            said = await fetched(client, start + there, ["*", "named.example", "127.0.0.1"])
            assert str(said).startswith("PermissionError: "), said

    assert bait.count("/json/2") == 0


async def test_names_that_change_are_looked_at_again(bait: HttpApi) -> None:
    url = f"http://moving.example:{bait.port}/json/1"
    answers = [["10.0.0.1"], ["127.0.0.1"]]
    NAMES["moving.example"] = answers[0]
    try:
        async with server(HttpSettings(allow_loopback=True)) as (client, _):
            assert "PermissionError" in await fetched(client, url, None)
            NAMES["moving.example"] = answers[1]
            assert await fetched(client, url, None) == 200
            NAMES["moving.example"] = answers[0]
            redirect = f"http://127.0.0.1:{bait.port}/redirect?to=http://moving.example/json/1"
            assert "PermissionError" in await fetched(client, redirect, None)
    finally:
        del NAMES["moving.example"]


async def test_proxies_of_the_machine_are_not_used(
    bait: HttpApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, bait.url)
    async with server() as (client, _):
        said = await fetched(client, "http://10.0.0.1/json/1", ["10.0.0.1"])

    assert "PermissionError" in said
    assert bait.connections == 0


async def test_the_operator_may_permit_them(bait: HttpApi) -> None:
    url = f"{bait.url}/json/1"
    async with server(hosts=("*", "127.0.0.1")) as (client, _):
        assert await fetched(client, url, ["127.0.0.1"]) == 200
        assert "PermissionError" in await fetched(client, url, None)
    async with server(HttpSettings(allow_loopback=True)) as (client, _):
        assert await fetched(client, url, None) == 200


async def test_what_the_command_line_may_reach_they_may_not(bait: HttpApi) -> None:
    async with server(HttpSettings(allow_loopback="own")) as (client, engine):
        assert "PermissionError" in await fetched(client, f"{bait.url}/json/1", None)
        config = (await engine.get_task("spy")).config
        own = type(config)("own", inputs=config.inputs)
        await engine.store_task("own", FETCHES, own)
        assert (await engine.run("own", {"url": f"{bait.url}/json/1"})).result == 200


async def test_services_that_have_to_be_named_are_the_operators_to_permit() -> None:
    code = "async def main():\n    return await services.diagnostics.look()"
    task = {"code": code, "config": {"allow": {"services": ["diagnostics"]}}}
    for services, status in ((None, "failed"), (("*", "diagnostics"), "completed")):
        async with server(services=services) as (client, _):
            await client.put(f"{TASKS}/spy", json=task)
            assert (await client.post("/tasks/spy")).json()["status"] == status


def test_a_served_project_keeps_its_tasks_off_the_machine(tmp_path: Path) -> None:
    def http(text: str = "{}") -> tuple[object, object]:
        (tmp_path / ".sequentialrc.json").write_text(text)
        project = Project("sequential", tmp_path, None)
        both: list[Settings] = [project.settings, project.served().settings]
        return both[0].http.allow_loopback, both[1].http.allow_loopback

    assert http() == ("own", False)
    assert http('{"http": {"allow_loopback": true}}') == (True, True)
    assert http('{"http": {"allow_loopback": false}}') == (False, False)
    assert load_settings(tmp_path, environment={}).http.allow_loopback is False
