"""What every request goes through before it is routed, and every answer before it leaves.

The application of the framework sees a request only if its size, its sender's rate and the page it
comes from are fine; also what the application answers by itself, such as 404, gets the headers.
"""

from typing import Any, cast

import msgspec
from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import (
    HTTPResponseStartEvent,
    HTTPScope,
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Message,
    Receive,
    Scope,
    Send,
)

from sequential.web import origin
from sequential.web.actor import Actor, Connection
from sequential.web.auth import Gate, address_of
from sequential.web.door import is_loopback
from sequential.web.errors import ErrorBody, Refused
from sequential.web.headers import secure
from sequential.web.limits import bounded, check_sizes, refuse_fast, sender_of
from sequential.web.settings import ServerSettings


class Application(Litestar):
    """The framework's application behind what is in this module.

    Its state has the `house`, the `gate`, and `settings`, a function that gives them.
    """

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        await self.state.house.ready()
        asked, read, told = cast("HTTPScope", scope), cast("Receive", receive), cast("Send", send)
        asked["app"] = asked["litestar_app"] = self  # what reads the state of the app wants it
        settings: ServerSettings = self.state.settings()
        answer = _Answer(asked, told, settings)
        address = address_of(answer.connection, settings)
        asked.setdefault("state", {})["address"] = address
        try:
            check_sizes(asked, settings.largest_body)
            _check_rate(self.state.gate, address, settings)
            if await answer.is_preflight():
                return
            origin.check_origin(asked["method"], answer.connection.headers, settings)
        except Refused as refused:
            await answer.refuse(refused)
            return
        await super().__call__(asked, bounded(read, settings.largest_body), answer.send)


async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let in who may do what a handler does; for all handlers of the application."""
    if connection.scope.get("method") == "OPTIONS" or handler.opt.get("role") == "public":
        return
    state = connection.app.state
    engine = await state.house.open()
    await state.gate.admit(connection, handler, engine, connection.scope["state"]["address"])
    connection.scope["state"]["action"] = action_of(handler)


def action_of(handler: BaseRouteHandler) -> str:
    """What the audit log calls what a handler does, as in `runs.cancel`."""
    module = handler.fn.__module__.rpartition(".")[2]
    return str(handler.opt.get("action") or f"{module}.{handler.fn.__name__}")


def _check_rate(gate: Gate, address: str, settings: ServerSettings) -> None:
    if is_loopback(address):
        return
    seconds = gate.requests.wait(sender_of(address), settings.rate, settings.burst)
    if seconds:
        raise refuse_fast(seconds, "requests from this address")


class _Answer:
    """The way out of the server, for one request."""

    def __init__(self, scope: HTTPScope, send: Send, settings: ServerSettings) -> None:
        self.connection: Connection = ASGIConnection(scope)
        self._scope = scope
        self._send = send
        self._settings = settings

    async def send(self, message: Message) -> None:
        """Pass a part of an answer on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            secure(message)
            if self._settings.origins:
                self._share(MutableScopeHeaders(message))
            await self._note(message)
        await self._send(message)

    async def is_preflight(self) -> bool:
        """Answer the question of a browser whether a page of an allowed origin may ask."""
        headers = self.connection.headers
        asked = headers.get("origin", "")
        if (
            self._scope["method"] != "OPTIONS"
            or "access-control-request-method" not in headers
            or not origin.is_allowed(asked, self._settings)
        ):
            return False
        await self._answer(204, b"", origin.preflight_headers(asked))
        return True

    async def refuse(self, refused: Refused) -> None:
        """Answer with an error, without the application."""
        body = msgspec.json.encode(ErrorBody(refused.detail))
        await self._answer(
            refused.status, body, {"content-type": "application/json"} | refused.headers
        )

    async def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        if body:
            raw.append((b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    def _share(self, headers: MutableScopeHeaders) -> None:
        asked = self.connection.headers.get("origin")
        headers.extend_header_value("vary", "Origin")
        if asked is not None and origin.is_allowed(asked, self._settings):
            headers.update(origin.shared_headers(asked))
            headers["cross-origin-resource-policy"] = "cross-origin"

    async def _note(self, message: HTTPResponseStartEvent) -> None:
        """Write what an operator has done into the audit log, before he is told that it is done."""
        actor, noted = self._scope.get("user"), self._scope["state"]
        if not isinstance(actor, Actor) or self._scope["method"] in origin.SAFE_METHODS:
            return
        if not self._settings.audit_days:
            return
        engine = await self.connection.app.state.house.open()
        await engine.audit.record(
            actor.name,
            noted["action"],
            noted.get("subject") or _subject(self._scope),
            address=noted["address"],
            outcome=f"{message['status']} {noted.get('error_code', '')}".strip(),
        )


def note_subject(request: Request[Any, Any, Any], subject: str) -> None:
    """Say in the audit log what a request was about, where its address does not."""
    request.scope["state"]["subject"] = subject


def _subject(scope: HTTPScope) -> str:
    return " ".join(str(value).removeprefix("/") for value in scope.get("path_params", {}).values())
