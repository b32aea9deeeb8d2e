"""What a task finds when it starts: `fetch` and its response, `settle`, `gather`, `sleep`."""

from typing import Any

import pytest

from sequential.core import values
from sequential.core.model import Call, Failure, Outcome
from sequential.runtimes.sandbox.pool import SandboxPool
from support.sandbox_driving import result, run_all

HEADERS = [["Content-Type", "application/json"], ["Set-Cookie", "a=1"], ["set-cookie", "b=2"]]


def respond(
    status: int = 200, text: str | None = '{"n": [1]}', content: bytes | None = None
) -> Any:
    """Answers every call with an HTTP response."""
    answer = {"status": status, "headers": HEADERS, "url": "http://x/end", "encoding": "utf-8"}
    if text is not None:
        answer["text"] = text
    if content is not None:
        answer["content"] = content
    return lambda call: Outcome(value=values.to_json(answer))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("r.status", 200),
        ("r.ok", True),
        ("r.url", "http://x/end"),
        ("r.text", '{"n": [1]}'),
        ("r.json()", {"n": [1]}),
        ("r.bytes() == b'{\"n\": [1]}'", True),
        ("r.raise_for_status() is r", True),
        ("repr(r)", "<Response [200]>"),
        ("type(r) == Response", True),
        ("r.headers['content-TYPE']", "application/json"),
        ("r.headers.get('Content-type')", "application/json"),
        ("r.headers.get('X'), r.headers.get('X', 5)", {"$tuple": [None, 5]}),
        ("r.headers['SET-cookie']", "a=1, b=2"),
        ("r.headers.get_all('Set-Cookie')", ["a=1", "b=2"]),
        ("r.headers.get_all('X')", []),
        ("'content-type' in r.headers, 'x' in r.headers", {"$tuple": [True, False]}),
        ("[name for name in r.headers]", ["Content-Type", "Set-Cookie", "set-cookie"]),
        ("r.headers.keys()", ["Content-Type", "Set-Cookie", "set-cookie"]),
        ("r.headers.values()", ["application/json", "a=1", "b=2"]),
        ("[list(pair) for pair in r.headers.items()]", HEADERS),
        ("repr(r.headers)[:25]", "Headers([('Content-Type',"),
    ],
)
async def test_a_response(pool: SandboxPool, expression: str, expected: Any) -> None:
    assert await result(
        pool, f"  r = await fetch('http://x')\n  return {expression}", respond()
    ) == (expected)


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (299, True), (300, False)])
async def test_only_2xx_is_ok(pool: SandboxPool, status: int, ok: bool) -> None:
    assert await result(pool, "  return (await fetch('u')).ok", respond(status)) is ok


async def test_raise_for_status(pool: SandboxPool) -> None:
    failure = await result(pool, "  (await fetch('u')).raise_for_status()", respond(404))
    assert (failure.type, failure.message) == ("OSError", "HTTP 404 for http://x/end")
    assert [frame.line for frame in failure.traceback] == [2]


async def test_a_missing_header_is_a_key_error(pool: SandboxPool) -> None:
    body = (
        "  try:\n    (await fetch('u')).headers['x-no']\n  except KeyError as e:\n    return str(e)"
    )
    assert await result(pool, body, respond()) == "'x-no'"


@pytest.mark.parametrize(
    ("text", "content", "expected"),
    [
        ("grüße", None, ["grüße", "grüße"]),
        ("", None, ["", ""]),
        (None, b"\xff\x00a", ["\ufffd\x00a", None]),
        ("grüße", "grüße".encode("latin-1"), ["grüße", None]),
    ],
    ids=["text", "empty", "no text", "another charset"],
)
async def test_a_body_is_text_and_bytes(
    pool: SandboxPool, text: str | None, content: bytes | None, expected: list[Any]
) -> None:
    body = "  r = await fetch('u')\n  return [r.text, r.bytes()]"
    found_text, found_bytes = await result(pool, body, respond(text=text, content=content))
    assert found_text == expected[0]
    assert values.from_json(found_bytes) == (content or str(text).encode())


async def test_a_body_that_is_no_json(pool: SandboxPool) -> None:
    body = "  try:\n    (await fetch('u')).json()\n  except ValueError as e:\n    return str(e)"
    assert "line 1 column 1" in await result(pool, body, respond(text="<html>"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("'u'", {"url": "u", "method": "GET"}),
        ("'u', method='PUT', json=None", {"url": "u", "method": "PUT", "json": None}),
        ("'u', headers=None, params=None, data=None", {"url": "u", "method": "GET"}),
        ("'u', headers={'A': 'b'}", {"url": "u", "method": "GET", "headers": {"A": "b"}}),
        ("'u', headers=[('A', 'b')]", {"url": "u", "method": "GET", "headers": {"A": "b"}}),
        ("'u', params={'q': [1]}", {"url": "u", "method": "GET", "params": {"q": [1]}}),
        ("'u', data=b'x'", {"url": "u", "method": "GET", "data": {"$bytes": "eA=="}}),
        ("'u', timeout=5, retries=0", {"url": "u", "method": "GET", "timeout": 5, "retries": 0}),
        ("'u', follow_redirects=False", {"url": "u", "method": "GET", "follow_redirects": False}),
    ],
)
async def test_what_fetch_asks_the_host_for(
    pool: SandboxPool, arguments: str, expected: dict[str, Any]
) -> None:
    turns = await run_all(pool, f"  await fetch({arguments})", respond())
    (call,) = turns[0].calls
    assert (call.operation, call.arguments) == ("http.fetch", expected)


async def test_headers_of_a_response_can_be_sent_on(pool: SandboxPool) -> None:
    turns = await run_all(
        pool, "  r = await fetch('u')\n  await fetch('v', headers=r.headers)", respond()
    )
    assert turns[1].calls[0].arguments["headers"]["Content-Type"] == "application/json"


async def test_a_wrong_option_is_an_error_at_its_line(pool: SandboxPool) -> None:
    failure = await result(pool, "  await fetch('u',\n    verify=False)")
    assert failure.type == "TypeError"
    assert "verify" in failure.message
    assert failure.traceback[-1].line == 2


def one_fails(call: Call) -> Outcome:
    failing = Outcome(error=Failure("PermissionError", "no"))
    return failing if call.sequence == 1 else Outcome(value=call.sequence)


async def test_settle_keeps_the_order_and_tells_errors(pool: SandboxPool) -> None:
    body = """\
  async def own(): raise ValueError("mine")
  echo = services.tool.echo
  return await settle(echo(1), echo(2), own(), sleep(5), gather(sleep(1)))"""
    assert await result(pool, body, one_fails) == [
        {"ok": True, "value": 0},
        {"ok": False, "error": "PermissionError", "message": "no"},
        {"ok": False, "error": "ValueError", "message": "mine"},
        {"ok": True, "value": None},
        {"ok": True, "value": [None]},
    ]
    assert await result(pool, "  return await settle()") == []


async def test_connection_error_is_an_os_error(pool: SandboxPool) -> None:
    body = "  try:\n    await fetch('u')\n  except ConnectionError as e:\n    return str(e)"

    def refuse(call: Call) -> Outcome:
        return Outcome(error=Failure("OSError", "connection refused"))

    assert await result(pool, body, refuse) == "connection refused"


BUILTINS = "dict list str type iter repr len isinstance bytes tuple Exception OSError KeyError"


@pytest.mark.parametrize(
    "name",
    [*"Response Headers json asyncio loop codec absent answer fetch_at options".split(),
     *BUILTINS.split()],
)  # fmt: skip
@pytest.mark.parametrize("value", ["1", "None"])
async def test_a_tasks_own_names_do_not_break_fetch(
    pool: SandboxPool, name: str, value: str
) -> None:
    source = f"""
{name} = {value}
async def job(input):
    {name} = {value}
    r = await fetch('u', headers={{'A': 'b'}}, json=1)
    async def bad(): r.headers['x-no']
    bad = await settle(bad(), fetch('u'))
    pairs = [r.headers.items(), [h for h in r.headers], r.headers.get('set-cookie')]
    return [r.json(), bad[0]['ok'], bad[1]['ok'], pairs[2]]
"""
    assert await result(pool, source, respond()) == [{"n": [1]}, False, True, "a=1, b=2"]


async def test_a_task_may_have_its_own_fetch(pool: SandboxPool) -> None:
    source = """
async def job(input):
    return await fetch("u")
async def fetch(url):
    return await services.tool.echo(url + "!")
"""
    assert await result(pool, source) == "u!"
