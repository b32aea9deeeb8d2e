import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest

from sequential.config import load_settings
from sequential.core.model import (
    Failure,
    InputField,
    Outcome,
    RetryPolicy,
    TaskConfig,
    evolve,
)
from sequential.errors import ConfigError
from sequential.runner.engine import Engine
from sequential.services.base import CallContext, CallError, Secret, TryAgain
from sequential.services.local import LocalService
from sequential.services.remote import RemoteService, remote_services, service_at
from sequential.services.remote_settings import RemoteAddress, RemoteSettings
from support.offered_services import Scripted, base_of, describing, offered, reply

CONTEXT = CallContext("run-1", "task", 0, 1, "key-1")
QUICK = RetryPolicy(retries=3, delay=0.01, jitter=0)


def crm_service() -> LocalService:
    crm = LocalService("crm", "Customers.")

    @crm.method("users.find", retry="safe")
    def find(email: str, limit: int = 2) -> list[str]:
        return [email] * limit

    @crm.method()
    async def echo(value: Any, context: CallContext) -> Any:
        return [value, context.idempotency_key]

    @crm.method()
    def fail(type: str) -> None:
        raise CallError(type, "no such thing", "gone")

    @crm.method()
    def later() -> None:
        raise TryAgain(Outcome(error=Failure("OSError", "busy", "busy")), retry_after=7)

    @crm.method()
    def token(token: Annotated[str, Secret("crm/token")]) -> str:
        return f"it is {token}"

    return crm


@pytest.fixture
async def there() -> AsyncIterator[Engine]:
    async with Engine("memory:", [crm_service()]) as engine:
        await engine.keys.set("crm/token", "s3cret of the server")
        yield engine


async def call(service: RemoteService, method: str, *args: Any, **kwargs: Any) -> Any:
    return await service.call(method, args, kwargs, CONTEXT)


async def failure(service: RemoteService, method: str, *args: Any, **kwargs: Any) -> Failure:
    with pytest.raises(CallError) as error:
        await call(service, method, *args, **kwargs)
    return error.value.failure


async def test_a_call_of_a_service_elsewhere(there: Engine) -> None:
    async with offered(there, "crm") as server:
        crm = RemoteService("crm", RemoteAddress(base_of(server) + "/"))
        assert crm.methods() == ()
        assert crm.accepts("users.find")
        assert not crm.accepts("_private")
        assert await call(crm, "users.find", "a", limit=1) == ["a"]
        assert "users.find" in crm.methods()  # it was asked before the first call
        assert crm.describe().is_open
        assert crm.describe().description == "Customers."
        await crm.close()


async def test_values_and_the_idempotency_key_cross_as_they_are(there: Engine) -> None:
    value = {
        "bytes": b"\x00\xff",
        "moment": datetime(2026, 1, 2, tzinfo=UTC),
        "price": Decimal("1.10"),
        "set": {1, 2},
        "tuple": (1, (2,)),
        "$bytes": "not bytes",
        "big": 10**30,
    }
    async with offered(there, "crm") as server:
        crm = RemoteService("crm", RemoteAddress(base_of(server)))
        assert await call(crm, "echo", value) == [value, "key-1"]
        await crm.close()


async def test_errors_of_the_other_side_are_errors_of_the_call(there: Engine) -> None:
    async with offered(there, "crm") as server:
        crm = RemoteService("crm", RemoteAddress(base_of(server)))
        assert await failure(crm, "fail", "LookupError") == Failure(
            "LookupError", "no such thing", "gone"
        )
        assert (await failure(crm, "fail", "SystemExit")).type == "RuntimeError"
        assert (await failure(crm, "fail", "eval")).type == "RuntimeError"
        assert (await failure(crm, "users.find", 5)).message == (
            "crm.users.find(email: str, limit: int = 2): email: expected `str`, got `int`"
        )
        assert "did you mean 'users.find'" in (await failure(crm, "users.fin")).message
        wrong = RemoteService("cmr", RemoteAddress(base_of(server)))
        assert (
            "there is no service 'cmr' here; did you mean 'crm'?"
            in (await failure(wrong, "x")).message
        )
        await wrong.close()
        with pytest.raises(TryAgain) as again:
            await call(crm, "later")
        assert again.value.retry_after == 7
        assert again.value.outcome.error == Failure("OSError", "busy", "busy")
        await crm.close()


async def test_the_token_comes_from_the_settings_or_the_keystore(there: Engine) -> None:
    class Given:
        async def get(self, name: str) -> str:
            return {"crm/door": "open sesame"}[name]

        def redacted(self, text: str) -> str:
            return text

    async with offered(there, "crm", token="open sesame") as server:
        url = base_of(server)
        wrong = RemoteService("crm", RemoteAddress(url), token="guessed")
        assert await failure(wrong, "users.find", "a") == Failure(
            "RuntimeError", "send Authorization: Bearer <token>", "unauthorized"
        )
        right = RemoteService("crm", RemoteAddress(url), token="open sesame")
        assert await call(right, "users.find", "a") == ["a", "a"]
        kept = RemoteService("crm", RemoteAddress(url, secret="crm/door"), token="guessed")
        context = evolve(CONTEXT, secrets=Given())
        assert await kept.call("users.find", ["a"], {}, context) == ["a", "a"]
        # What the other side's service got from its own keystore stays there.
        assert await call(right, "token") == "it is {{secret:crm/token}}"
        for service in (wrong, right, kept):
            await service.close()


@pytest.mark.parametrize(("retry", "is_tried_again"), [("safe", True), ("unsafe", False)])
async def test_an_answer_that_got_lost(retry: str, is_tried_again: bool) -> None:
    async with Scripted(None, description=describing(f"find:{retry}")) as server:
        crm = RemoteService("crm", RemoteAddress(server.url))
        with pytest.raises((TryAgain, CallError)) as error:
            await call(crm, "find")
        raised: Any = error.value
        told = raised.outcome.error if isinstance(raised, TryAgain) else raised.failure
        assert told is not None
        assert isinstance(raised, TryAgain) is is_tried_again
        assert told.type == "OSError"
        assert told.message.startswith(f"the service 'crm' at {server.url}: ServerDisconnected")
        assert b"Idempotency-Key: key-1" in server.asked[0]
        await crm.close()


async def test_a_server_that_is_not_there_is_asked_again() -> None:
    async with Scripted() as server:
        url = server.url
    crm = RemoteService("crm", RemoteAddress(url))
    with pytest.raises(TryAgain) as error:
        await call(crm, "find")
    assert "cannot be reached" in str(error.value.outcome.error)
    await crm.close()


async def test_a_server_that_says_nothing(there: Engine) -> None:
    crm = LocalService("crm")

    release = asyncio.Event()

    @crm.method()
    async def hang() -> None:
        await release.wait()

    there.services.add(crm)
    async with offered(there, "crm") as server:
        slow = RemoteService("crm", RemoteAddress(base_of(server), timeout=0.2))
        assert await failure(slow, "hang") == Failure(
            "TimeoutError",
            f"the service 'crm' at {base_of(server)}: no answer within 0.2 s",
            "timeout",
        )
        release.set()
        await slow.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            reply(200, b"<html>Welcome"),
            "something else than a result: '<html>Welcome",
        ),
        (reply(200, b'{"result": [1, 2'), "something else than a result"),
        (reply(200, b'{"value": 1}'), "something else than a result"),
        (reply(200, b"[]"), "something else than a result"),
        (reply(200, b"[" * 100_000), "something else than a result"),
        (
            reply(200, b'{"result": {"$bytes": "***"}}', "Sequential-Values: tagged"),
            "something else than a result",
        ),
        (reply(404, b"<html>Not found"), "answered find with HTTP 404: '<html>Not found'"),
        (reply(302, b"", "Location: http://127.0.0.1:1/"), "answered find with HTTP 302: ''"),
        (reply(403, b'{"error": "who are you"}'), "who are you"),
        (reply(400, b'{"error": {"message": 5}}'), "5"),
        (reply(400, b'{"error": null}'), "answered find with HTTP 400"),
    ],
)
async def test_answers_that_no_service_gives(answer: bytes, says: str) -> None:
    async with Scripted(answer) as server:
        crm = RemoteService("crm", RemoteAddress(server.url))
        told = await failure(crm, "find")
        assert (told.type, says in told.message) == ("RuntimeError", True), told
        await crm.close()


async def test_an_answer_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sequential.services.remote.LARGEST_ANSWER", 1 << 20)
    async with Scripted(reply(200, b"x" * ((1 << 20) + 1))) as server:
        crm = RemoteService("crm", RemoteAddress(server.url))
        assert "the answer is larger than 1 MiB" in (await failure(crm, "find")).message
        await crm.close()


async def test_a_proxy_that_is_overloaded_is_asked_again_when_it_says() -> None:
    async with Scripted(reply(503, b"<html>", "Retry-After: 2")) as server:
        crm = RemoteService("crm", RemoteAddress(server.url))
        with pytest.raises(TryAgain) as error:
            await call(crm, "find")
        assert error.value.retry_after == 2
        assert "HTTP 503" in str(error.value.outcome.error)
        await crm.close()


async def test_the_original_servers_are_spoken_to_in_their_own_way() -> None:
    async with Scripted(reply(200, b'{"result": {"domains": [{"$date": "x"}]}}')) as server:
        gapi = service_at("gapi", RemoteSettings(base_url=server.url, token="service role key"))
        value = await gapi.call("admin.domains.list", [], {"customer": "my_customer"}, CONTEXT)
        assert value == {"domains": [{"$date": "x"}]}  # of others, JSON is what it says
        head, _, body = server.asked[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /functions/v1/wrappedgapi HTTP/1.1")
        assert b"Authorization: Bearer service role key" in head
        assert json.loads(body)["chain"] == [
            {"property": "admin.domains.list", "args": [{"customer": "my_customer"}]}
        ]
        await gapi.close()


TASK = """
async def greet(email):
    found = await services.crm.users.find(email, limit=1)
    other = await call_host_tool("crm", "users.find", {"email": "b"})
    try:
        await services.crm.fail("LookupError")
    except LookupError as error:
        return [*found, *other, str(error)]
"""


@pytest.mark.parametrize("how", ["file", "environment"])
async def test_a_task_uses_services_elsewhere(there: Engine, tmp_path: Path, how: str) -> None:
    async with offered(there, "crm", token="open sesame") as server:
        content = {"services": {"crm": base_of(server)}} if how == "file" else {}
        (tmp_path / ".sequentialrc.json").write_text(json.dumps(content))
        environment = {"SERVICE_CLIENT_AUTH_TOKEN": "open sesame"}
        if how == "environment":
            environment |= {
                "SERVICE_CLIENT_TYPE": "http",
                "SERVICE_CLIENT_BASE_URL": base_of(server),
            }
        settings = load_settings(tmp_path, environment=environment)
        async with Engine("memory:", settings=settings) as engine:
            config = TaskConfig("greet", retry=QUICK, inputs=(InputField("email"),))
            await engine.store_task("greet", TASK, config)
            run = await engine.run("greet", {"email": "a"})
            assert run.error is None, run.error.message
            assert run.result == ["a", "b", "b", "no such thing"]
            assert engine.services.origin("crm") == "remote"


def test_mistakes_in_the_settings_are_explained(tmp_path: Path) -> None:
    def load(services: Any, **environment: str) -> str:
        (tmp_path / ".sequentialrc.json").write_text(json.dumps({"services": services}))
        with pytest.raises(ConfigError) as error:
            load_settings(tmp_path, environment=environment)
        return str(error.value)

    assert "services.crm: 'crm:3100' is no URL of a server: write http://" in load(
        {"crm": "crm:3100"}
    )
    assert "has no user, password, query" in load({"crm": "http://u:p@host"})
    assert "'secrt' is not known, did you mean 'secret'?" in load(
        {"crm": {"url": "http://x", "secrt": "y"}}
    )
    assert "letters, digits" in load({"c r m": "http://host"})
    assert "is http or local, not 'grpc'" in load({}, SERVICE_CLIENT_TYPE="grpc")
    assert "set SERVICE_CLIENT_BASE_URL as well" in load({}, SERVICE_CLIENT_TYPE="http")
    assert "variable SERVICE_CLIENT_BASE_URL: 'x' is no URL" in load(
        {}, SERVICE_CLIENT_TYPE="http", SERVICE_CLIENT_BASE_URL="x"
    )


def test_an_address_that_is_wrong_is_refused_in_python_too() -> None:
    settings = RemoteSettings({"crm": RemoteAddress("ftp://host")})
    with pytest.raises(ConfigError, match="the service 'crm': 'ftp://host' is no URL"):
        remote_services(settings)
