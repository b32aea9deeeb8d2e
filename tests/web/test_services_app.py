"""Services over HTTP, in the process of the test; `test_services_server` has real connections."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from sequential.core.bounds import TokenLimits
from sequential.core.model import Failure, Outcome
from sequential.runner.engine import Engine
from sequential.services.base import CallContext, CallError, Secret, TryAgain
from sequential.services.local import LocalService
from sequential.web.app import create_app
from sequential.web.door import Door
from sequential.web.services_app import LARGEST_BODY, create_services_app


class Guarded(LocalService):
    named_only = True


def crm_service() -> LocalService:
    crm = LocalService("crm", "Customers.")

    @crm.method("users.find", timeout=30, retry="safe")
    def find(email: str, limit: int = 2) -> list[str]:
        """Customers with this address."""
        return [email] * limit

    @crm.method()
    def store(record: dict[str, Any]) -> list[str]:
        return sorted(record)

    @crm.method()
    def chain(steps: list[dict[str, Any]]) -> Any:
        return steps

    @crm.method()
    def key(context: CallContext, token: Annotated[str, Secret("crm/token")]) -> str:
        return f"{context.idempotency_key} {token}"

    @crm.method()
    def fail(kind: str) -> None:
        errors: dict[str, Exception] = {
            "permission": CallError("PermissionError", "not for you"),
            "lookup": CallError("LookupError", "no such\ncustomer", "gone"),
            "plain": ValueError("wrong"),
            "busy": TryAgain(Outcome(error=Failure("OSError", "busy")), retry_after=1.5),
            "value": TryAgain(Outcome(value=b"half")),
            "slow": TryAgain(Outcome(error=Failure("TimeoutError", "slow", "timeout"))),
        }
        raise errors[kind]

    @crm.method()
    def deep() -> Any:
        value: Any = []
        for _ in range(5000):
            value = [value]
        return value

    @crm.method()
    def odd() -> Any:
        return {"bytes": b"\x00", "set": {1}}

    return crm


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    guarded = Guarded("vault")
    guarded.add(lambda: "open", "open")
    async with Engine("memory:", [crm_service(), guarded]) as made:
        await made.keys.set("crm/token", "s3cret of the server")
        yield made


@contextlib.asynccontextmanager
async def client_of(engine: Engine, *names: str, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_services_app(engine, names or None, **more)
    transport = httpx.ASGITransport(cast("Any", app), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3100") as made:
        yield made


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(engine) as made:
        yield made


async def error_of(client: httpx.AsyncClient, path: str, body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    told: dict[str, Any] = answer.json()["error"]
    assert told["status"] == answer.status_code
    assert set(told) == {"message", "code", "status", "name", "hint"}
    assert "\n" not in told["message"]
    return told


@pytest.mark.parametrize("path", ["/services/crm", "/functions/v1/crm"])
async def test_a_call(client: httpx.AsyncClient, path: str) -> None:
    body = {"method": "users.find", "args": ["a"], "kwargs": {"limit": 1}}
    answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()) == (200, {"result": ["a"]})
    assert answer.headers["sequential-values"] == "tagged"
    chain = [{"property": "users.find", "args": [{"email": "b", "limit": 1}]}]
    assert (await client.post(path, json={"chain": chain})).json() == {"result": ["b"]}


async def test_the_original_client_gets_what_it_expects(client: httpx.AsyncClient) -> None:
    chain = [
        {"type": "get", "property": "users"},
        {"type": "call", "property": "find", "args": ["a"]},
    ]
    body = {"chain": chain, "config": {"args": [], "options": {}}}
    assert (await client.post("/api/proxy/crm", json=body)).json() == {"data": ["a", "a"]}
    named = {**body, "config": {"module": "service/crm"}}
    assert (await client.post("/api/sdk-proxy", json=named)).json() == {"data": ["a", "a"]}


@pytest.mark.parametrize("endpoint", ["/api/proxy/crm", "/api/sdk-proxy", "/services/crm"])
async def test_nobody_outside_names_a_module(client: httpx.AsyncClient, endpoint: str) -> None:
    for config in ({"module": "os", "factory": "system"}, {"module": "subprocess"}):
        body = {"chain": [{"property": "users.find", "args": ["a"]}], "config": config}
        told = await error_of(client, endpoint, body)
        assert told["status"] == 403
        assert told["code"] == ("forbidden" if "services" in endpoint else "SDK_INIT_ERROR")
        assert told["message"].startswith("a request cannot name a module or a factory")


async def test_the_codes_of_the_original_client(client: httpx.AsyncClient) -> None:
    async def code(path: str, property: str, *args: Any) -> str:
        chain = [{"property": property, "args": args}]
        return str((await error_of(client, path, {"chain": chain}))["code"])

    assert await code("/api/proxy/crm", "__class__") == "INVALID_CHAIN_FORMAT"
    assert await code("/api/proxy/nothing", "x") == "NOT_FOUND"
    assert await code("/api/proxy/crm", "fail", "plain") == "CHAIN_EXECUTION_ERROR"


async def test_an_object_is_named_arguments_unless_the_method_takes_one(
    client: httpx.AsyncClient,
) -> None:
    async def result(property: str, *args: Any) -> Any:
        chain = [{"property": property, "args": args}]
        return (await client.post("/services/crm", json={"chain": chain})).json()

    assert await result("users.find", {"email": "a", "limit": 1}) == {"result": ["a"]}
    assert await result("store", {"b": 1, "a": 2}) == {"result": ["a", "b"]}
    assert await result("store", {"record": {"a": 2}}) == {"result": ["a"]}
    wrong = await result("users.find", {"mail": "a"})
    assert "unexpected keyword argument 'mail'" in wrong["error"]["message"] or (
        "missing a required argument: 'email'" in wrong["error"]["message"]
    )


async def test_chains_with_calls_in_the_middle_are_up_to_the_service(
    client: httpx.AsyncClient,
) -> None:
    chain = [{"property": "from", "args": ["users"]}, {"property": "select", "args": ["*"]}]
    answer = await client.post("/services/crm", json={"chain": chain})
    assert answer.json()["result"] == chain


async def test_values_beyond_json(client: httpx.AsyncClient) -> None:
    tagged = {"Sequential-Values": "tagged"}
    body = {"method": "store", "args": [{"$dict": [["$b", {"$bytes": "AA=="}]]}]}
    answer = await client.post("/services/crm", json=body, headers=tagged)
    assert answer.json() == {"result": ["$b"]}
    untagged = {"method": "store", "args": [{"$bytes": "AA=="}]}
    assert (await client.post("/services/crm", json=untagged)).json() == {"result": ["$bytes"]}
    odd = await client.post("/services/crm", json={"method": "odd"})
    assert odd.json() == {"result": {"bytes": {"$bytes": "AA=="}, "set": {"$set": [1]}}}
    damaged = {"method": "store", "args": [{"$bytes": "***"}]}
    answer = await client.post("/services/crm", json=damaged, headers=tagged)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "value_not_supported")


async def test_the_key_is_handed_on_and_secrets_are_not(client: httpx.AsyncClient) -> None:
    body = {"method": "key"}
    answer = await client.post("/services/crm", json=body, headers={"Idempotency-Key": "order-7"})
    assert answer.json() == {"result": "order-7 {{secret:crm/token}}"}
    first = (await client.post("/services/crm", json=body)).json()
    assert first != (await client.post("/services/crm", json=body)).json()
    refused = await error_of(client, "/services/crm", {**body, "kwargs": {"token": "mine"}})
    assert (refused["status"], refused["code"]) == (400, "invalid_call")


@pytest.mark.parametrize(
    ("kind", "status", "name", "code"),
    [
        ("permission", 403, "PermissionError", "call_failed"),
        ("lookup", 404, "LookupError", "gone"),
        ("plain", 422, "RuntimeError", "call_failed"),
        ("busy", 503, "OSError", "task_error"),
        ("slow", 504, "TimeoutError", "timeout"),
    ],
)
async def test_how_a_call_fails(
    client: httpx.AsyncClient, kind: str, status: int, name: str, code: str
) -> None:
    told = await error_of(client, "/services/crm", {"method": "fail", "args": [kind]})
    assert (told["status"], told["name"], told["code"]) == (status, name, code)


async def test_what_says_when_to_try_again(client: httpx.AsyncClient) -> None:
    busy = await client.post("/services/crm", json={"method": "fail", "args": ["busy"]})
    assert busy.headers["retry-after"] == "1.5"
    value = await client.post("/services/crm", json={"method": "fail", "args": ["value"]})
    assert (value.status_code, value.json()["result"]) == (503, {"$bytes": "aGFsZg=="})


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"method": "users.fnd"}, 404, "did you mean 'users.find'?"),
        ({"method": "users"}, 404, "has no method 'users'"),
        ({"method": "__init__"}, 400, "no name of a method"),
        ({"method": "call"}, 404, "has no method 'call'"),  # of the service's own class
        ({"method": "close"}, 404, "has no method 'close'"),
        ({"method": "users.find", "args": [5]}, 400, "email: expected `str`, got `int`"),
        ({"method": "users.find", "args": [["a"]]}, 400, "got `array`"),
        ({"method": "users.find"}, 400, "missing a required argument: 'email'"),
        ({"method": "deep"}, 400, "nested"),
        ({"chain": [{"property": "a"}] * 1000}, 400, "1000 steps, 64 are allowed"),
    ],
)
async def test_hostile_requests(
    client: httpx.AsyncClient, body: Any, status: int, says: str
) -> None:
    told = await error_of(client, "/services/crm", body)
    assert (told["status"], says in told["message"]) == (status, True), told


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"garbage", 400),
        (b"\xff\xfe", 400),
        (b'{"method": "users.find", "args": ' + b"[" * 100_000, 400),
        (b'{"chain": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (b'{"method": "store", "args": [' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"]}", 400),
        (b'{"method": "users.find", "args": ["' + b"x" * LARGEST_BODY + b'"]}', 413),
    ],
)
async def test_bodies_that_are_no_request(
    client: httpx.AsyncClient, content: bytes, status: int
) -> None:
    answer = await client.post("/services/crm", content=content)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    # The server is as well as before.
    good = {"method": "users.find", "args": ["a"]}
    assert (await client.post("/services/crm", json=good)).status_code == 200


async def test_services_describe_themselves(client: httpx.AsyncClient) -> None:
    health = await client.get("/health")
    assert health.json()["status"] == "ok"
    assert health.headers["x-content-type-options"] == "nosniff"
    listed = (await client.get("/services")).json()["items"]
    crm = next(one for one in listed if one["name"] == "crm")
    assert (crm["description"], crm["origin"]) == ("Customers.", "given")
    assert "users.find" in crm["methods"]
    told = (await client.get("/services/crm")).json()
    find = next(one for one in told["methods"] if one["name"] == "users.find")
    assert (find["retry"], find["timeout"]) == ("safe", 30)
    assert find["description"] == "Customers with this address."
    for method in told["methods"]:
        jsonschema.Draft202012Validator.check_schema(method["parameters"])
    assert (await client.get("/services/crm/health")).json()["data"]["status"] == "ok"
    missing = await client.get("/services/cmr")
    assert missing.status_code == 404
    assert "did you mean 'crm'?" in missing.json()["error"]["message"]


async def test_what_needs_a_permission_has_to_be_named(engine: Engine) -> None:
    async with client_of(engine) as client:
        assert (await error_of(client, "/services/vault", {"method": "open"}))["status"] == 404
        assert "vault" not in json.dumps((await client.get("/services")).json())
    async with client_of(engine, "vault") as client:
        answer = await client.post("/services/vault", json={"method": "open"})
        assert answer.json() == {"result": "open"}
        # And only what is named is on offer then.
        assert (await error_of(client, "/services/crm", {"method": "x"}))["status"] == 404


async def test_services_that_are_about_runs_are_not_on_offer(client: httpx.AsyncClient) -> None:
    for name in ("http", "clock", "events", "tasks", "step", "links"):
        assert (await client.get(f"/services/{name}")).status_code == 404
        assert (await error_of(client, f"/services/{name}", {"method": "fetch"}))["status"] == 404


async def test_the_names_under_which_the_original_offered_them(engine: Engine) -> None:
    own = LocalService("openai")
    own.add(lambda: ["gpt"], "models.list")
    engine.services.add(own)
    async with client_of(engine, "openai") as client:
        body = {"chain": [{"property": "models.list", "args": []}]}
        answer = await client.post("/functions/v1/wrappedopenai", json=body)
        assert answer.json() == {"result": ["gpt"]}


async def test_one_alone_is_at_the_root_as_well(engine: Engine) -> None:
    async with client_of(engine, "crm", alone="crm") as client:
        body = {"method": "users.find", "args": ["a"]}
        assert (await client.post("/", json=body)).json() == {"result": ["a", "a"]}
        assert (await client.get("/")).json()["name"] == "crm"
        assert (await client.post("/services/crm", json=body)).status_code == 200


async def test_a_token(engine: Engine) -> None:
    body = {"method": "users.find", "args": ["a"]}
    async with client_of(engine, door=Door("open sesame")) as client:
        for headers in ({}, {"Authorization": "Bearer guessed"}, {"Authorization": "open sesame"}):
            answer = await client.post("/services/crm", json=body, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert (await client.get("/services", headers=headers)).status_code == 401
        right = {"Authorization": "Bearer open sesame"}
        assert (await client.post("/services/crm", json=body, headers=right)).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_as_a_part_of_the_server(engine: Engine) -> None:
    _, operator = await engine.tokens.create("all", "operate")
    _, reader = await engine.tokens.create("read", "read")
    limits = {name: TokenLimits(services=(name,)) for name in ("crm", "mail")}
    _, of_crm = await engine.tokens.create("crm only", "operate", limits=limits["crm"])
    _, of_mail = await engine.tokens.create("mail only", "operate", limits=limits["mail"])
    app = create_app(engine, drive=False)
    transport = httpx.ASGITransport(cast("Any", app), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000") as client:
        body = {"method": "users.find", "args": ["a"]}
        for token, status in (
            ("", 401),
            (reader, 403),
            (of_mail, 403),
            (of_crm, 200),
            (operator, 200),
        ):
            bearer = {"Authorization": f"Bearer {token}"}
            answer = await client.post("/functions/v1/crm", json=body, headers=bearer)
            assert answer.status_code == status, answer.text
        assert answer.json() == {"result": ["a", "a"]}
        bearer = {"Authorization": f"Bearer {reader}"}
        assert (await client.get("/services", headers=bearer)).status_code == 200
    await app.state.house.close()
