"""fetch against a real server on this machine."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Allow, Failure
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.http import HttpService, HttpSettings
from support.http_api import HttpApi


def context(hosts: Sequence[str] | None = None) -> CallContext:
    allow = Allow(hosts=None if hosts is None else tuple(hosts))
    return CallContext("run", "task", 0, 1, "key-1", allow)


async def fetch(http: HttpService, *args: Any, **kwargs: Any) -> Any:
    return await http.call("fetch", args, kwargs, context())


async def failure_of(http: HttpService, *args: Any, **kwargs: Any) -> tuple[Failure, bool]:
    """The error of a fetch, and whether another attempt is advised."""
    try:
        value = await fetch(http, *args, **kwargs)
    except CallError as error:
        return error.failure, False
    except TryAgain as advice:
        if advice.outcome.error is not None:
            return advice.outcome.error, True
        value = advice.outcome.value
    raise AssertionError(f"no error but {value}")


# What is sent and what comes back


async def test_an_answer_as_data(http: HttpService, http_api: HttpApi) -> None:
    answer = await fetch(http, f"{http_api.url}/json/7?a=1#top")
    headers = dict(answer.pop("headers"))
    assert answer == {
        "status": 200,
        "url": f"{http_api.url}/json/7?a=1",
        "encoding": "utf-8",
        "text": '{"n": 7}',
    }
    assert headers["Content-Type"] == "application/json"


async def test_what_is_sent(http: HttpService, http_api: HttpApi) -> None:
    await fetch(
        http,
        f"{http_api.url}/echo?x=%2F",
        "POST",
        headers={"X-A": "ü", "User-Agent": "mine"},
        params={"y": [1, 2]},
        json={"a": "ü"},
    )
    sent = http_api.last
    assert (sent.method, sent.path, sent.query) == ("POST", "/echo", "x=%2F&y=1&y=2")
    assert sent.json == {"a": "ü"}
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["user-agent"] == "mine"
    assert sent.headers["x-a"].encode("latin-1").decode() == "ü"
    assert sent.headers["idempotency-key"] == "key-1"
    assert "cookie" not in sent.headers


async def test_headers_that_are_not_wanted(http: HttpService, http_api: HttpApi) -> None:
    none = {"User-Agent": None, "Idempotency-Key": None, "content-type": None}
    await fetch(http, f"{http_api.url}/echo", "POST", headers=none, data=b"x")
    assert not {"user-agent", "idempotency-key", "content-type"} & set(http_api.last.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_methods(http: HttpService, http_api: HttpApi, method: str) -> None:
    answer = await fetch(http, f"{http_api.url}/echo", method)
    assert http_api.last.method == method
    assert (answer["status"], answer["text"] == "") == (200, method == "HEAD")
    assert ("idempotency-key" in http_api.last.headers) is (method == "PATCH")


@pytest.mark.parametrize("code", [201, 204, 304, 400, 401, 404, 409, 501])
async def test_a_status_is_data(http: HttpService, http_api: HttpApi, code: int) -> None:
    assert (await fetch(http, f"{http_api.url}/status/{code}"))["status"] == code


async def test_bytes_and_text(http: HttpService, http_api: HttpApi) -> None:
    answer = await fetch(http, f"{http_api.url}/bytes/1000")
    assert (len(answer["content"]), answer["content"][:2]) == (1000, bytes([231, 230]))
    assert (await fetch(http, f"{http_api.url}/text"))["text"] == "grüße"
    latin = await fetch(http, f"{http_api.url}/text?charset=latin-1")
    assert (latin["text"], latin["encoding"]) == ("grüße", "iso8859-1")


async def test_a_large_body_and_one_of_unknown_length(http: HttpService, http_api: HttpApi) -> None:
    for url in ("/big/3000000", "/big/3000000?chunked=1", "/big/3000000?gzip=1"):
        answer = await fetch(http, http_api.url + url)
        assert len(answer["text"]) == 3_000_000


async def test_no_cookies_are_kept(http: HttpService, http_api: HttpApi) -> None:
    await fetch(http, f"{http_api.url}/cookie")
    await fetch(http, f"{http_api.url}/echo")
    assert "cookie" not in http_api.last.headers


async def test_the_machine_s_proxies_are_not_used(
    http: HttpService, http_api: HttpApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await fetch(http, f"{http_api.url}/json/1"))["status"] == 200


async def test_fifty_at_a_time_over_one_pool(http: HttpService, http_api: HttpApi) -> None:
    urls = [f"{http_api.url}/json/{n}" for n in range(50)]
    started = time.monotonic()
    slow = [fetch(http, f"{http_api.url}/slow/0.2") for _ in range(50)]
    assert len(await asyncio.gather(*slow)) == 50
    assert time.monotonic() - started < 5  # one after the other would take 10 s
    answers = await asyncio.gather(*(fetch(http, url) for url in urls))
    assert [answer["text"] for answer in answers] == [f'{{"n": {n}}}' for n in range(50)]
    for url in urls:
        await fetch(http, url)
    assert len({request.connection for request in http_api.requests}) <= 50


async def test_connections_are_limited(http_api: HttpApi) -> None:
    http = HttpService(HttpSettings(allow_loopback=True, max_connections=3))
    await asyncio.gather(*(fetch(http, f"{http_api.url}/slow/0.02") for _ in range(12)))
    assert len({request.connection for request in http_api.requests}) == 3
    await http.close()


async def test_a_host_gets_so_many_requests_at_a_time(http_api: HttpApi) -> None:
    http = HttpService(HttpSettings(allow_loopback=True, per_host=2))
    started = time.monotonic()
    # Waiting for a place does not count against the time an answer may take.
    slow = (fetch(http, f"{http_api.url}/slow/0.2", timeout=0.6) for _ in range(8))
    assert {answer["status"] for answer in await asyncio.gather(*slow)} == {200}
    assert time.monotonic() - started >= 0.8
    assert len({request.connection for request in http_api.requests}) == 2
    await http.close()


async def test_close_and_again(http: HttpService, http_api: HttpApi) -> None:
    await http.close()
    await fetch(http, f"{http_api.url}/json/1")
    await http.close()
    await http.close()
    await fetch(http, f"{http_api.url}/json/1")


def test_aiohttp_is_imported_by_the_first_call_only() -> None:
    program = (
        "import sys, sequential.services.http, sequential.services.registry as r;"
        "r.standard_services(); assert 'aiohttp' not in sys.modules and 'yarl' not in sys.modules"
    )
    env = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=env, timeout=30)


# What goes wrong


async def test_wrong_calls(http: HttpService) -> None:
    for kwargs, kind in (({"url": 1}, "TypeError"), ({"url": "x"}, "ValueError")):
        failure, again = await failure_of(http, **kwargs)
        assert (failure.type, failure.code, again) == (kind, "invalid_call", False)
    with pytest.raises(CallError, match="no method 'get'; It has: fetch"):
        await http.call("get", [], {}, context())
    with pytest.raises(CallError, match=r"allow\.hosts: 'https://x' is not a host"):
        await http.call("fetch", ["http://x/"], {}, context(["https://x"]))


async def test_nobody_listens(http: HttpService) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        failure, again = await failure_of(
            http, f"http://me:secret@{host}:{port}/a?token=secret", "POST"
        )
        assert again
        assert failure.type == "OSError"
        assert failure.code == "unreachable"
        assert failure.message == (
            f"POST http://{host}:{port}/a?token=...: "
            f"cannot connect to {host}:{port}: connection refused"
        )


async def test_a_name_that_is_not_known() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def resolve_to_nothing(host: str, port: int) -> list[str]:
        return []

    for dns in (resolve, resolve_to_nothing):
        http = HttpService(resolve=dns)
        failure, again = await failure_of(http, "https://no.example/")
        assert (failure.type, failure.code, again) == ("OSError", "unknown_host", True)
        assert "cannot connect to no.example: " in failure.message
        await http.close()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/drop", "closed the connection without an answer"),
        ("/cut", "broke off"),
        ("/nonsense", "not valid HTTP"),
    ],
)
async def test_broken_answers(http: HttpService, http_api: HttpApi, path: str, says: str) -> None:
    failure, again = await failure_of(http, http_api.url + path)
    assert (failure.type, again) == ("OSError", True)
    assert says in failure.message
    assert failure.message.startswith(f"GET {http_api.url}{path}: ")


async def test_a_connection_that_was_closed_meanwhile_is_replaced(
    http: HttpService, http_api: HttpApi
) -> None:
    await fetch(http, f"{http_api.url}/json/1")
    await failure_of(http, f"{http_api.url}/drop", "POST")
    assert http_api.count("/drop") == 1  # a POST is not repeated behind the engine's back
    assert (await fetch(http, f"{http_api.url}/json/1"))["status"] == 200


async def test_a_slow_server(http: HttpService, http_api: HttpApi) -> None:
    started = time.monotonic()
    failure, again = await failure_of(http, f"{http_api.url}/slow/5", timeout=0.1)
    assert time.monotonic() - started < 1
    assert (failure.type, failure.code, again) == ("TimeoutError", "timeout", True)
    assert failure.message == f"GET {http_api.url}/slow/5: no answer within 0.1 s"


async def test_the_default_timeout_and_one_for_dns(http_api: HttpApi) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.sleep(5)
        return ["127.0.0.1"]

    http = HttpService(HttpSettings(allow_loopback=True, timeout=0.1))
    failure, _ = await failure_of(http, f"{http_api.url}/slow/5")
    assert failure.type == "TimeoutError"
    await http.close()

    http = HttpService(HttpSettings(connect_timeout=0.05), resolve=resolve)
    failure, again = await failure_of(http, "http://slow.example/")
    assert (failure.type, failure.code, again) == ("TimeoutError", "connect_timeout", True)
    assert "no connection within 0.05 s" in failure.message
    await http.close()


async def test_cancelling_ends_the_request(http: HttpService, http_api: HttpApi) -> None:
    task = asyncio.create_task(fetch(http, f"{http_api.url}/slow/5"))
    while not http_api.requests:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("query", ["", "?chunked=1", "?gzip=1"])
async def test_too_large_a_body(http_api: HttpApi, query: str) -> None:
    http = HttpService(HttpSettings(allow_loopback=True, body_limit=100_000))
    assert len((await fetch(http, f"{http_api.url}/big/100000{query}"))["text"]) == 100_000
    failure, again = await failure_of(http, f"{http_api.url}/big/100001{query}")
    assert (failure.type, again) == ("OSError", False)
    assert "limit of 100000 bytes" in failure.message
    assert "http.body_limit" in failure.message
    await http.close()


async def test_a_small_answer_that_unpacks_to_a_huge_one(http_api: HttpApi) -> None:
    http = HttpService(HttpSettings(allow_loopback=True, body_limit=1_000_000))
    await fetch(http, f"{http_api.url}/big/1000?gzip=1")  # the imports are not to be measured
    tracemalloc.start()
    try:
        failure, again = await failure_of(http, f"{http_api.url}/big/50000000?gzip=1")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ("limit of 1000000 bytes" in failure.message, again) == (True, False)
    assert peak < 10_000_000
    await http.close()


# Which answers ask for another attempt


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
async def test_try_again(http: HttpService, http_api: HttpApi, code: int, method: str) -> None:
    with pytest.raises(TryAgain) as advice:
        await fetch(http, f"{http_api.url}/status/{code}", method)
    value = advice.value.outcome.value
    assert (value["status"], value["text"]) == (code, f"status {code}")
    assert (advice.value.retry_after, advice.value.retries) == (None, None)
    assert advice.value.outcome.error is None


async def test_without_a_key_a_post_is_not_repeated(http: HttpService, http_api: HttpApi) -> None:
    none = {"Idempotency-Key": None}
    answer = await fetch(http, f"{http_api.url}/status/503", "POST", headers=none)
    assert answer["status"] == 503
    failure, again = await failure_of(http, f"{http_api.url}/drop", "POST", headers=none)
    assert (failure.type, again) == ("OSError", False)
    failure, again = await failure_of(
        http, f"{http_api.url}/slow/5", "POST", headers=none, timeout=0.05
    )
    assert (failure.type, again) == ("TimeoutError", False)


async def test_retry_after_and_the_call_s_own_retries(http: HttpService, http_api: HttpApi) -> None:
    with pytest.raises(TryAgain) as advice:
        await fetch(http, f"{http_api.url}/status/429?retry_after=17", retries=5)
    assert (advice.value.retry_after, advice.value.retries) == (17, 5)
    with pytest.raises(TryAgain) as advice:
        await fetch(http, f"{http_api.url}/status/429?retry_after=17&retry_after_ms=250")
    assert advice.value.retry_after == 0.25
    with pytest.raises(TryAgain) as advice:
        await fetch(http, f"{http_api.url}/drop", retries=0)
    assert advice.value.retries == 0


async def test_attempts_carry_the_same_key(http: HttpService, http_api: HttpApi) -> None:
    for _ in range(2):
        with pytest.raises(TryAgain):
            await fetch(http, f"{http_api.url}/flaky/a/2", "POST", json={})
    assert (await fetch(http, f"{http_api.url}/flaky/a/2", "POST", json={}))["status"] == 200
    assert http_api.keys == {"key-1": 3}


# Redirects


async def test_redirects(http: HttpService, http_api: HttpApi) -> None:
    answer = await fetch(http, f"{http_api.url}/redirect/10")
    assert (answer["status"], answer["url"]) == (200, f"{http_api.url}/json/0")
    failure, again = await failure_of(http, f"{http_api.url}/redirect/11")
    assert (failure.type, again) == ("OSError", False)
    assert "more than 10 redirects" in failure.message


async def test_redirects_can_be_left_to_the_task(http: HttpService, http_api: HttpApi) -> None:
    answer = await fetch(http, f"{http_api.url}/redirect/3", follow_redirects=False)
    assert (answer["status"], answer["text"]) == (302, "elsewhere")
    assert ["Location", "/redirect/2"] in answer["headers"]


async def test_a_post_becomes_a_get_or_stays(http: HttpService, http_api: HttpApi) -> None:
    await fetch(http, f"{http_api.url}/redirect?to=/echo", "POST", json={"a": 1})
    assert (http_api.last.method, http_api.last.body) == ("GET", b"")
    assert "idempotency-key" not in http_api.last.headers
    await fetch(http, f"{http_api.url}/redirect?to=/echo&status=307", "POST", json={"a": 1})
    assert (http_api.last.method, http_api.last.json) == ("POST", {"a": 1})
    assert http_api.last.headers["idempotency-key"] == "key-1"


async def test_secrets_do_not_travel_to_another_origin(
    http: HttpService, http_api: HttpApi
) -> None:
    secrets = {"Authorization": "Bearer t", "Cookie": "a=1", "X-Other": "o"}
    await fetch(http, f"{http_api.url}/redirect?to=/echo", headers=secrets)
    assert http_api.last.headers["authorization"] == "Bearer t"
    there = f"http://localhost:{http_api.port}/echo"
    await fetch(http, f"{http_api.url}/redirect?to={there}", headers=secrets)
    assert not {"authorization", "cookie"} & set(http_api.last.headers)
    assert http_api.last.headers["x-other"] == "o"


async def test_a_redirect_that_leads_nowhere(http: HttpService, http_api: HttpApi) -> None:
    failure, again = await failure_of(http, f"{http_api.url}/redirect?to=ftp://x/")
    assert (failure.type, again) == ("OSError", False)
    assert "a redirect leads nowhere" in failure.message
    answer = await fetch(http, f"{http_api.url}/status/302")
    assert answer["status"] == 302  # without a Location it is an answer like any other


# TLS


@pytest.fixture
async def tls_port(tmp_path: Path) -> AsyncIterator[int]:
    """A TLS server whose certificate is signed by itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs the command openssl")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_certificate_nobody_vouches_for(http: HttpService, tls_port: int) -> None:
    failure, again = await failure_of(http, f"https://127.0.0.1:{tls_port}/")
    assert (failure.type, again) == ("OSError", False)
    assert "certificate was not accepted: " in failure.message


async def test_http_where_tls_is_expected(http: HttpService, http_api: HttpApi) -> None:
    failure, again = await failure_of(http, f"https://127.0.0.1:{http_api.port}/")
    assert (failure.type, again) == ("OSError", True)
    assert "TLS failed" in failure.message
