"""On Google's own server for functions, `functions-framework`."""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.conftest import Cloud
from support.postgres_server import free_port

HERE = Path(__file__).parent
TOKEN = {"Authorization": "Bearer let-me-in"}


class Served:
    """A running `functions-framework`."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] = {}
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def json(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        body = b"" if document is None else json.dumps(document).encode()
        status, text = self.ask(method, path, body, TOKEN)
        return status, json.loads(text)


@contextlib.contextmanager
def serving(cloud: Cloud, target: str, kind: str) -> Iterator[Served]:
    port = free_port()
    program = Path(sys.executable).with_name("functions-framework")
    source = ["--source", str(HERE / "gcp_function.py"), "--target", target]
    place = ["--signature-type", kind, "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"STORE": cloud.storage, "PROJECT": str(cloud.project)}
    process = subprocess.Popen([program, *source, *place], env=environment)
    served = Served(port)
    try:
        end = time.monotonic() + 30
        while True:
            assert process.poll() is None
            assert time.monotonic() < end
            with contextlib.suppress(OSError):
                served.ask("GET", "/health")
                break
            time.sleep(0.05)
        yield served
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def served(cloud: Cloud) -> Iterator[Served]:
    with serving(cloud, "handler", "http") as served:
        yield served


async def test_a_run_goes_from_request_to_request(cloud: Cloud, served: Served) -> None:
    """Nobody has told the function its address: it is the one it was reached at."""
    start = {"input": {"n": 3}}
    status, run = await asyncio.to_thread(served.json, "POST", "/tasks/steps", start)
    assert (status, run["status"]) == (202, "suspended")
    async with cloud.engine() as engine:
        assert (await engine.wait(run["id"], 20)).value == [0, 1, 2]
    status, done = await asyncio.to_thread(served.json, "GET", f"/runs/{run['id']}")
    assert (status, done["result"]) == (200, [0, 1, 2])

    assert served.ask("GET", "/health")[0] == 200
    assert served.ask("POST", "/tasks/steps", b"{}")[0] == 401
    assert served.ask("POST", "/tasks/steps", b"x" * (2 << 20), TOKEN)[0] == 413
    assert served.ask("GET", "/health?" + "a=1&" * 1000)[0] == 400
    assert served.ask("GET", f"/answer/{run['id']}/%C3%A4?token=x")[0] == 403


async def test_messages_and_timers(cloud: Cloud) -> None:
    async with cloud.engine() as engine:
        runs = [await engine.create_run("steps", {"n": 0}) for _ in range(2)]

    def event(server: Served, data: Any) -> int:
        headers = {
            "ce-id": "1",
            "ce-source": "//pubsub",
            "ce-specversion": "1.0",
            "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
            "Content-Type": "application/json",
        }
        return server.ask("POST", "/", json.dumps(data).encode(), headers)[0]

    def message(text: str) -> dict[str, Any]:
        return {"message": {"data": base64.b64encode(text.encode()).decode()}}

    unknown = "019cab0e-97eb-7000-8000-000000000001"
    with serving(cloud, "on_event", "cloudevent") as server:
        named = message(json.dumps({"resume": runs[0].id}))
        assert await asyncio.to_thread(event, server, named) == 200
        assert (await cloud.run(runs[0].id)).value == []
        assert (await cloud.run(runs[1].id)).turn == 0
        assert await asyncio.to_thread(event, server, message("tick")) == 200
        assert (await cloud.run(runs[1].id)).value == []
        # It is delivered again, as this was no success.
        lost = message(json.dumps({"resume": unknown}))
        assert await asyncio.to_thread(event, server, lost) == 500
