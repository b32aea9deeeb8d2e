"""Requests on real sockets, to a server that does what servers do on bad days."""

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sequential.client.connection import Connection
from sequential.client.errors import (
    AnswerTimeoutError,
    BadAnswerError,
    NoAnswerError,
    RemoteError,
    engine_error,
)
from sequential.core.model import RetryPolicy
from sequential.errors import ConfigError, RunNotFoundError, SequentialError
from support.scripted_server import (
    Reply,
    ScriptedServer,
    broken_off,
    cut,
    endless,
    refused,
    reply,
    reset,
    silent,
    slowly,
    told,
)
from support.server_thread import QUICK

FINE = told(200, {"items": [1]})


async def asked(server: ScriptedServer, method: str = "POST", **options: Any) -> Any:
    given = {"retry": QUICK, "timeout": 10.0, **options}
    async with Connection(server.url, "secret", engine_error, **given).lent() as connection:
        return (await connection.request(method, "/x", body={"a": 1})).read(dict[str, Any])


async def test_a_request_carries_token_and_key() -> None:
    with ScriptedServer(FINE) as server:
        assert await asked(server) == {"items": [1]}
    (request,) = server.requests
    assert (request.method, request.path, request.json) == ("POST", "/x", {"a": 1})
    assert request.headers["Authorization"] == "Bearer secret"
    assert len(request.headers["Idempotency-Key"]) == 32


@pytest.mark.parametrize("trouble", [cut, reset, broken_off])
async def test_a_broken_connection_is_made_again_with_the_same_key(trouble: Reply) -> None:
    with ScriptedServer(trouble, trouble, FINE) as server:
        assert await asked(server) == {"items": [1]}
    assert len(server.requests) == 3
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_server_that_fails_is_asked_again(status: int) -> None:
    with ScriptedServer(refused(status, "internal", "no"), FINE) as server:
        assert await asked(server) == {"items": [1]}
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 501])
async def test_a_refusal_is_final(status: int) -> None:
    with (
        ScriptedServer(refused(status, "some_code", "not like this", "like that")) as server,
        pytest.raises(RemoteError, match="not like this: like that") as raised,
    ):
        await asked(server)
    assert (raised.value.code, raised.value.status) == ("some_code", status)
    assert len(server.requests) == 1


async def test_known_codes_are_the_exceptions_of_the_engine() -> None:
    with (
        ScriptedServer(refused(404, "run_not_found", "there is no run x")) as server,
        pytest.raises(RunNotFoundError, match=r"^there is no run x$"),
    ):
        await asked(server)


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        (cut, NoAnswerError, "the connection broke before the answer was complete"),
        (reset, NoAnswerError, "the connection broke"),
        (broken_off, NoAnswerError, "the connection broke"),
        (refused(503, "storage_error", "see the log"), SequentialError, "see the log"),
        (reply(502, b"<html>", "text/html"), RemoteError, "502 Bad Gateway with text/html instead"),
        (reply(503, b"no\nupstream", "text/plain"), RemoteError, "Unavailable: no upstream"),
        (told(500, {"error": "text"}), RemoteError, "^text$"),
        (told(500, [1]), RemoteError, "500 Internal Server Error$"),
    ],
)
async def test_after_three_more_attempts_it_gives_up(
    trouble: Reply, error: type[Exception], words: str
) -> None:
    with ScriptedServer(trouble) as server, pytest.raises(error, match=words):
        await asked(server)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (reply(200, b'{"items": ['), "no valid JSON"),
        (reply(200, b'{"items": ' + b"[" * 5000), "no valid JSON"),
        (reply(200, b"[1]"), "not what this version understands .Expected `object`"),
        (reply(200, b"<html>", "text/html"), "answered with text/html instead .* the address"),
        (
            told(302, {}, Location="https://user:pw@login/a?b=c"),
            "302, a redirect to https://login,",
        ),
        (told(307, {}, Location="/login"), "307, a redirect to /login,"),
        (reply(404, b"<html>", "text/html"), "404 Not Found with text/html instead of JSON"),
    ],
)
async def test_answers_that_are_none_of_ours(bad: Reply, words: str) -> None:
    with ScriptedServer(bad) as server, pytest.raises(SequentialError, match=words):
        await asked(server)
    assert len(server.requests) == 1


async def test_no_http_at_all() -> None:
    def speaks_something_else(handler: Any) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        handler.close_connection = True

    with (
        ScriptedServer(speaks_something_else) as server,
        pytest.raises(BadAnswerError, match="the answer is not valid HTTP"),
    ):
        await asked(server)


async def test_a_huge_answer_is_not_read() -> None:
    begun = time.monotonic()
    with (
        ScriptedServer(endless) as server,
        pytest.raises(BadAnswerError, match="more than 1000000 bytes"),
    ):
        await asked(server, largest=1_000_000)
    assert time.monotonic() - begun < 10


async def test_a_slow_server_is_asked_again_and_then_given_up() -> None:
    with ScriptedServer(silent, FINE) as server:
        assert await asked(server, timeout=0.1) == {"items": [1]}
    with ScriptedServer(silent) as server, pytest.raises(TimeoutError, match=r"within 0\.1 s") as e:
        await asked(server, timeout=0.1)
    assert isinstance(e.value, AnswerTimeoutError)
    assert len(server.requests) == 4


async def test_the_deadline_is_for_all_attempts() -> None:
    slow = slowly(0.1, refused(503, "storage_error", "no"))
    begun = time.monotonic()
    with ScriptedServer(slow) as server, pytest.raises(SequentialError):
        await asked(server, deadline=0.8, retry=RetryPolicy(retries=100, delay=0.01))
    assert time.monotonic() - begun < 3
    assert 2 <= len(server.requests) <= 8


async def test_the_server_says_when_to_come_back() -> None:
    later = refused(429, "rate_limited", "slowly", Retry_After="1")
    begun = time.monotonic()
    with ScriptedServer(later, FINE) as server:
        await asked(server)
    assert 0.95 < time.monotonic() - begun < 5

    then = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    with (
        ScriptedServer(refused(503, "storage_error", "in an hour", Retry_After=then)) as server,
        pytest.raises(SequentialError, match="in an hour"),
    ):
        await asked(server)  # the deadline comes first, so it does not wait for nothing
    assert len(server.requests) == 1


async def test_the_policy_is_the_callers() -> None:
    with ScriptedServer(cut) as server, pytest.raises(ConnectionError):
        await asked(server, retry=RetryPolicy(retries=0))
    assert len(server.requests) == 1


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nobody = Connection(f"http://127.0.0.1:{port}", None, engine_error, retry=QUICK)
    async with nobody.lent() as connection:
        with pytest.raises(NoAnswerError, match=f"cannot connect to http://127.0.0.1:{port}: .*"):
            await connection.request("GET", "/x")


async def test_connections_are_kept() -> None:
    with ScriptedServer(FINE) as server:
        async with Connection(server.url, None, engine_error).lent() as connection:
            for _ in range(3):
                await connection.request("GET", "/x")
    assert len({request.port for request in server.requests}) == 1


async def test_a_cancelled_request_is_given_up_at_once() -> None:
    with ScriptedServer(silent) as server, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asked(server)
    assert len(server.requests) == 1


async def test_an_empty_answer_for_what_an_attempt_before_has_done() -> None:
    gone = refused(404, "run_not_found", "there is no run x")
    with ScriptedServer(cut, gone) as server:
        async with Connection(server.url, None, engine_error, retry=QUICK).lent() as connection:
            answer = await connection.request("DELETE", "/x", done_if=RunNotFoundError)
            assert (answer.body, answer.attempts) == (b"", 2)
            with pytest.raises(RunNotFoundError):
                await connection.request("DELETE", "/x", done_if=RunNotFoundError)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "is not the address"),
        ("127.0.0.1:3000", "is not the address"),
        ("ftp://host", "is not the address"),
        ("http://", "is not the address"),
        ("http://host:port", "is not the address"),
        ("http://host/?a=b", "is not the address"),
        ("http://user:pw@host", "give a token instead"),
        ("nonsense://user:pw@host", "'host' is not the address"),
    ],
)
def test_an_address_that_is_none(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        Connection(url, None, engine_error)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("token", ["", "two words", "new\nline", "ü"])
def test_a_token_that_is_none(token: str) -> None:
    with pytest.raises(ConfigError, match="the token cannot be one"):
        Connection("http://host", token, engine_error)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"deadline": -1}])
def test_times_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="more than 0"):
        Connection("http://host", None, engine_error, **wrong)  # type: ignore[arg-type]
