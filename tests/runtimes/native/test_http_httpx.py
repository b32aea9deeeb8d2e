"""httpx, and httpx2 that SDKs build on by now, inside of a task."""

from collections.abc import Iterator

import pytest

from support.http_api import HttpApi, serve
from support.http_lab import HttpLab

LIBRARIES = ["httpx", "httpx2"]


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


def using(library: str, code: str) -> str:
    """A task that imports one of the two under the name of the first."""
    return f"import {library} as httpx\n{code}"


@pytest.mark.parametrize("library", LIBRARIES)
async def test_clients_have_all_that_they_have_elsewhere(api: HttpApi, library: str) -> None:
    code = """
class Client(httpx.Client):
    pass

def job(input):
    api = input["api"]
    with Client(base_url=api, headers={"X-Mine": "yes"}, follow_redirects=True) as client:
        client.get("/cookie")
        echo = client.post("/echo", params={"a": "é"}, json=[1], auth=("me", "secret")).json()
        missing, head = client.get("/status/404"), client.head("/big/9")
        moved = client.get("/redirect/2")
        return {
            "cookies": dict(client.cookies),
            "echo": [echo["headers"].get(name) for name in ("x-mine", "cookie", "authorization")],
            "sent": [echo["method"], echo["query"], echo["body"]],
            "missing": [missing.status_code, missing.reason_phrase, missing.http_version],
            "moved": [moved.json(), [one.status_code for one in moved.history]],
            "head": [head.headers["Content-Length"], head.content],
            "zipped": len(client.get("/big/5000?gzip=1").text),
            "bytes": client.get("/bytes/300").content,
            "words": client.get("/text?charset=latin-1").text,
            "elapsed": missing.elapsed.total_seconds(),
        }
"""
    value = await HttpLab().value(using(library, code), api=api.url)

    assert value["cookies"] == {"session": "1"}
    assert value["echo"] == ["yes", "session=1", "Basic bWU6c2VjcmV0"]
    assert value["sent"] == ["POST", "a=%C3%A9", "[1]"]
    assert value["missing"] == [404, "Not Found", "HTTP/1.1"]
    assert value["moved"] == [{"n": 0}, [302, 302]]
    assert value["head"] == ["9", b""]
    assert (value["zipped"], len(value["bytes"]), value["words"]) == (5000, 300, "grüße")


async def test_a_password_in_a_url_is_in_no_url_of_the_journal(api: HttpApi) -> None:
    code = """
import httpx

def job(input):
    return httpx.get(f"http://me:secret@{input['host']}/echo?a=é#f").json()["headers"]
"""
    run, calls = await HttpLab().run(code, host=f"{api.host}:{api.port}")

    assert run.value["authorization"] == "Basic bWU6c2VjcmV0"
    assert calls[0].input["url"] == f"{api.url}/echo?a=%C3%A9"


@pytest.mark.parametrize("library", LIBRARIES)
async def test_several_at_once(api: HttpApi, library: str) -> None:
    code = """
import asyncio

async def job(input):
    async with httpx.AsyncClient(base_url=input["api"]) as client:
        found = await asyncio.gather(*[client.get(f"/json/{n}") for n in range(5)])
        async with client.stream("GET", "/big/3000") as answer:
            pieces = [len(piece) async for piece in answer.aiter_bytes(1024)]
        return [one.json()["n"] for one in found], pieces
"""
    run, calls = await HttpLab().run(using(library, code), api=api.url)

    assert run.value == ([0, 1, 2, 3, 4], [1024, 1024, 952])
    assert len({call.requested_turn for call in calls[:5]}) == 1  # they were made together
    assert [api.count(f"/json/{n}") for n in range(5)] == [1] * 5


@pytest.mark.parametrize("library", LIBRARIES)
async def test_bodies_of_all_kinds_arrive(api: HttpApi, library: str) -> None:
    code = """
def job(input):
    def sent(**body):
        answer = httpx.post(input["api"] + "/echo", **body).json()
        return [answer["headers"].get("content-type"), answer["body"]]
    return [
        sent(data={"a": "1"}),
        sent(content=bytes([0, 255])),
        sent(content=(piece for piece in (b"one ", b"two"))),
        sent(files={"f": ("a.txt", b"content")})[1],
        sent(),
    ]
"""
    value = await HttpLab().value(using(library, code), api=api.url)

    form, raw, chunks, multipart, nothing = value
    assert form == ["application/x-www-form-urlencoded", "a=1"]
    assert raw == [None, "\x00ÿ"]
    assert chunks == [None, "one two"]
    assert 'filename="a.txt"' in multipart
    assert nothing == [None, ""]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("/slow/9", "ReadTimeout", "no answer within 0.2 s"),
        ("/drop", "ReadError", "the server closed the connection without an answer"),
        ("http://127.0.0.1:9", "ConnectError", "cannot connect to 127.0.0.1:9: connection refused"),
        ("https://127.0.0.1:9", "ConnectError", "GET https://127.0.0.1:9/: cannot connect"),
        ("http://no-such-host.invalid", "ConnectError", "cannot connect to no-such-host.invalid"),
        ("http://10.1.2.3", "ConnectError", "10.1.2.3 is a private address"),
    ],
)
async def test_failures_are_those_of_the_library(
    api: HttpApi, library: str, path: str, kind: str, says: str
) -> None:
    code = """
async def job(input):
    try:
        httpx.get(input["url"], timeout=0.2)
    except httpx.HTTPError as error:
        first = [type(error).__name__, str(error), error.request.method]
    try:
        async with httpx.AsyncClient() as client:
            await client.get(input["url"], timeout=0.2)
    except httpx.HTTPError as error:
        return [first, [type(error).__name__, str(error), error.request.method]]
"""
    url = path if path.startswith("http") else api.url + path

    first, second = await HttpLab().value(using(library, code), url=url)

    assert first == second
    assert (first[0], first[2]) == (kind, "GET")
    assert says in first[1]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_transports_of_one_s_own_stay_as_they_are(library: str) -> None:
    code = """
def job(input):
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text="mine"))
    return httpx.Client(transport=transport).get("http://anywhere.example").text
"""
    run, calls = await HttpLab().run(using(library, code))

    assert (run.value, calls) == ("mine", [])


@pytest.mark.parametrize("library", LIBRARIES)
async def test_unix_sockets_are_refused(library: str) -> None:
    code = """
def job(input):
    transport = httpx.HTTPTransport(uds="/run/docker.sock")
    httpx.Client(transport=transport).get("http://docker/info")
"""
    run, _ = await HttpLab().run(using(library, code))

    assert run.error is not None
    assert "a native task cannot open a Unix socket" in run.error.message


async def test_a_timeout_around_a_request_gives_it_up(api: HttpApi) -> None:
    code = """
import asyncio, httpx

async def job(input):
    async with httpx.AsyncClient() as client:
        try:
            async with asyncio.timeout(3):
                await client.get(input["api"] + "/slow/9")
        except TimeoutError:
            return (await client.get(input["api"] + "/json/1")).json()
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.value == {"n": 1}
    assert [(call.operation, call.status.value) for call in calls] == [
        ("clock.sleep", "completed"),
        ("http.fetch", "cancelled"),
        ("http.fetch", "completed"),
    ]
