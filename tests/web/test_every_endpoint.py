"""What has to hold for every endpoint there is: the list is that of the OpenAPI document."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from sequential.runner.engine import Engine
from sequential.web.app import create_app
from sequential.web.openapi import document, is_public
from sequential.web.settings import ServerSettings
from web.conftest import serving


class Endpoint(NamedTuple):
    method: str
    path: str
    is_public: bool
    takes_json: bool
    body: Any  # the smallest that fits

    @property
    def url(self) -> str:
        """Its address, with the ids of what there is not."""
        return re.sub(r"\{[^}]+\}", "no-such", self.path.replace("{sequence}", "7"))


def endpoints() -> Iterator[Endpoint]:
    app = create_app(Engine("memory:"))
    described = document(app)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            yield Endpoint(
                method.upper(),
                path,
                is_public(app, path, method),
                "application/json" in content,
                smallest(schema, described["components"]["schemas"]),
            )


def smallest(schema: Any, named: dict[str, Any]) -> Any:
    """What fits a schema, with nothing that may be left out."""
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    if schema.get("type") in {"string", "integer", "number"}:
        return schema.get("minimum", 1) if schema["type"] != "string" else "x"
    required = schema.get("required", ())
    return {name: smallest(schema["properties"][name], named) for name in required}


ALL = list(endpoints())
GUARDED = [one for one in ALL if not one.is_public]
CHANGING = [one for one in GUARDED if one.method != "GET"]
NAMING = [one for one in GUARDED if "{" in one.path and one.method != "PUT"]
# Nothing, other types, half of something, no UTF-8, a field that nobody knows, and very deep.
WRONG = (b"", b"7", b'"text"', b"[{}]", b"{", b"\xff\xfe", b'{"no such": 1}', b"[" * 9000)


@pytest.fixture
async def api(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token, of a server that wants one and takes 10 kB."""
    settings = ServerSettings(largest_body=10_000, failed_logins=1000)
    await engine.tokens.create("somebody else")
    async with serving(engine, settings) as client:
        yield client


async def bearer(engine: Engine, role: Any = "operate") -> dict[str, str]:
    _, token = await engine.tokens.create("me", role)
    return {"Authorization": f"Bearer {token}"}


def check_error(answer: httpx.Response, *statuses: int) -> None:
    """An answer is an error of the usual shape with one of these statuses."""
    asked = f"{answer.request.method} {answer.request.url.path}"
    assert answer.status_code in statuses, f"{asked}: {answer.status_code} {answer.text}"
    error = answer.json()["error"]
    # What the original's client asks is answered in its own words.
    words = r"[a-z_]+|[A-Z_]+" if " /api/" in asked and "/v1/" not in asked else r"[a-z_]+"
    assert re.fullmatch(words, error["code"]), asked
    assert error["message"], asked
    assert "\n" not in error["message"], asked
    check_headers(answer)


def check_headers(answer: httpx.Response) -> None:
    asked = f"{answer.request.method} {answer.request.url.path}"
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff", asked
    assert headers["referrer-policy"] == "no-referrer", asked
    assert "frame-ancestors 'none'" in headers["content-security-policy"], asked
    assert headers["cache-control"], asked
    assert "server" not in headers, asked


def test_there_are_endpoints_of_every_kind() -> None:
    assert len(CHANGING) > 15
    assert len(NAMING) > 15
    assert {one.path for one in ALL} - {one.path for one in GUARDED} >= {"/", "/health"}


async def test_nobody_comes_in_without_a_token(api: httpx.AsyncClient) -> None:
    wrong = f"seq_{'0' * 12}_{'a' * 43}"
    for endpoint in GUARDED:
        for headers in ({}, {"Authorization": f"Bearer {wrong}"}, {"Authorization": "Bearer "}):
            answer = await api.request(endpoint.method, endpoint.url, headers=headers)
            check_error(answer, 401)
            assert "Bearer" in answer.headers["www-authenticate"]


async def test_a_token_that_reads_changes_nothing(api: httpx.AsyncClient, engine: Engine) -> None:
    headers = await bearer(engine, "read")
    for endpoint in CHANGING:
        check_error(await api.request(endpoint.method, endpoint.url, headers=headers, json={}), 403)


async def test_a_body_that_is_too_large_is_refused(api: httpx.AsyncClient, engine: Engine) -> None:
    headers = await bearer(engine)
    for endpoint in CHANGING:
        body = b"[" + b"1," * 10_000
        answer = await api.request(endpoint.method, endpoint.url, headers=headers, content=body)
        check_error(answer, 413)


async def test_so_is_one_that_does_not_say_how_large_it_is(
    api: httpx.AsyncClient, engine: Engine
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    headers = await bearer(engine)
    for endpoint in CHANGING:
        if endpoint.takes_json:
            answer = await api.request(
                endpoint.method, endpoint.url, headers=headers, content=body()
            )
            check_error(answer, 413)


async def test_a_body_of_the_wrong_kind_is_refused(api: httpx.AsyncClient, engine: Engine) -> None:
    headers = {**await bearer(engine), "Content-Type": "application/json"}
    for endpoint in CHANGING:
        for body in WRONG if endpoint.takes_json else ():
            answer = await api.request(endpoint.method, endpoint.url, headers=headers, content=body)
            check_error(answer, 400, 404)  # 404: some take any JSON, or none, for what is not there


async def test_what_is_not_there_is_not_found(api: httpx.AsyncClient, engine: Engine) -> None:
    headers = await bearer(engine)
    for endpoint in NAMING:
        options = {"headers": headers, "json": endpoint.body}
        answer = await api.request(endpoint.method, endpoint.url, **options)
        # The document does not say what fits some bodies: those are refused before all else.
        check_error(answer, 404, *([400] if endpoint.takes_json and not endpoint.body else []))


async def test_every_answer_has_the_headers(api: httpx.AsyncClient, engine: Engine) -> None:
    headers = await bearer(engine)
    for endpoint in ALL:
        if endpoint.path != "/api/v1/events":  # this one does not end: test_headers looks at it
            check_headers(await api.request(endpoint.method, endpoint.url, headers=headers))
    for method, path in (("GET", "/nowhere"), ("PATCH", "/api/v1/runs"), ("OPTIONS", "/health")):
        check_headers(await api.request(method, path, headers=headers))
