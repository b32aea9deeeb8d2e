"""For any ASGI server: `app = application(edge)`, with no framework in between.

Functions hang up as soon as they have asked for the next one. So a request counts although its
sender is gone, and a server that cancels what nobody waits for cancels no run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from sequential.edge.handler import Edge
from sequential.edge.message import Request, Response, query_of, refusal

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

_underway: set[asyncio.Future[Response]] = set()  # so that they are not lost before they are done


def application(edge: Edge, *, base_url: str = "") -> Application:
    """An ASGI application; `base_url` is where the platform says that it is reached."""

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await _live(edge, receive, send)
        elif scope["type"] == "http":
            await _respond(edge, scope, receive, send, base_url)

    return app


async def _live(
    edge: Edge,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Close the engine when the server ends; the first request opens it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await edge.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "lifespan.startup.complete"})


async def _respond(
    edge: Edge,
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
    base_url: str,
) -> None:
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }
    headers.setdefault("x-forwarded-proto", scope.get("scheme", "https"))
    body = await _body(receive, edge.largest_body) if _has_body(headers) else b""
    if body is None:
        return
    try:
        request = Request(
            scope["method"],
            scope["path"].removeprefix(scope.get("root_path", "")),
            headers,
            query_of(scope["query_string"].decode("latin-1")),
            body,
            base_url,
        )
    except ValueError:
        response = refusal(400, "invalid_input", "the query has too many fields")
    else:
        handling = asyncio.ensure_future(edge.handle(request))
        _underway.add(handling)
        handling.add_done_callback(_underway.discard)
        response = await asyncio.shield(handling)
    encoded = [(n.lower().encode(), v.encode("latin-1")) for n, v in response.headers.items()]
    encoded.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": response.body})


def _has_body(headers: Mapping[str, str]) -> bool:
    """Whether there is more to come, so that one has to wait for it."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _body(receive: Callable[[], Awaitable[Message]], most: int) -> bytes | None:
    """The body, or as much of it as shows that it is too large; None when the sender is gone."""
    parts, size, more = [], 0, True
    while more and size <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    return b"".join(parts)
