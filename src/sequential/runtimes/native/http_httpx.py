"""httpx, and httpx2 that continues it: their network transports. Others stay as they are."""

import functools
from collections.abc import Callable
from typing import Any

from sequential.runtimes.native.http_message import (
    Answer,
    Request,
    answer_to,
    code_of,
    log_refusal,
)
from sequential.runtimes.native.patches import execution

_ERRORS = {
    "refused": "ConnectError",
    "unknown_host": "ConnectError",
    "unreachable": "ConnectError",
    "connect_timeout": "ConnectTimeout",
    "timeout": "ReadTimeout",
    "network": "ReadError",
}


def patch(library: Any) -> None:
    """Cover all clients of the library, those of SDKs included."""
    plain, later = library.HTTPTransport, library.AsyncHTTPTransport
    plain.handle_request = _handling(library, plain.handle_request)
    later.handle_async_request = _handling_later(library, later.handle_async_request)


def _handling(library: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        running = execution()
        if running is None:
            return original(self, request)
        asked = _request(self, request, request.read())
        try:
            value = running.call_blocking(asked.requested(running))
        except OSError as error:
            log_refusal(running, error)
            raise _own_error(library, request, error) from error
        return _response(library, answer_to(asked, value))

    return handle_request


def _handling_later(library: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        running = execution()
        if running is None:
            return await original(self, request)
        asked = _request(self, request, await request.aread())
        try:
            value = await running.call_later(asked.requested(running))
        except OSError as error:
            log_refusal(running, error)
            raise _own_error(library, request, error) from error
        return _response(library, answer_to(asked, value))

    return handle_async_request


def _request(transport: Any, request: Any, body: bytes) -> Request:
    if getattr(transport._pool, "_uds", None):
        raise RuntimeError(
            "a native task cannot open a Unix socket, which would not survive it: use "
            "`await step(function, ...)`"
        )
    url = request.url  # without user and password, which are in a header by now
    target = b"%b://%b%b" % (url.raw_scheme, url.netloc, url.raw_path)
    headers = [(_text(name), _text(value)) for name, value in request.headers.raw]
    timeout = request.extensions.get("timeout", {}).get("read")
    return Request(request.method, target.decode(), headers, body, timeout)


def _response(library: Any, answer: Answer) -> Any:
    extensions = {"http_version": b"HTTP/1.1", "reason_phrase": answer.reason.encode("ascii")}
    return library.Response(
        answer.status,
        headers=[(name.encode(), value.encode()) for name, value in answer.headers],
        stream=library.ByteStream(answer.body),
        extensions=extensions,
    )


def _own_error(library: Any, request: Any, error: OSError) -> Exception:
    kind = getattr(library, _ERRORS.get(code_of(error), "ReadError"))
    own: Exception = kind(str(error), request=request)
    return own


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
