"""The service "openai" before a server that speaks like OpenAI's."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sequential.core.model import evolve
from sequential.services.base import CallContext, CallError, TryAgain
from sequential.services.openai import OpenAIService, service
from support.kept_secrets import KeptSecrets
from support.openai_api import KEY, OpenAI, openai_api

SAID = [{"role": "user", "content": "hello"}]
CHAT = {"model": "m", "messages": SAID}


@pytest.fixture
def server() -> Iterator[OpenAI]:
    with openai_api() as server:
        yield server


@pytest.fixture
async def openai(server: OpenAI) -> AsyncIterator[OpenAIService]:
    service = OpenAIService(server.url, timeout=20)
    yield service
    await service.close()


@pytest.fixture
def context() -> CallContext:
    secrets = KeptSecrets({"OPENAI_API_KEY": KEY})
    return CallContext("run-1", "task", 0, 1, "key-of-the-call", secrets=secrets)


async def failure(openai: OpenAIService, method: str, context: CallContext, **given: Any) -> str:
    with pytest.raises(CallError) as error:
        await openai.call(method, [], given, context)
    return f"{error.value.failure.type}: {error.value.failure.message}"


async def test_a_chat(openai: OpenAIService, server: OpenAI, context: CallContext) -> None:
    answer = await openai.call("chat.completions.create", [], CHAT, context)
    assert answer["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "You said: hello"},
        }
    ]
    assert server.api.last.headers["idempotency-key"] == "key-of-the-call"
    assert server.api.last.json == CHAT


async def test_a_stream_is_returned_as_a_whole(openai: OpenAIService, context: CallContext) -> None:
    given = {**CHAT, "stream": True}
    answer = await openai.call("chat.completions.create", [], given, context)
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["total_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    message = answer["choices"][0]["message"]
    assert (message["role"], message["content"]) == ("assistant", "You said")
    function = {"name": "find", "arguments": '{"id": 1}'}
    assert message["tool_calls"] == [{"id": "t1", "type": "function", "function": function}]

    given = {"model": "m", "input": "hi", "stream": True}
    answer = await openai.call("responses.create", [], given, context)
    assert (answer["id"], answer["status"]) == ("r", "completed")


@pytest.mark.parametrize("events", [0, 1, 3])
async def test_a_stream_that_breaks_off(
    openai: OpenAIService, server: OpenAI, context: CallContext, events: int
) -> None:
    server.broken = events
    with pytest.raises(TryAgain, match=r"chat.completions.create: the stream broke off"):
        await openai.call("chat.completions.create", [], {**CHAT, "stream": True}, context)
    server.broken = min(events, 1)
    given = {"model": "m", "input": "hi", "stream": True}
    with pytest.raises(TryAgain, match=r"responses.create: the stream broke off"):
        await openai.call("responses.create", [], given, context)


async def test_all_else_that_is_offered(
    openai: OpenAIService, server: OpenAI, context: CallContext
) -> None:
    async def ask(method: str, **given: Any) -> Any:
        return await openai.call(method, [], given, context)

    assert (await ask("responses.create", model="m", input="x"))["id"] == "r"
    vectors = await ask("embeddings.create", model="m", input=["a", "bcd"])
    assert [one["embedding"] for one in vectors["data"]] == [[1, 0.5], [3, 0.5]]
    assert (await ask("images.generate", prompt="a fish"))["data"] == [{"b64_json": "aGk="}]
    made = await ask("files.create", file=b"abc", purpose="assistants", filename="a.txt")
    assert made["id"] == "file-1"
    assert b'filename="a.txt"' in server.api.last.body
    page = await ask("files.list", limit=1)
    assert [one["id"] for one in page["data"]] == ["file-1"]
    assert page["has_more"] is True
    assert (await ask("files.retrieve", file_id="f"))["bytes"] == 3
    assert await ask("files.content", file_id="f") == b"\x00content"
    assert (await ask("files.delete", file_id="f"))["deleted"] is True
    assert [one["id"] for one in (await ask("models.list"))["data"]] == ["m1"]
    assert (await ask("models.retrieve", model="m/2"))["object"] == "model"
    assert server.api.last.path == "/v1/models/m/2"  # and escaped on its way


async def test_what_the_client_does_not_know_is_passed_on_when_asked_for(
    openai: OpenAIService, server: OpenAI, context: CallContext
) -> None:
    told = await failure(openai, "chat.completions.create", context, **CHAT, top_k=5)
    assert told == (
        "TypeError: openai.chat.completions.create: got an unexpected keyword argument 'top_k'; "
        "extra_body={...} passes on what the client does not know"
    )
    given = {**CHAT, "extra_body": {"top_k": 5}}
    await openai.call("chat.completions.create", [], given, context)
    assert server.api.last.json["top_k"] == 5


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("chat.completions.create", {"model": "m"}, "missing a required argument: 'messages'"),
        ("chat.completions.create", {"model": 5, "messages": SAID}, "model: expected `str`"),
        ("chat.completions.create", {**CHAT, "extra_headers": {}}, "not for tasks"),
        ("chat.completions.create", {**CHAT, "timeout": 0}, "timeout must be a number"),
        ("files.create", {"file": "/etc/passwd", "purpose": "x"}, "file: expected `bytes`"),
        ("files.retrieve", {"file_id": ""}, "non-empty"),
        ("files.retrieve", {"file_id": ".."}, "dot-segment"),
        ("images.generate", {"prompt": "x", "stream": True}, "cannot be one answer"),
        ("fine_tuning.jobs.list", {}, "has no method 'fine_tuning.jobs.list'"),
    ],
)
async def test_wrong_arguments_are_not_sent(
    openai: OpenAIService,
    server: OpenAI,
    context: CallContext,
    method: str,
    given: dict[str, Any],
    told: str,
) -> None:
    assert told in await failure(openai, method, context, **given)
    assert server.api.requests == []


def error(code: str, message: str = "No.") -> dict[str, Any]:
    return {"error": {"message": message, "type": "t", "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "headers", "again", "wait"),
    [
        (429, error("rate_limit_exceeded"), {"retry_after_ms": "1500"}, True, 1.5),
        (429, error("rate_limit_exceeded"), {"Retry_After": "20"}, True, 20),
        (429, error("insufficient_quota"), {}, False, None),
        (503, b"<html>", {"kind": "text/html"}, True, None),
        (500, error("server_error"), {"x_should_retry": "false"}, False, None),
        (409, error("busy"), {"x_should_retry": "true"}, True, None),
        (400, error("invalid_request_error"), {}, False, None),
        (404, error("model_not_found"), {}, False, None),
    ],
)
async def test_which_errors_are_worth_another_attempt(
    openai: OpenAIService,
    server: OpenAI,
    context: CallContext,
    status: int,
    body: Any,
    headers: dict[str, str],
    again: bool,
    wait: float | None,
) -> None:
    server.later = [(status, body, headers)]
    with pytest.raises(TryAgain if again else CallError) as raised:
        await openai.call("chat.completions.create", [], CHAT, context)
    assert f"RuntimeError: openai.chat.completions.create: HTTP {status}: " in (
        str(raised.value) if again else f"RuntimeError: {raised.value}"
    )
    if isinstance(raised.value, TryAgain):
        assert raised.value.retry_after == wait
    assert len(server.api.requests) == 1  # the client itself makes one attempt


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "text/html"),
        (b"{", "application/json"),
        (b"\xff\xff", "application/json"),
        (b"[1]", "application/json"),
        (b"", "application/json"),
        (b"null", "application/json"),
    ],
)
async def test_an_answer_that_is_none(
    openai: OpenAIService, server: OpenAI, context: CallContext, body: bytes, kind: str
) -> None:
    server.later = [(200, body, {"kind": kind})]
    told = await failure(openai, "chat.completions.create", context, **CHAT)
    assert told.startswith("RuntimeError: openai.chat.completions.create: the answer")


async def test_an_error_in_the_middle_of_a_stream(
    openai: OpenAIService, server: OpenAI, context: CallContext
) -> None:
    body = b'data: {"error": {"message": "The server had an error"}}\n\n'
    server.later = [(200, body, {"kind": "text/event-stream"})]
    told = await failure(openai, "chat.completions.create", context, **CHAT, stream=True)
    assert told.endswith("openai.chat.completions.create: The server had an error")


async def test_a_slow_server_and_none_at_all(
    openai: OpenAIService, server: OpenAI, context: CallContext
) -> None:
    server.deaf_for = 5
    started = time.monotonic()
    with pytest.raises(TryAgain, match=r"TimeoutError: openai.*: no answer within 0.3 s"):
        await openai.call("chat.completions.create", [], {**CHAT, "timeout": 0.3}, context)
    assert time.monotonic() - started < 3

    nobody = OpenAIService("http://127.0.0.1:9/v1", timeout=5)
    with pytest.raises(TryAgain, match=r"OSError: openai.chat.*: the connection failed"):
        await nobody.call("chat.completions.create", [], CHAT, context)
    await nobody.close()


async def test_where_key_and_address_come_from(
    server: OpenAI, context: CallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "of the operator, not for tasks")
    openai = service()
    kept = {"OPENAI_BASE_URL": server.url}
    context = evolve(context, secrets=KeptSecrets(kept))
    told = await failure(openai, "models.list", context)
    assert told == "LookupError: there is no secret 'OPENAI_API_KEY'"
    kept["OPENAI_API_KEY"] = KEY
    assert await openai.call("models.list", [], {}, context)
    kept["OPENAI_API_KEY"] = "another"  # a new one counts at once
    told = await failure(openai, "models.list", context)
    assert "HTTP 401: wrong: Incorrect API key" in told

    kept |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://127.0.0.1:9"}
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert await openai.call("models.list", [], {}, context)
    await openai.close()


async def test_not_every_key_ever_used_is_kept(server: OpenAI, context: CallContext) -> None:
    openai = OpenAIService(server.url)
    for n in range(10):
        await failure(
            openai,
            "models.list",
            evolve(context, secrets=KeptSecrets({"OPENAI_API_KEY": f"key-{n}"})),
        )
    assert len(openai._clients) == 8
    await openai.close()


def test_methods_are_described() -> None:
    described = OpenAIService().describe()
    chat = described.find("chat.completions.create")
    assert chat is not None
    assert chat.parameters["required"] == ["model", "messages"]
    assert {one.name for one in described.methods} >= {"images.generate", "files.content"}
