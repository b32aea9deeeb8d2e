"""From a request to the hop it asks for, and back to a response."""

import html
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from sequential.edge.message import (
    Refused,
    Request,
    Response,
    json_response,
    query_of,
    refusal,
    run_response,
)
from sequential.errors import RunBusyError, SequentialError
from sequential.runner.links import Claim, answer_id

if TYPE_CHECKING:
    from sequential.edge.handler import Edge

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<body style="font-family:sans-serif;text-align:center;margin-top:20vh"><h1>{title}</h1>{rest}
"""
_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_SOON = {"Retry-After": "5"}
log = logging.getLogger("sequential.edge")


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that starts a run."""

    task: str = ""
    input: dict[str, Any] = {}
    id: str | None = None


async def answer(edge: "Edge", request: Request) -> Response:
    """The response to a request; nothing is raised."""
    try:
        if len(request.body) > edge.largest_body:
            raise Refused(413, "too_large", f"the body may have {edge.largest_body} bytes at most")
        return await _route(edge, request)
    except Refused as refused:
        return refusal(refused.status, refused.code, str(refused), refused.headers)
    except SequentialError as error:
        return _told(error)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return refusal(500, "internal", "something went wrong here: see the log of this function")


def _told(error: SequentialError) -> Response:
    status = error.http_status
    if status >= 500:  # the place of a store is not for everybody
        log.error("%s: %s", error.code, error)
        told = f"{type(error).__name__}: see the log of this function"
        return refusal(status, error.code, told, _SOON if status == 503 else {})
    return refusal(status, error.code, str(error), _SOON if isinstance(error, RunBusyError) else {})


async def _route(edge: "Edge", request: Request) -> Response:
    path = request.path
    prefix = urlsplit(edge.base_url).path.rstrip("/")
    if prefix and path.startswith(prefix + "/"):
        path = path.removeprefix(prefix)
    kind, _, rest = path.strip("/").partition("/")
    name, _, more = rest.partition("/")
    match kind, bool(name), bool(more):
        case "tasks", True, False:
            return await _only(request, {"POST": lambda: _start(edge, request, name)})
        case "start", False, False:
            return await _only(request, {"POST": lambda: _start(edge, request, "")})
        case "runs", True, False:
            return await _only(request, {"GET": lambda: _show(edge, request, name)})
        case "resume", True, False:
            return await _only(request, {"POST": lambda: _resume(edge, request, name)})
        case "answer", True, True:
            methods = {
                "POST": lambda: _answer(edge, request, name, more),
                "GET": lambda: _ask(edge, request, name, more),
            }
            return await _only(request, methods)
        case "approve", True, True:
            # Their form is checked by a library that functions without such links do without.
            from sequential.edge import approvals  # noqa: PLC0415

            methods = {
                "POST": lambda: approvals.decide(edge, request, name, more),
                "GET": lambda: approvals.ask(edge, request, name, more),
            }
            return await _only(request, methods)
        case "sweep", False, False:  # timers of some platforms can only GET
            both = {method: lambda: _sweep(edge, request) for method in ("POST", "GET")}
            return await _only(request, both)
        case "health", False, False:
            return await _only(request, {"GET": lambda: _health(edge)})
    raise Refused(404, "not_found", "there is nothing here: see docs/short-lived-functions.md")


async def _only(
    request: Request, methods: Mapping[str, Callable[[], Awaitable[Response]]]
) -> Response:
    handler = methods.get(request.method.upper())
    if handler is None:
        allowed = ", ".join(sorted(methods))
        raise Refused(405, "method_not_allowed", f"use {allowed} here", Allow=allowed)
    return await handler()


async def _start(edge: "Edge", request: Request, task: str) -> Response:
    edge.admit(request)
    asked = _decoded(request.body or b"{}", Start)
    if task and asked.task not in ("", task):
        raise Refused(400, "invalid_input", f"the path says {task}, the body another task")
    if not (name := task or asked.task):
        raise Refused(400, "invalid_input", 'say which task: {"task": "<name>", "input": {}}')
    return run_response(await edge.hops.start(name, asked.input, asked.id, request.seconds_left))


async def _show(edge: "Edge", request: Request, run_id: str) -> Response:
    edge.admit(request)
    return run_response(await edge.hops.get(run_id))


async def _resume(edge: "Edge", request: Request, run_id: str) -> Response:
    edge.check_link("resume", request, run_id)
    return run_response(await edge.hops.resume(run_id, request.seconds_left))


async def _sweep(edge: "Edge", request: Request) -> Response:
    edge.admit(request)
    return json_response(200, {"resumed": await edge.hops.sweep(request.seconds_left)})


async def _health(edge: "Edge") -> Response:
    return json_response(200, {"status": "ok", "backend": edge.backend})


# --- answers -------------------------------------------------------------------------------------


async def _ask(edge: "Edge", request: Request, run_id: str, event: str) -> Response:
    """A page with a button: whatever follows links in e-mails must not count as an answer."""
    edge.check_link("answer", request, run_id, event)
    button = '<form method="post"><button style="font-size:1.5em">Confirm</button></form>'
    return _page(200, event, button)


async def _answer(edge: "Edge", request: Request, run_id: str, event: str) -> Response:
    claim = edge.check_link("answer", request, run_id, event)
    data = _data(request, claim)
    run = await edge.hops.answer(run_id, event, data, answer_id(run_id, event, claim))
    if request.wants_page:
        return _page(200, "Thank you", "")
    return json_response(202, {"id": run.id, "status": run.status})


def _data(request: Request, claim: Claim) -> Any:
    """What is answered: the link says it, or the body does, as JSON or as a form."""
    if claim.has_data:
        return claim.data
    if not request.body:
        return None
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        try:
            return query_of(request.body.decode())
        except ValueError as error:
            raise Refused(400, "invalid_input", f"the body is no form: {error}") from error
    return _decoded(request.body, Any)


def _page(status: int, title: str, rest: str) -> Response:
    page = _PAGE.format(title=html.escape(title), rest=rest)
    return Response(status, _PAGE_HEADERS, page.encode("utf-8", "replace"))


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "invalid_input", f"the body is not right: {error}") from error
