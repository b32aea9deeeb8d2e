"""Services that run on a server, called from programs elsewhere: on the real server of services."""

import asyncio
import copy
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest

from sequential import RetryPolicy
from sequential.client import (
    AnswerTimeoutError,
    BadAnswerError,
    NoAnswerError,
    ServiceError,
    ServiceProxy,
    service_proxy,
)
from sequential.errors import ConfigError, InvalidNameError, ValueNotSupportedError
from support.live_services import TOKEN, live_services
from support.scripted_server import ScriptedServer, cut, refused, reply, silent, told
from support.server_thread import QUICK


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("services"))
        with live_services() as address:
            yield address


@pytest.fixture
def crm(url: str) -> ServiceProxy:
    return service_proxy("crm", base_url=url, token=TOKEN, retry=QUICK)


async def test_a_method_is_called_by_its_name(crm: ServiceProxy) -> None:
    assert await crm.users.list(customer="Ada") == ["Ada"]
    assert await crm.users.list("Ada", 2) == ["Ada", "Ada"]
    users = crm.users
    assert await asyncio.gather(*(users.list(name) for name in "abc")) == [["a"], ["b"], ["c"]]


async def test_values_beyond_json_arrive_as_they_are(crm: ServiceProxy) -> None:
    sent = (Decimal("1.10"), {1, 2}, {"$set": 1}, {1: b"x"})
    assert await crm.echo(*sent, day=date(2026, 1, 1)) == [*sent, {"day": date(2026, 1, 1)}]
    assert await crm.import_(date(2026, 1, 2)) == (date(2026, 1, 2), b"\x00")
    with pytest.raises(ValueNotSupportedError, match=r"args\[0\] is an object"):
        await crm.echo(object())


async def test_connections_are_kept_with_async_with(crm: ServiceProxy) -> None:
    async with crm as kept:
        assert await kept.users.list("a") == ["a"]
        assert await crm.users.list("b") == ["b"]
    assert await crm.users.list("c") == ["c"]
    with ScriptedServer(told(200, {"result": 1})) as server:
        async with service_proxy("x", base_url=server.url) as other:
            await other.one()
            await other.two()
        await other.three()
        await other.four()
    assert len({request.port for request in server.requests}) == 3


@pytest.mark.parametrize(
    ("call", "status", "code", "name", "words"),
    [
        ("refuse", 404, "gone", "LookupError", "no such customer"),
        ("nothing", 404, None, None, "nothing"),
        ("users.list", None, None, "TypeError", "customer"),
    ],
)
async def test_failures_of_services(
    crm: ServiceProxy,
    call: str,
    status: int | None,
    code: str | None,
    name: str | None,
    words: str,
) -> None:
    method = crm
    for part in call.split("."):
        method = getattr(method, part)
    with pytest.raises(ServiceError, match=words) as raised:
        await method()
    assert raised.value.status == (status or raised.value.status)
    assert raised.value.code == (code or raised.value.code)
    assert raised.value.name == (name or raised.value.name)


async def test_a_service_or_a_token_that_is_none(url: str, crm: ServiceProxy) -> None:
    with pytest.raises(ServiceError, match="cr") as raised:
        await service_proxy("cr", base_url=url, token=TOKEN).users.list("a")
    assert raised.value.status == 404
    with pytest.raises(ServiceError) as refusal:
        await service_proxy("crm", base_url=url, token="wrong").users.list("a")
    assert (refusal.value.code, refusal.value.status) == ("unauthorized", 401)
    assert "wrong" not in str(refusal.value)


async def test_attempts_carry_the_same_key(crm: ServiceProxy) -> None:
    keys = await crm.wobble(2)
    assert len(keys) == 3
    assert len(set(keys)) == 1
    with pytest.raises(ServiceError, match="busy") as raised:
        await crm.wobble(100)
    assert (raised.value.status, raised.value.code, raised.value.name) == (503, "busy", "OSError")


async def test_slow_services_and_broken_connections(url: str) -> None:
    never = RetryPolicy(retries=0)
    slow = service_proxy("crm", base_url=url, token=TOKEN, retry=never, timeout=0.1)
    with pytest.raises(AnswerTimeoutError, match=r"/services/crm: no answer within 0\.1 s"):
        await slow.sleep(1)
    with ScriptedServer(cut, told(200, {"result": 1})) as server:
        assert await service_proxy("x", base_url=server.url, retry=QUICK).y() == 1
        with pytest.raises(NoAnswerError):
            await service_proxy("x", base_url="http://127.0.0.1:1", retry=never).y()
    with ScriptedServer(silent) as server, pytest.raises(TimeoutError):
        await service_proxy("x", base_url=server.url, retry=never, timeout=0.1).y()


async def test_the_wire_format() -> None:
    with ScriptedServer(told(200, {"result": {"$set": [1]}})) as server:
        proxy = service_proxy("admin-debug", base_url=server.url + "/")
        assert await proxy.a.b(1, from_=(1,)) == {"$set": [1]}  # not said to be tagged
        await service_proxy("x", base_url=server.url, endpoint="functions/v1/wrappedx").y()
    first, second = server.requests
    assert (first.method, first.path) == ("POST", "/services/admin-debug")
    assert first.json == {"method": "a.b", "args": [1], "kwargs": {"from_": {"$tuple": [1]}}}
    assert "Authorization" not in first.headers
    assert second.path == "/functions/v1/wrappedx"


async def test_chains_of_the_original() -> None:
    with ScriptedServer(told(200, {"data": [1]})) as server:
        db = service_proxy("supabase", base_url=server.url, dialect="chain")
        day = date(2026, 1, 1)
        assert await db.auth.from_("x").select("*").eq("day", day, exact=True) == [1]
    (request,) = server.requests
    assert request.path == "/api/proxy/supabase"
    assert request.json == {
        "chain": [
            {"type": "get", "property": "auth"},
            {"type": "call", "property": "from", "args": ["x"]},
            {"type": "call", "property": "select", "args": ["*"]},
            {"type": "call", "property": "eq", "args": ["day", "2026-01-01", {"exact": True}]},
        ]
    }


async def test_chains_on_our_server(url: str) -> None:
    crm = service_proxy("crm", base_url=url, token=TOKEN, dialect="chain")
    assert await crm.users.list(customer="Ada", limit=2) == ["Ada", "Ada"]
    steps = await crm.from_("x").select("*")
    assert [(step["property"], step["args"]) for step in steps] == [
        ("from", ["x"]),
        ("select", ["*"]),
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (told(200, {"data": 1}), 'the answer of x has no "result": look whether'),
        (told(200, [1]), "not what this version understands"),
        (reply(200, b"<html>", "text/html"), "text/html instead of what was asked for"),
        (told(301, {}, Location="https://elsewhere/"), "a redirect to https://elsewhere"),
    ],
)
async def test_answers_that_are_none(answer: object, words: str) -> None:
    with ScriptedServer(answer) as server, pytest.raises(BadAnswerError, match=words):  # type: ignore[arg-type]
        await service_proxy("x", base_url=server.url).y()


async def test_other_servers_errors() -> None:
    original = told(418, {"error": {"message": "no", "code": "C", "status": 400, "name": "E"}})
    with ScriptedServer(original, told(400, {"error": "plain"}), refused(403, "f", "m")) as server:
        proxy = service_proxy("x", base_url=server.url)
        found = []
        for _ in range(3):
            with pytest.raises(ServiceError) as raised:
                await proxy.y()
            error = raised.value
            found.append((str(error), error.code, error.status, error.name))
    assert found == [
        ("no", "C", 400, "E"),
        ("plain", "http_400", 400, ""),
        ("m", "f", 403, ""),
    ]


async def test_the_environment_says_where_services_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(told(200, {"result": 1})) as server:
        monkeypatch.setenv("SERVICE_CLIENT_TYPE", "http")
        monkeypatch.setenv("SERVICE_CLIENT_BASE_URL", server.url)
        monkeypatch.setenv("SERVICE_CLIENT_AUTH_TOKEN", "abc")
        await service_proxy("x").y()
        await service_proxy("x", token="").y()
    tokens = [request.headers.get("Authorization") for request in server.requests]
    assert tokens == ["Bearer abc", None]
    monkeypatch.setenv("SERVICE_CLIENT_TYPE", "grpc")
    with pytest.raises(ConfigError, match="SERVICE_CLIENT_TYPE is 'grpc'"):
        service_proxy("x")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": "x"}, ConfigError, "or set SERVICE_CLIENT_BASE_URL"),
        ({"name": "../x", "base_url": "http://h"}, InvalidNameError, "service name"),
        ({"name": "x", "base_url": "h"}, ConfigError, "is not the address"),
        ({"name": "x", "base_url": "http://h", "dialect": "soap"}, ConfigError, "'soap'"),
        ({"name": "x", "base_url": "http://h", "endpoint": "/a?b"}, ConfigError, "not a path"),
    ],
)
def test_mistakes(arguments: dict[str, str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        service_proxy(**arguments)  # type: ignore[arg-type]


async def test_what_cannot_be_awaited(crm: ServiceProxy) -> None:
    with pytest.raises(ConfigError, match=r"call a method of <crm\.users on http://127"):
        await crm.users
    with pytest.raises(ConfigError, match=r'^from\(\.\.\.\)\.select.*: dialect="chain"'):
        await crm.from_("x").select("*")
    with pytest.raises(ConfigError, match="only a name can be called"):
        crm("x")
    with pytest.raises(ConfigError, match="only a name can be called"):
        crm.users("x")("y")


def test_python_itself_finds_no_methods(crm: ServiceProxy) -> None:
    with pytest.raises(AttributeError):
        _ = crm._private
    with pytest.raises(AttributeError):
        _ = crm.__wrapped__
    assert not hasattr(crm, "__len__")
    assert isinstance(copy.copy(crm), ServiceProxy)
    assert TOKEN not in repr(crm)
