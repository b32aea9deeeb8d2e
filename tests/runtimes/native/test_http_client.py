"""requests, urllib, urllib3, httplib2 and plain http.client inside of a task."""

from collections.abc import Iterator

import pytest

from support.http_api import HttpApi, serve
from support.http_lab import HttpLab


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with serve() as running:
        yield running


async def test_each_request_is_a_call_of_the_run(api: HttpApi) -> None:
    code = """
import http.client, urllib.request
import httplib2, requests, urllib3

def job(input):
    api = input["api"]
    with urllib.request.urlopen(api + "/json/1") as answer:
        seen = [answer.read()]
    seen.append(requests.get(api + "/json/2").content)
    seen.append(urllib3.PoolManager().request("GET", api + "/json/3").data)
    seen.append(httplib2.Http().request(api + "/json/4")[1])
    connection = http.client.HTTPConnection(input["host"])
    for number in (5, 6):
        connection.request("GET", f"/json/{number}")
        seen.append(connection.getresponse().read())
    return seen
"""
    run, calls = await HttpLab().run(code, api=api.url, host=f"{api.host}:{api.port}")

    assert run.value == [b'{"n": %d}' % n for n in range(1, 7)]
    assert [call.operation for call in calls] == ["http.fetch"] * 6
    assert [api.count(f"/json/{n}") for n in range(1, 7)] == [1] * 6


async def test_requests_has_all_that_it_has_elsewhere(api: HttpApi) -> None:
    code = """
import requests

def job(input):
    api, session = input["api"], requests.Session()
    session.headers["X-Mine"] = "yes"
    session.get(api + "/cookie")
    echo = session.post(api + "/echo", params={"a": "é"}, json=[1], auth=("me", "secret")).json()
    missing = session.get(api + "/status/404")
    moved = session.get(api + "/redirect/2")
    head = session.head(api + "/big/1000")
    return {
        "cookies": dict(session.cookies),
        "echo": {name: echo["headers"].get(name) for name in ("x-mine", "cookie", "authorization")},
        "sent": [echo["method"], echo["query"], echo["body"]],
        "missing": [missing.status_code, missing.reason, missing.ok],
        "moved": [moved.json(), [one.status_code for one in moved.history]],
        "head": [head.headers["Content-Length"], head.content],
        "zipped": len(session.get(api + "/big/5000?gzip=1").text),
        "bytes": session.get(api + "/bytes/300").content,
        "words": session.get(api + "/text?charset=latin-1").text,
        "elapsed": missing.elapsed.total_seconds(),
    }
"""
    value = await HttpLab().value(code, api=api.url)

    assert value["cookies"] == {"session": "1"}
    assert value["echo"] == {
        "x-mine": "yes",
        "cookie": "session=1",
        "authorization": "Basic bWU6c2VjcmV0",
    }
    assert value["sent"] == ["POST", "a=%C3%A9", "[1]"]
    assert value["missing"] == [404, "Not Found", False]
    assert value["moved"] == [{"n": 0}, [302, 302]]
    assert value["head"] == ["1000", b""]
    assert (value["zipped"], len(value["bytes"]), value["words"]) == (5000, 300, "grüße")


async def test_bodies_of_all_kinds_arrive(api: HttpApi) -> None:
    code = """
import io, requests, urllib.request

def job(input):
    url = input["api"] + "/echo"
    def sent(**body):
        answer = requests.post(url, **body).json()
        return [answer["headers"].get("content-type"), answer["body"]]
    request = urllib.request.Request(url, data=io.BytesIO(b"file"), method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert b'"body": "file"' in answer.read()
    return [
        sent(data={"a": "1"}),
        sent(data=bytes([0, 255])),
        sent(data=(piece for piece in (b"one ", b"two"))),
        sent(data=io.BytesIO(b"a file")),
        sent(files={"f": ("a.txt", b"content")})[1],
        sent(data=b""),
    ]
"""
    form, raw, chunks, file, multipart, nothing = await HttpLab().value(code, api=api.url)

    assert form == ["application/x-www-form-urlencoded", "a=1"]
    assert raw == [None, "\x00ÿ"]
    assert (chunks, file) == ([None, "one two"], [None, "a file"])
    assert 'filename="a.txt"' in multipart
    assert multipart.split("\r\n")[-3] == "content"
    assert nothing == [None, ""]
    assert api.last.headers["content-length"] == "0"


async def test_streams_come_from_the_recorded_answer(api: HttpApi) -> None:
    code = """
import requests, urllib3

def job(input):
    url = input["api"] + "/big/3000?chunked=1"
    with requests.get(url, stream=True) as answer:
        pieces = [len(piece) for piece in answer.iter_content(1024)]
    with requests.get(input["api"] + "/json/1", stream=True) as answer:
        lines = list(answer.iter_lines())
    response = urllib3.PoolManager().request("GET", url, preload_content=False)
    return [pieces, lines, [len(piece) for piece in response.stream(2000)]]
"""
    value = await HttpLab().value(code, api=api.url)

    assert value == [[1024, 1024, 952], [b'{"n": 1}'], [2000, 1000]]


FAILURES = """
import http.client, socket, urllib.error, urllib.request
import httplib2, requests, urllib3

def kind(error):
    return [type(error).__name__, str(error)]

def job(input):
    url, seen = input["url"], {}
    try:
        requests.get(url, timeout=0.2)
    except (requests.ConnectionError, requests.Timeout) as error:
        seen["requests"] = kind(error)
    try:
        urllib.request.urlopen(url, timeout=0.2)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        seen["urllib"] = kind(error)
    try:
        httplib2.Http(timeout=0.2).request(url)
    except (httplib2.ServerNotFoundError, OSError) as error:
        seen["httplib2"] = kind(error)
    try:
        urllib3.PoolManager(timeout=0.2, retries=False).request("GET", url)
    except urllib3.exceptions.HTTPError as error:
        seen["urllib3"] = kind(error)
    return seen
"""


@pytest.mark.parametrize(
    ("path", "kinds", "says"),
    [
        ("/slow/9", ["ReadTimeout", "TimeoutError", "TimeoutError", "ReadTimeoutError"], None),
        (
            "/drop",
            ["ConnectionError", "OSError", "OSError", "ProtocolError"],
            "the server closed the connection without an answer",
        ),
        (
            "http://127.0.0.1:9",
            ["ConnectionError", "URLError", "OSError", "ProtocolError"],
            "cannot connect to 127.0.0.1:9: connection refused",
        ),
        (
            "https://127.0.0.1:9",
            ["ConnectionError", "URLError", "OSError", "ProtocolError"],
            "GET https://127.0.0.1:9/: cannot connect to 127.0.0.1:9: connection refused",
        ),
        (
            "http://no-such-host.invalid",
            ["ConnectionError", "URLError", "ServerNotFoundError", "ProtocolError"],
            None,
        ),
        (
            "http://10.1.2.3",
            ["ConnectionError", "URLError", "PermissionError", "ProtocolError"],
            "10.1.2.3 is a private address",
        ),
    ],
)
async def test_failures_are_those_of_the_library(
    api: HttpApi, path: str, kinds: list[str], says: str | None
) -> None:
    url = path if path.startswith("http") else api.url + path

    value = await HttpLab().value(FAILURES, url=url)

    libraries = ("requests", "urllib", "httplib2", "urllib3")
    assert [value[library][0] for library in libraries] == kinds
    for library in libraries:
        assert says is None or says in value[library][1]


async def test_the_timeout_that_counts_is_that_for_the_answer(api: HttpApi) -> None:
    code = """
import requests

def job(input):
    return requests.get(input["api"] + "/slow/0.4", timeout=(0.1, 7)).json()
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.value == {"slept": 0.4}
    assert calls[0].input["timeout"] == 7.0


async def test_retries_of_a_library_are_durable(api: HttpApi) -> None:
    code = """
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

def job(input):
    session = requests.Session()
    retry = Retry(3, backoff_factor=600, status_forcelist=[503])
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session.get(input["api"] + "/flaky/x/2").json()
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.value == {"attempt": 3}
    assert [call.operation for call in calls] == [
        *("http.fetch", "http.fetch", "clock.sleep", "http.fetch"),
    ]
    assert api.count("/flaky/x/2") == 3


async def test_a_proxy_a_client_certificate_and_verify_are_the_worker_s(api: HttpApi) -> None:
    code = """
import requests, urllib3

def job(input):
    proxies = {"http": "http://127.0.0.1:9", "https": "http://127.0.0.1:9"}
    plain = requests.get(input["api"] + "/json/1", proxies=proxies, verify=False).json()
    try:
        requests.get("https://127.0.0.1:9/x", proxies=proxies)
    except requests.ConnectionError as error:
        return [plain, str(error)]
"""
    plain, tunnelled = await HttpLab().value(code, api=api.url)

    assert plain == {"n": 1}
    assert "GET https://127.0.0.1:9/x: cannot connect to 127.0.0.1:9" in tunnelled


async def test_leave_to_go_on_is_given_as_servers_do(api: HttpApi) -> None:
    code = """
import http.client, select

def job(input):
    connection = http.client.HTTPConnection(input["host"])
    connection.putrequest("PUT", "/echo")
    connection.putheader("Expect", "100-continue")
    connection.putheader("Content-Length", "4")
    connection.endheaders()
    readable, _, _ = select.select([connection.sock], [], [], 0)
    line = connection.sock.makefile("rb").readline()
    connection.send(b"body")
    return [bool(readable), line, connection.getresponse().read().count(b"body")]
"""
    value = await HttpLab().value(code, host=f"{api.host}:{api.port}")

    assert value == [True, b"HTTP/1.1 100 Continue\r\n", 2]


async def test_a_host_that_is_not_the_url_s_is_refused(api: HttpApi) -> None:
    code = """
import requests

def job(input):
    requests.get(input["api"] + "/json/1", headers={"Host": "other.example"})
"""
    run, calls = await HttpLab().run(code, api=api.url)

    assert run.error is not None
    assert (run.error.type, calls) == ("ValueError", [])
    assert "the header Host names other.example" in run.error.message


async def test_a_connection_from_outside_is_not_used_inside(api: HttpApi) -> None:
    code = """
import http.client

def job(input):
    connection = http.client.kept
    connection.request("GET", "/json/2")
    return connection.getresponse().read()
"""
    import http.client

    connection = http.client.HTTPConnection(api.host, api.port)
    connection.request("GET", "/json/1")
    connection.getresponse().read()
    assert connection.sock is not None
    http.client.kept = connection  # type: ignore[attr-defined]
    try:
        run, calls = await HttpLab().run(code, api=api.url)
        assert run.value == b'{"n": 2}'
        assert (len(calls), api.count("/json/2")) == (1, 1)
        connection.request("GET", "/json/3")  # and one from inside is not used outside
        assert connection.getresponse().read() == b'{"n": 3}'
    finally:
        del http.client.kept  # type: ignore[attr-defined]
        connection.close()
