"""What can go wrong between a client and a server, besides what an engine raises itself.

Errors of the engine arrive as they are: the class is found by the `code` that the server sends. All
that has no class of its own is a `RemoteError`; a service's failure is a `ServiceError`. Where no
usable answer came, the classes below are also what Python has for it, so `except ConnectionError`
and `except TimeoutError` work.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from sequential import errors
from sequential.errors import SequentialError

LONGEST_SHOWN = 200  # characters of an answer that is no JSON


class RemoteError(SequentialError):
    """The server refused the request, or failed.

    `code` is the server's word for it, such as `unauthorized`, `status` the HTTP status, `hint`
    what the server says to do about it, which may be nothing.
    """

    code = "remote_error"
    http_status = 502

    def __init__(self, message: str, *, code: str, status: int, hint: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint and hint not in message else message)
        self.code = code  # type: ignore[misc]  # the server's, not the class's
        self.status = status
        self.hint = hint


class ServiceError(RemoteError):
    """A service's method failed, or could not be called.

    `name` is the exception's name where it was raised, empty if the server does not say it; `code`
    and `status` are as the service gave them.
    """

    code = "service_error"

    def __init__(
        self, message: str, *, code: str, status: int, hint: str = "", name: str = ""
    ) -> None:
        super().__init__(message, code=code, status=status, hint=hint)
        self.name = name


class NoAnswerError(SequentialError, ConnectionError):
    """The server cannot be reached, or the connection broke before its answer was complete."""

    code = "no_answer"
    http_status = 502


class AnswerTimeoutError(SequentialError, TimeoutError):
    """The server did not answer in time: look whether it is busy, or allow more seconds."""

    code = "answer_timeout"
    http_status = 504


class BadAnswerError(SequentialError):
    """The answer is not one of this API: check the address, and what stands before the server."""

    code = "bad_answer"
    http_status = 502


def _below(kind: type[SequentialError]) -> Iterator[type[SequentialError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


# Only classes of `sequential.errors`: each of them can be made of a message alone.
_CLASSES: dict[str, type[SequentialError]] = {
    **{one.code: one for one in _below(SequentialError) if one.__module__ == errors.__name__},
    "invalid_config": errors.ConfigError,
    "invalid_request": errors.InvalidInputError,
}


def engine_error(status: int, body: Any) -> SequentialError:
    """The exception for an answer of the API that is no success."""
    detail = _detail(status, body)
    kind = _CLASSES.get(detail["code"])
    return RemoteError(status=status, **detail) if kind is None else kind(detail["message"])


def service_error(status: int, body: Any) -> ServiceError:
    """The exception for an answer of a service that is no success."""
    told = body.get("error") if isinstance(body, Mapping) else None
    more = told if isinstance(told, Mapping) else {}
    name, inner = more.get("name"), more.get("status")
    is_status = isinstance(inner, int) and not isinstance(inner, bool)
    return ServiceError(
        status=inner if is_status and isinstance(inner, int) else status,
        name=name if isinstance(name, str) else "",
        **_detail(status, body),
    )


def _detail(status: int, body: Any) -> dict[str, str]:
    """`code`, `message` and `hint` of `{"error": {...}}`, of `{"error": "text"}`, or of no JSON."""
    told = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(told, str):
        told = {"message": told}
    if not isinstance(told, Mapping):
        told = {}
    message = told.get("message")
    shown = body if isinstance(body, str) else ""
    return {
        "code": str(told.get("code") or f"http_{status}"),
        "message": str(message) if message else f"the server answered {_status(status)}{shown}",
        "hint": str(told.get("hint") or ""),
    }


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
