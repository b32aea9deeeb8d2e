"""Servers of services with real connections."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sequential.errors import ConfigError
from sequential.runner.engine import Engine
from sequential.services.local import LocalService
from sequential.web.door import Door
from sequential.web.services_server import ServicesServer, registry
from support.offered_services import base_of, offered


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    services = []
    for name in ("mail", "crm"):
        service = LocalService(name)
        service.add(lambda name=name: name, "who")
        services.append(service)
    async with Engine("memory:", services) as made:
        yield made


async def ask(url: str, body: Any = None, **headers: str) -> Any:
    def send() -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(send)


async def test_several_services_behind_one_port(engine: Engine) -> None:
    async with offered(engine, "mail", "crm") as server:
        assert [one.name for one in server.served] == ["crm", "mail"]
        assert len({one.port for one in server.served}) == 1
        for one in server.served:
            assert await ask(one.url, {"method": "who"}) == {"result": one.name}
        names = [one["name"] for one in (await ask(base_of(server) + "/services"))["items"]]
        assert names == ["crm", "mail"]


async def test_a_port_for_each_of_them(engine: Engine) -> None:
    async with offered(engine, "mail", "crm", separate=True) as server:
        crm, mail = server.served
        assert crm.port != mail.port
        assert await ask(crm.url + "/", {"method": "who"}) == {"result": "crm"}
        assert await ask(mail.url + "/functions/v1/mail", {"method": "who"}) == {"result": "mail"}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            await ask(crm.url + "/services/mail", {"method": "who"})


def test_ports_are_given_in_alphabetical_order() -> None:
    base = _two_free_ports()
    server = ServicesServer(["mail", "crm"], "127.0.0.1", base, separate=True)
    try:
        assert registry(server.served) == [
            {"name": "crm", "port": base, "url": f"http://127.0.0.1:{base}"},
            {"name": "mail", "port": base + 1, "url": f"http://127.0.0.1:{base + 1}"},
        ]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1, port {base}"):
            ServicesServer(["crm"], "127.0.0.1", base)
    finally:
        server.close()


async def test_a_request_in_progress_may_end(engine: Engine) -> None:
    begun, release = asyncio.Event(), asyncio.Event()
    slow = LocalService("slow")

    @slow.method()
    async def work() -> str:
        begun.set()
        await release.wait()
        return "done"

    engine.services.add(slow)
    server, stop = ServicesServer(["slow"], "127.0.0.1", 0), asyncio.Event()
    running = asyncio.create_task(server.run(engine, Door(), stop))
    asking = asyncio.create_task(ask(server.served[0].url, {"method": "work"}))
    await asyncio.wait_for(begun.wait(), 10)
    stop.set()
    release.set()
    assert await asking == {"result": "done"}
    await asyncio.wait_for(running, 10)
    server.close()


async def test_a_server_with_a_token(engine: Engine) -> None:
    async with offered(engine, "crm", token="open sesame") as server:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await ask(server.served[0].url, {"method": "who"})
        right = {"Authorization": "Bearer open sesame"}
        assert await ask(server.served[0].url, {"method": "who"}, **right) == {"result": "crm"}


def _two_free_ports() -> int:
    import socket

    for port in range(38000, 39000):
        try:
            with (
                socket.create_server(("127.0.0.1", port)),
                socket.create_server(("127.0.0.1", port + 1)),
            ):
                return port
        except OSError:
            continue
    raise AssertionError("there are no two free ports in a row")
