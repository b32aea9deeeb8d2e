"""Services over HTTP: as a part of the server, and as a server of their own.

    POST /services/<name>          {"method": "users.list", "args": [], "kwargs": {}} -> {"result"}
    POST /functions/v1/<name>      the same, and the original's chains, under its names
    POST /api/proxy/<name>         what the original's client sends -> {"data"}
    GET  /services[/<name>]        what there is, and what its methods take and give

One request is one attempt. The status of a failure says whether another one may do better: see
`web.service_errors`. `Idempotency-Key` is handed to the service, `Sequential-Values: tagged` says
that arguments are written as `core.values` does; results always are.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import FromPath
from litestar.types import Message, Scope

from sequential.core import values
from sequential.core.model import Bounds
from sequential.errors import ValueNotSupportedError
from sequential.runner.engine import Engine
from sequential.services.base import CallError, TryAgain
from sequential.services.describe import ServiceDescription
from sequential.web.actor import Actor
from sequential.web.chains import ChainError, Wanted, refuse_modules, service_named, wanted
from sequential.web.door import Door
from sequential.web.errors import EXCEPTION_HANDLERS, ErrorBody, Refused
from sequential.web.executor_services import EXECUTORS, executors
from sequential.web.handlers import TheEngine, either, get, post
from sequential.web.headers import secure
from sequential.web.offer import Offer, OfferedService
from sequential.web.records import Page
from sequential.web.service_errors import Failed, failed

LARGEST_BODY = 1 << 20  # bytes of a request
LONGEST_KEY = 200  # characters of an idempotency key
TAGGED = {"Sequential-Values": "tagged"}

AnyRequest = Request[Any, Any, Any]
TheOffer = NamedDependency[Offer]
# What the answer to a call may be besides what every answer may be; all are an `ErrorBody`.
FAILURES = {
    **either(422, ErrorBody, "the service's method failed, and would fail again"),
    **either(501, ErrorBody, "the service needs packages that are not installed"),
    **either(504, ErrorBody, "the service took too long; try again"),
}


_ANY = Schema()
_CALL = Schema(
    type=OpenAPIType.OBJECT,
    description="a method with its arguments, or a chain as the original's clients record it",
    properties={
        "method": Schema(type=OpenAPIType.STRING, examples=["users.messages.list"]),
        "args": Schema(type=OpenAPIType.ARRAY, items=_ANY),
        "kwargs": Schema(type=OpenAPIType.OBJECT),
        "chain": Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.OBJECT)),
        "service": Schema(type=OpenAPIType.STRING, description="for /api/sdk-proxy"),
    },
)


@dataclass
class CallOperation(Operation):
    """A handler that reads the body itself, as its errors have a shape of their own."""

    def __post_init__(self) -> None:
        content = {"application/json": OpenAPIMediaType(schema=_CALL)}
        self.request_body = RequestBody(content=content, required=True)


class ServiceState(msgspec.Struct, frozen=True):
    """How a service is: `status` is ok, or says what is missing."""

    service: str
    status: str
    timestamp: str


class ServiceHealth(msgspec.Struct, frozen=True):
    """Whether a service can be used, in the original's words."""

    success: bool
    data: ServiceState


async def _answered(
    request: AnyRequest, offer: Offer, name: str | None, *, proxy: bool = False
) -> Response[Any]:
    """Perform the call that a request asks for; whatever goes wrong with it is an answer."""
    try:
        body = _decoded(await request.body())
        if name is None:
            name = service_named(body)
        refuse_modules(body)
        call = _restored(request, wanted(body))
        key = request.headers.get("idempotency-key", "")[:LONGEST_KEY] or None
        result = await offer.call(name, call, key, within=_bounds_of(request))
    except (CallError, TryAgain, ChainError) as error:
        return failed(error).response(proxy=proxy)
    except ValueNotSupportedError as error:
        return Failed(400, error.code, str(error), "TypeError").response(proxy=proxy)
    return Response({"data" if proxy else "result": result}, status_code=200, headers=TAGGED)


def _bounds_of(request: AnyRequest) -> tuple[Bounds, ...]:
    """What the sender's token allows, where the server knows senders."""
    sender = request.scope.get("user")
    return sender.of_runs if isinstance(sender, Actor) else ()


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise ChainError(f"the body is no JSON: {error}") from None


def _restored(request: AnyRequest, call: Wanted) -> Wanted:
    """The call with the values its arguments stand for."""
    if request.headers.get("sequential-values") != "tagged" or call.is_chain:
        return call
    args, kwargs = values.from_json([*call.args]), values.from_json(call.kwargs)
    if not isinstance(kwargs, dict):
        raise ChainError("kwargs has to be an object")
    return msgspec.structs.replace(call, args=tuple(args), kwargs=kwargs)


@get("/", summary="The services there are")
async def list_services(offer: TheOffer) -> Page[OfferedService]:
    """With the names of their methods; see a service for what these take and give."""
    return Page(await asyncio.to_thread(offer.listed))


@get("/{name:str}", summary="A service and its methods")
async def describe_service(offer: TheOffer, name: FromPath[str]) -> ServiceDescription:
    """What each method takes and gives, as JSON Schema."""
    try:
        return await asyncio.to_thread(offer.describe, name)
    except CallError as error:
        raise Refused(404, error.failure.code, str(error)) from None


@get(
    "/{name:str}/health",
    summary="Whether a service can be used",
    responses=either(503, ServiceHealth, "something has to be installed first"),
)
async def service_health(offer: TheOffer, name: FromPath[str]) -> Response[ServiceHealth]:
    """In the original's words; status 503 says that something has to be installed first."""
    told = await describe_service.fn(offer, name)
    missing = offer.engine.services.missing(told.name)
    state = ServiceState(told.name, missing or "ok", offer.engine.now())
    body = ServiceHealth(missing is None, state)
    return Response(body, status_code=503 if missing else 200)


@post(
    "/{name:str}",
    status_code=200,
    summary="Call a method of a service",
    responses=FAILURES,
    operation_class=CallOperation,
    within_limits=True,
)
async def call_service(request: AnyRequest, offer: TheOffer, name: FromPath[str]) -> Response[Any]:
    """Send the method and its arguments; the answer is `{"result"}`, or `{"error"}`."""
    return await _answered(request, offer, name)


@post(
    "/proxy/{name:str}",
    status_code=200,
    summary="Call a service, as the original's client",
    responses=FAILURES,
    operation_class=CallOperation,
    within_limits=True,
)
async def proxy_service(request: AnyRequest, offer: TheOffer, name: FromPath[str]) -> Response[Any]:
    """A recorded chain comes in, `{"data"}` or `{"error"}` goes out."""
    return await _answered(request, offer, name, proxy=True)


@post(
    "/sdk-proxy",
    status_code=200,
    summary="Call a service that the body names",
    responses=FAILURES,
    operation_class=CallOperation,
    within_limits=True,
)
async def proxy_any(request: AnyRequest, offer: TheOffer) -> Response[Any]:
    """As for one service; modules and factories that the body names are refused."""
    return await _answered(request, offer, None, proxy=True)


_OF_ONE = (describe_service, service_health, call_service)


def services_router(names: Collection[str] | None = None, path: str = "/") -> Router:
    """The services of the application's engine, to be mounted in it.

    Without `names` all but those that need a permission of their own. It asks for the dependency
    `engine`, and each handler says in `opt["role"]` what its caller has to be allowed to.
    """
    return Router(
        path,
        route_handlers=[
            Router("/services", route_handlers=[list_services, *_OF_ONE]),
            Router("/api/v1/services", route_handlers=[list_services, describe_service]),
            Router("/functions/v1", route_handlers=[*_OF_ONE]),
            Router("/api", route_handlers=[proxy_service, proxy_any]),
        ],
        dependencies={"offer": Provide(_Offers(names), sync_to_thread=False)},
        request_max_body_size=LARGEST_BODY,
    )


def create_services_app(
    engine: Engine,
    names: Collection[str] | None = None,
    *,
    door: Door | None = None,
    alone: str | None = None,
) -> Litestar:
    """A server of an engine's services, and of those executors that are named.

    `door` says who may call, else everybody on this machine. `alone` is the one service that is
    also reached at the root, as on a port of its own.
    """
    names = None if names is None else frozenset(names)
    services = None if names is None else names - EXECUTORS.keys()
    routers = [services_router(services), *executors(names or (), alone=alone)]
    if alone is not None and alone not in EXECUTORS:
        routers.append(_at_the_root(alone, services))
    door = door or Door()

    async def engine_of() -> Engine:
        return engine

    @get("/health", role="public", summary="Whether the server answers")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "backend": engine.backend, "timestamp": engine.now()}

    def admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        door.admit(connection, handler.opt.get("role", "operate"))

    return Litestar(
        route_handlers=[health, *routers],
        dependencies={"engine": Provide(engine_of)},
        guards=[admit],
        exception_handlers=EXCEPTION_HANDLERS,
        before_send=[_secure],
        openapi_config=None,
        request_max_body_size=LARGEST_BODY,
        logging_config=None,
    )


async def _secure(message: Message, _: Scope) -> None:
    """Every answer has the headers that keep browsers from making anything else of it."""
    if message["type"] == "http.response.start":
        secure(message)


class _Offers:
    """Makes what the handlers ask for: one offer for as long as the engine is the same."""

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self._made: Offer | None = None

    def __call__(self, engine: TheEngine) -> Offer:
        if self._made is None or self._made.engine is not engine:
            self._made = Offer(engine, self._names)
        return self._made


def _at_the_root(name: str, names: Collection[str] | None) -> Router:
    @post("/", status_code=200)
    async def call(request: AnyRequest, offer: TheOffer) -> Response[Any]:
        return await _answered(request, offer, name)

    @get("/")
    async def describe(offer: TheOffer) -> ServiceDescription:
        told: ServiceDescription = await describe_service.fn(offer, name)
        return told

    return Router(
        "/",
        route_handlers=[call, describe],
        dependencies={"offer": Provide(_Offers(names), sync_to_thread=False)},
        request_max_body_size=LARGEST_BODY,
    )
