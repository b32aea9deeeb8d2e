"""aiohttp inside of a task."""

from collections.abc import Iterator

import pytest

from support.http_api import HttpApi, serve
from support.http_lab import HttpLab


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


async def test_sessions_have_all_that_they_have_elsewhere(api: HttpApi) -> None:
    code = """
import aiohttp

async def job(input):
    async with aiohttp.ClientSession(
        input["api"], headers={"X-Mine": "yes"}, cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as session:
        async with session.get("/cookie") as answer:
            await answer.read()
        async with session.post("/echo", params={"a": "é"}, json=[1]) as answer:
            echo = await answer.json()
        async with session.get("/status/404") as answer:
            missing = [answer.status, answer.reason, answer.ok]
        async with session.get("/redirect/2") as answer:
            moved = [await answer.json(), [one.status for one in answer.history]]
        async with session.head("/big/9") as answer:
            head = [answer.headers["Content-Length"], await answer.read()]
        async with session.get("/big/5000?gzip=1") as answer:
            zipped = len(await answer.text())
        async with session.get("/bytes/300") as answer:
            raw = await answer.read()
        async with session.get("/text?charset=latin-1") as answer:
            words = await answer.text()
        return {
            "cookies": [cookie.value for cookie in session.cookie_jar],
            "echo": [echo["headers"].get(name) for name in ("x-mine", "cookie")],
            "sent": [echo["method"], echo["query"], echo["body"]],
            "missing": missing, "moved": moved, "head": head,
            "zipped": zipped, "bytes": raw, "words": words,
        }
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None
    value = run.value
    assert value["cookies"] == ["1"]
    assert value["echo"] == ["yes", "session=1"]
    assert value["sent"] == ["POST", "a=%C3%A9", "[1]"]
    assert value["missing"] == [404, "Not Found", False]
    assert value["moved"] == [{"n": 0}, [302, 302]]
    assert value["head"] == ["9", b""]
    assert (value["zipped"], len(value["bytes"]), value["words"]) == (5000, 300, "grüße")
    assert {call.operation for call in calls} == {"http.fetch"}  # and no timer for each request


async def test_several_at_once_streams_and_errors_for_a_status(api: HttpApi) -> None:
    code = """
import asyncio, aiohttp

async def job(input):
    three = aiohttp.TCPConnector(limit=3)
    async with aiohttp.ClientSession(input["api"], connector=three) as session:
        async def number(n):
            async with session.get(f"/json/{n}") as answer:
                return (await answer.json())["n"]
        found = await asyncio.gather(*[number(n) for n in range(7)])
        async with session.get("/big/3000") as answer:
            pieces = [len(piece) async for piece in answer.content.iter_chunked(1024)]
        try:
            async with session.get("/status/500", raise_for_status=True):
                pass
        except aiohttp.ClientResponseError as error:
            return [found, sum(pieces), error.status]
"""
    value = await HttpLab().value(code, api=api.url)

    assert value == [[0, 1, 2, 3, 4, 5, 6], 3000, 500]
    assert [api.count(f"/json/{n}") for n in range(7)] == [1] * 7


async def test_bodies_of_all_kinds_arrive(api: HttpApi) -> None:
    code = """
import aiohttp, io

async def pieces():
    yield b"one "
    yield b"two"

async def job(input):
    async with aiohttp.ClientSession(input["api"]) as session:
        async def sent(body):
            async with session.post("/echo", data=body) as answer:
                echo = await answer.json()
                return [echo["headers"].get("content-type"), echo["body"]]
        form = aiohttp.FormData({"a": "1"})
        upload = aiohttp.FormData()
        upload.add_field("f", b"content", filename="a.txt")
        return [
            await sent(form), await sent(bytes([0, 255])), await sent(pieces()),
            await sent(io.BytesIO(b"a file")), (await sent(upload))[1], await sent(None),
        ]
"""
    value = await HttpLab().value(code, api=api.url)

    form, raw, chunks, file, multipart, nothing = value
    assert form == ["application/x-www-form-urlencoded", "a=1"]
    assert raw == ["application/octet-stream", "\x00ÿ"]
    assert (chunks[1], file[1]) == ("one two", "a file")
    assert 'filename="a.txt"' in multipart
    assert nothing[1] == ""


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("/slow/9", "SocketTimeoutError", "no answer within 0.2 s"),
        ("/drop", "ServerDisconnectedError", "the server closed the connection without an answer"),
        ("http://127.0.0.1:9", "ClientConnectorError", "cannot connect to 127.0.0.1:9: connection"),
        (
            "http://no-such-host.invalid",
            "ClientConnectorDNSError",
            "cannot connect to no-such-host",
        ),
        ("http://10.1.2.3", "ClientConnectorError", "10.1.2.3 is a private address"),
    ],
)
async def test_failures_are_those_of_the_library(
    api: HttpApi, path: str, kind: str, says: str
) -> None:
    code = """
import aiohttp

async def job(input):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as session:
        try:
            async with session.post(input["url"]):
                pass
        except aiohttp.ClientConnectionError as error:
            return [type(error).__name__, str(error)]
"""
    url = path if path.startswith("http") else api.url + path

    shown, message = await HttpLab().value(code, url=url)

    assert shown == kind
    assert says in message


async def test_a_request_that_is_given_up(api: HttpApi) -> None:
    code = """
import asyncio, aiohttp

async def job(input):
    async with aiohttp.ClientSession(input["api"]) as session:
        try:
            async with asyncio.timeout(3):
                await session.get("/slow/9")
        except TimeoutError:
            async with session.get("/json/1") as answer:
                return await answer.json()
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.value == {"n": 1}
    assert [(call.operation, call.status.value) for call in calls] == [
        ("clock.sleep", "completed"),
        ("http.fetch", "cancelled"),
        ("http.fetch", "completed"),
    ]


async def test_websockets_are_refused(api: HttpApi) -> None:
    code = """
import aiohttp

async def job(input):
    async with aiohttp.ClientSession() as session:
        await session.ws_connect(input["api"])
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is not None
    assert calls == []
    assert run.error.message == (
        "a native task cannot keep a connection open, which would not survive it: use "
        "`await step(function, ...)` for WebSockets and other upgrades"
    )


async def test_a_call_knows_the_line_that_asked_for_it(api: HttpApi) -> None:
    """Also where aiohttp sends from a task of its own, or `gather` begins the request."""
    code = """
import aiohttp, asyncio

async def job(input):
    async with aiohttp.ClientSession(input["api"]) as session:
        async with session.post("/echo", json={}) as answer:
            await answer.read()
        for answer in await asyncio.gather(session.get("/json/1"), session.get("/json/2")):
            answer.release()
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is None
    lines = [call.where.line if call.where else None for call in calls]
    assert lines == [6, 8, 8]
