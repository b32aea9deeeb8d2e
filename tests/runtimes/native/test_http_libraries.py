"""What holds for all HTTP libraries in native tasks, and for everybody outside of them."""

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import httpx
import pytest
import requests

from sequential.core import values
from sequential.core.model import Status, TaskConfig
from sequential.errors import LeaseLostError
from sequential.runtimes.native import http_httpx
from sequential.runtimes.native.http_libraries import cover
from sequential.services.http_settings import HttpSettings
from support.http_api import HttpApi
from support.http_lab import HttpLab
from support.sdk_api import serve_sdks


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve_sdks() as running:
        yield running


async def test_outside_of_a_task_they_are_as_ever(api: HttpApi) -> None:
    """While a task waits in its thread, this one uses real connections."""
    code = """
import aiohttp, asyncio, httpx, requests
async def job(input):
    await asyncio.sleep(1)
    return httpx.get(input["api"] + "/json/0").json()
"""
    run, _ = await HttpLab().run(code, api=api.url)
    before = len(api.requests)

    httpx.post(f"{api.url}/json/1", timeout=5)
    requests.post(f"{api.url}/json/2", timeout=5)
    with urllib.request.urlopen(f"{api.url}/json/3", data=b"x") as answer:
        answer.read()
    async with aiohttp.ClientSession() as session, session.post(f"{api.url}/json/4") as there:
        await there.read()
    async with httpx.AsyncClient() as client:
        await client.post(f"{api.url}/json/5")

    assert run.value == {"n": 0}
    assert len(api.requests) == before + 5
    assert not api.keys  # none of them came from the engine


ASKING = {
    "httpx": """
import httpx
def ask(method, url):
    answer = httpx.request(method, url)
    return [answer.status_code, answer.content]
""",
    "requests": """
import requests
def ask(method, url):
    answer = requests.request(method, url)
    return [answer.status_code, answer.content]
""",
    "urllib": """
import urllib.error, urllib.request
def ask(method, url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            return [answer.status, answer.read()]
    except urllib.error.HTTPError as error:
        with error:
            return [error.code, error.read()]
""",
    "httplib2": """
import httplib2
def ask(method, url):
    answer, content = httplib2.Http().request(url, method)
    return [answer.status, content]
""",
    "aiohttp": """
import aiohttp
async def ask(method, url):
    async with aiohttp.request(method, url) as answer:
        return [answer.status, await answer.read()]
""",
}


@pytest.mark.parametrize("library", ASKING)
async def test_methods_and_answers_of_all_kinds(api: HttpApi, library: str) -> None:
    code = """
import inspect

async def job(input):
    seen = []
    for method, path in input["asked"]:
        answer = ask(method, input["api"] + path)
        seen.append(await answer if inspect.isawaitable(answer) else answer)
    return seen
"""
    asked = [
        *(["GET", "/status/204"], ["GET", "/status/304"], ["HEAD", "/json/1"]),
        *(["DELETE", "/json/2"], ["PATCH", "/json/3"], ["PUT", "/json/4"]),
        *(["OPTIONS", "/json/5"], ["GET", "/status/503"], ["POST", "/status/418"]),
    ]
    value = await HttpLab().value(ASKING[library] + code, api=api.url, asked=asked)

    assert value == [
        *([204, b""], [304, b""], [200, b""]),
        *([200, b'{"n": 2}'], [200, b'{"n": 3}'], [200, b'{"n": 4}']),
        *([200, b'{"n": 5}'], [503, b"status 503"], [418, b"status 418"]),
    ]
    assert [[request.method, request.path] for request in api.requests] == asked


async def test_no_connection_in_time() -> None:
    """The failure that depends on the worker's settings, and not on those of the library."""

    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    code = """
import aiohttp, httpx, requests, urllib.request

def kinds(error):
    return [kind.__name__ for kind in type(error).__mro__], str(error)

async def job(input):
    seen, url = {}, "http://slow.example/"
    try:
        httpx.get(url)
    except httpx.HTTPError as error:
        seen["ConnectTimeout"] = kinds(error)
    try:
        requests.get(url)
    except requests.Timeout as error:
        seen["ReadTimeout"] = kinds(error)
    try:
        urllib.request.urlopen(url)
    except TimeoutError as error:
        seen["TimeoutError"] = kinds(error)
    try:
        async with aiohttp.ClientSession() as session, session.get(url):
            pass
    except aiohttp.ClientError as error:
        seen["ConnectionTimeoutError"] = kinds(error)
    return seen
"""
    lab = HttpLab(settings=HttpSettings(connect_timeout=0.05), resolve=never)
    value = await lab.value(code)

    assert len(value) == 4
    for expected, (kinds, message) in value.items():
        assert expected in kinds
        words = "Read timed out" if expected == "ReadTimeout" else "no connection within 0.05 s"
        assert "slow.example" in message
        assert words in message  # urllib3 has no other words for it


async def test_a_run_that_is_cancelled_in_the_middle_of_a_library(api: HttpApi) -> None:
    code = """
import requests

def job(input):
    try:
        requests.get(input["api"] + "/slow/30")
    finally:
        print("told")
"""
    engine = HttpLab().engine()
    try:
        await engine.store_task("job", code, TaskConfig(name="job", runtime="native"))
        run = await engine.create_run("job", {"api": api.url})
        driving = asyncio.create_task(engine.drive(run.id))
        while not api.requests:
            await asyncio.sleep(0.01)
        await engine.cancel(run.id)
        with pytest.raises(LeaseLostError):
            await driving
        ended = await engine.get_run(run.id)
    finally:
        await engine.close()

    assert ended.status is Status.CANCELLED
    assert len(api.requests) == 1


async def test_a_step_uses_real_connections(api: HttpApi) -> None:
    code = """
import requests
from sequential.task import step

def load(url):
    return requests.post(url, timeout=5).json()

async def job(input):
    return await step(load, input["api"] + "/json/1")
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None, run.error
    assert run.value == {"n": 1}
    assert [call.operation for call in calls] == ["step.load"]
    assert not api.keys


EARLY = """
import asyncio, sys
import aiohttp, googleapiclient.discovery, httplib2, httpx, httpx2, openai, requests, urllib.request
from support.http_lab import HttpLab

CODE = '''
import aiohttp, httplib2, httpx, openai, requests, urllib.request

def job(input):
    api = input["api"]
    try:
        openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9/v1").models.list()
    except openai.APIConnectionError:
        pass
    httpx.post(api + "/json/1")
    requests.post(api + "/json/2")
    urllib.request.urlopen(api + "/json/3", data=b"x").read()
    httplib2.Http().request(api + "/json/4", "POST", body="x")

    async def later():
        async with aiohttp.ClientSession() as session, session.post(api + "/json/5") as answer:
            await answer.read()

    return later()
'''
run, calls = asyncio.run(HttpLab().run(CODE, api=sys.argv[1]))  # which replays it, too
assert run.error is None, run.error
print(*[call.operation for call in calls])
"""


def test_libraries_that_were_imported_before(api: HttpApi) -> None:
    """Also what they took by name from modules of Python, as OpenAI's SDK does with `random`."""
    done = subprocess.run(
        [sys.executable, "-c", EARLY, api.url],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        },
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    tries = ["http.fetch", "clock.sleep", "http.fetch", "clock.sleep", "http.fetch"]
    assert done.stdout.split() == [*tries, *["http.fetch"] * 5]
    assert len(api.keys) == 5


async def test_a_secret_is_filled_in_where_the_request_is_sent(api: HttpApi) -> None:
    code = """
from openai import OpenAI

def job(input):
    client = OpenAI(api_key="{{secret:openai}}", base_url=input["api"] + "/v1")
    return client.embeddings.create(model="e", input="a", encoding_format="float").model
"""
    lab = HttpLab()
    engine = lab.engine()
    try:
        await engine.keys.set("openai", "sk-very-secret")
    finally:
        await engine.close()

    run, calls = await lab.run(code, api=api.url)

    assert run.value == "e"
    assert api.last.headers["authorization"] == "Bearer sk-very-secret"
    assert "sk-very-secret" not in repr(calls)


async def test_allowed_hosts_hold_for_sdks_and_the_log_says_so(api: HttpApi) -> None:
    code = """
from openai import OpenAI

def job(input):
    OpenAI(api_key="x", base_url=input["api"] + "/v1", max_retries=0).models.list()
"""
    lab = HttpLab()
    run, calls = await lab.run(code, hosts=("api.openai.com",), api=api.url)

    assert run.error is not None
    assert (run.error.type, run.error.message) == ("APIConnectionError", "Connection error.")
    assert calls[0].error is not None
    assert calls[0].error.type == "PermissionError"
    assert await lab.log(run.id) == f"{calls[0].error.message}\n"
    assert api.requests == []


async def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(api: HttpApi) -> None:
    code = """
import httpx

def job(input):
    httpx.post(input["api"] + "/echo", content=b"x" * 40_000_000)
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is not None
    assert (run.error.type, calls) == ("TypeError", [])
    assert "(limits.result_kb)" in run.error.message


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import grpc; grpc.insecure_channel('x:1')", "a connection of grpc"),
        ("import grpc.aio; grpc.aio.secure_channel('x:1', None)", "a connection of grpc"),
        ("import psycopg; psycopg.connect('host=x')", "a connection of psycopg"),
        ("import psycopg; psycopg.Connection.connect('')", "a connection of psycopg"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "a connection"),
        ("import threading; threading.Thread(target=print).start()", "a thread"),
        (
            "from websockets.sync.client import connect; connect('ws://127.0.0.1:9')",
            "a connection",
        ),
    ],
)
async def test_what_no_journal_could_hold_is_refused(code: str, says: str) -> None:
    run, calls = await HttpLab().run(f"def job(input):\n    {code}\n")

    assert run.error is not None
    assert run.error.message.startswith("a native task cannot ")
    assert says in run.error.message or "look up a host" in run.error.message
    assert "`await step(function, ...)`" in run.error.message
    assert calls == []


def test_a_library_that_has_become_another_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its own way to the network stays, which no task may go."""
    module = ModuleType("httpx_of_the_future")
    cover(http_httpx.patch, module)

    assert "requests of httpx_of_the_future are refused in native tasks" in caplog.text
    assert "HTTPTransport" in caplog.text


async def test_to_thread_makes_calls_of_the_run(api: HttpApi) -> None:
    code = """
import asyncio, requests, threading

async def job(input):
    answer = await asyncio.to_thread(requests.get, input["api"] + "/json/1")
    same = await asyncio.to_thread(threading.get_ident) == threading.get_ident()
    try:
        await asyncio.to_thread(int, "x")
    except ValueError as error:
        return [answer.json(), same, str(error)]
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.value == [{"n": 1}, True, "invalid literal for int() with base 10: 'x'"]
    assert len(calls) == 1


async def test_runs_at_the_same_time_do_not_meet(api: HttpApi) -> None:
    """One session of a library, shared by the tasks of a process, serves each as its own."""
    code = """
import requests

def job(input):
    session = requests.__dict__.setdefault("shared_by_tests", requests.Session())
    return [session.get(f"{input['api']}/json/{input['n'] + n}").json()["n"] for n in range(5)]
"""
    engine = HttpLab().engine()
    try:
        await engine.store_task("job", code, TaskConfig(name="job", runtime="native"))
        given: list[dict[str, Any]] = [{"api": api.url, "n": n} for n in (0, 10, 20)]
        runs = await asyncio.gather(*[engine.run("job", one) for one in given])
    finally:
        await engine.close()
        vars(requests).pop("shared_by_tests").close()

    assert [values.from_json(run.result) for run in runs] == [
        [n, n + 1, n + 2, n + 3, n + 4] for n in (0, 10, 20)
    ]
    assert all(count == 1 for count in api.paths.values())
