"""Webhooks over HTTP: the addresses that others deliver to, and which there are.

Who delivers has no token: the signature is what lets him in. He learns whether his delivery was
taken and which run it concerns, and of a wrong signature nothing more than that.
"""

import json
import logging
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, PathParameter

from sequential.core.model import Status
from sequential.core.webhook import Answering, Style, Webhook
from sequential.errors import ConfigError, WebhookNotFoundError
from sequential.runner.webhooks import Registered
from sequential.web.errors import SOON, Refused
from sequential.web.handlers import TheEngine, TheSettings, delete, get, post, put
from sequential.web.records import Page
from sequential.web.settings import ServerSettings

log = logging.getLogger("sequential.web")

AnyRequest = Request[Any, Any, Any]
TaskName = Annotated[str, PathParameter(description="the name of a task")]
Name = Annotated[str, PathParameter(description="the name of a webhook of it")]
MOST_FIELDS = 1000  # of a form
_FORM = "application/x-www-form-urlencoded"


class NewWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook to be kept; docs/webhooks.md says what the fields mean."""

    secret: str
    style: Style = "hmac"
    previous_secret: str | None = None
    start: dict[str, str] | None = None
    answer: Answering | None = None
    tolerance: float | None = None


class ListedWebhook(msgspec.Struct, frozen=True):
    """A webhook, where deliveries go to, and what is wrong with it, if anything is."""

    task: str
    webhook: Webhook
    origin: str
    url: str
    problem: str | None = None


class Taken(msgspec.Struct, frozen=True):
    """What became of a delivery: the run it started or answered; before this one if `duplicate`."""

    run: str
    status: Status
    duplicate: bool = False


@post(
    "/webhooks/{task:str}/{name:str}",
    role="public",
    status_code=202,
    summary="Deliver to a webhook",
    responses={200: ResponseSpec(Taken, description="it came before", generate_examples=False)},
)
async def deliver(
    request: AnyRequest, engine: TheEngine, task: TaskName, name: Name
) -> Response[Any]:
    """JSON or a form, signed as the webhook says. Delivered again it does nothing more."""
    body = await request.body()
    headers = {key: request.headers[key] for key in request.headers}
    try:
        received = await engine.webhooks.receive(
            task, name, headers, body, lambda: _content(headers.get("content-type", ""), body)
        )
    except ConfigError as error:
        log.error("a delivery to %s/%s was not taken: %s", task, name, error)
        told = "this webhook cannot be used at the moment: see the log of the server"
        raise Refused(503, "webhook_not_ready", told, **SOON) from None
    if received.run is None:
        return Response(dict(received.greeting or {}), status_code=200)
    taken = Taken(received.run.id, received.run.status, received.duplicate)
    return Response(taken, status_code=200 if received.duplicate else 202)


def _content(content_type: str, body: bytes) -> Any:
    """What a body says, as a JSON tree; a form that has nothing but a `payload` is that JSON."""
    try:
        if content_type.partition(";")[0].strip().lower() != _FORM:
            return _json(body) if body.strip() else None
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
        form = dict(pairs)
        return _json(form["payload"]) if list(form) == ["payload"] else form
    except RecursionError:
        raise Refused(400, "invalid_request", "the body is nested too deeply") from None
    except ValueError as error:
        told = f"the body is neither JSON nor a form: {str(error)[:200]}"
        raise Refused(400, "invalid_request", told) from None


def _json(text: str | bytes) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# --- which there are -----------------------------------------------------------------------------


@get("/webhooks", summary="All webhooks")
async def list_webhooks(
    request: AnyRequest,
    engine: TheEngine,
    settings: TheSettings,
    task: FromQuery[str | None] = None,
) -> Page[ListedWebhook]:
    """By task and name, with those of config.json."""
    found = await engine.webhooks.list(task)
    return Page([_listed(request, settings, one) for one in found])


@get("/webhooks/{task:str}/{name:str}", summary="One webhook")
async def show(
    request: AnyRequest, engine: TheEngine, settings: TheSettings, task: TaskName, name: Name
) -> ListedWebhook:
    return _listed(request, settings, await engine.webhooks.get(task, name))


@put("/webhooks/{task:str}/{name:str}", summary="Keep a webhook")
async def keep(
    request: AnyRequest,
    data: JSONBody[NewWebhook],
    engine: TheEngine,
    settings: TheSettings,
    task: TaskName,
    name: Name,
) -> Response[ListedWebhook]:
    """New (201), or in place of one of its name (200), also of one in config.json."""
    webhooks = engine.webhooks
    webhook = Webhook(name, **msgspec.structs.asdict(data))
    try:
        await webhooks.get(task, name)
        is_new = False
    except WebhookNotFoundError:
        is_new = True
    kept = await webhooks.set(task, webhook)
    return Response(_listed(request, settings, kept), status_code=201 if is_new else 200)


@delete("/webhooks/{task:str}/{name:str}", summary="Remove a webhook")
async def remove(engine: TheEngine, task: TaskName, name: FromPath[str]) -> None:
    """One of its name in config.json counts again."""
    await engine.webhooks.delete(task, name)


def public_url(request: AnyRequest, settings: ServerSettings) -> str:
    """Where this server is reached, without a slash at the end."""
    return (settings.public_url or str(request.base_url)).rstrip("/")


def _listed(request: AnyRequest, settings: ServerSettings, one: Registered) -> ListedWebhook:
    url = public_url(request, settings) + one.path
    return ListedWebhook(one.task, one.webhook, one.origin, url, one.problem)


HANDLERS = [list_webhooks, show, keep, remove]
PUBLIC_HANDLERS = [deliver]
