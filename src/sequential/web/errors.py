"""How an error leaves the server: a status and `{"error": {"code", "message", "hint"}}`."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.exceptions.http_exceptions import (
    ClientException,
    NotAuthorizedException,
    PermissionDeniedException,
    ValidationException,
)

from sequential.errors import RunBusyError, SequentialError, StorageError

log = logging.getLogger("sequential.web")

SOON = {"Retry-After": "5"}
LONGEST_MESSAGE = 2000  # characters: an error may quote what was sent

# What commands say of the command line, in words of the API.
_HINTS = {
    "run_busy": "try again in a moment",
    "invalid_transition": "GET /api/v1/runs/{id} shows where the run stands",
    "task_not_found": "GET /api/v1/tasks lists the tasks",
    "run_not_found": "GET /api/v1/runs lists the runs",
    "storage_unreachable": "the server's log says more; it goes on when the store is back",
}


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong: `code` is stable, `message` one line, `hint` what to do, if known."""

    code: str
    message: str
    hint: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorDetail


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is answered with a status of its own and one line that says why."""

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", **headers: str
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(code, message, hint)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def error_response(
    status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None
) -> Response[ErrorBody]:
    """An error as the answer to a request."""
    short = msgspec.structs.replace(detail, message=_one_line(detail.message))
    return Response(ErrorBody(short), status_code=status, headers=dict(headers or {}))


def on_refused(request: Request[Any, Any, Any], refused: Refused) -> Response[ErrorBody]:
    _note(request, refused.detail.code)
    return error_response(refused.status, refused.detail, refused.headers)


def on_sequential_error(
    request: Request[Any, Any, Any], error: SequentialError
) -> Response[ErrorBody]:
    """An error of the engine; where a store is, is told to nobody outside."""
    _note(request, error.code)
    status = error.http_status
    hint = _HINTS.get(error.code, "")
    if status >= 500:
        log.error("%s: %s", error.code, error)
        told = f"{type(error).__name__}: see the log of the server"
        headers = SOON if isinstance(error, StorageError) else {}
        return error_response(status, ErrorDetail(error.code, told, hint), headers)
    headers = SOON if isinstance(error, RunBusyError) else {}
    return error_response(status, ErrorDetail(error.code, str(error), hint), headers)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    """What the framework refuses before a handler sees it."""
    detail = _detail(error)
    _note(request, detail.code)
    return error_response(error.status_code, detail, error.headers)


def on_too_deep(request: Request[Any, Any, Any], _: RecursionError) -> Response[ErrorBody]:
    """JSON in which lists or objects are within each other without end."""
    _note(request, "invalid_request")
    detail = ErrorDetail("invalid_request", "what was sent is nested too deeply")
    return error_response(400, detail)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """Something that nobody foresaw: the log has it, the other side does not."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    _note(request, "internal")
    message = "something went wrong here: see the log of the server"
    return error_response(500, ErrorDetail("internal", message))


def _note(request: Request[Any, Any, Any], code: str) -> None:
    """Keep the code for the audit log."""
    request.scope["state"]["error_code"] = code


def _detail(error: HTTPException) -> ErrorDetail:
    match error:
        case NotFoundException():
            return ErrorDetail(
                "not_found", "there is nothing here", "GET /api/v1/openapi.json lists what there is"
            )
        case MethodNotAllowedException():
            return ErrorDetail("method_not_allowed", "this method does not exist here")
        case NotAuthorizedException():
            return ErrorDetail("unauthorized", error.detail)
        case PermissionDeniedException():
            return ErrorDetail("forbidden", error.detail)
        case ValidationException():
            return ErrorDetail("invalid_request", _validation(error))
        case _ if error.status_code == 413:
            return ErrorDetail("too_large", "the body is larger than this server takes")
        case ClientException():
            return ErrorDetail("invalid_request", error.detail)
        case _ if error.status_code < 500:
            return ErrorDetail("invalid_request", error.detail)
        case _:
            return ErrorDetail("internal", "something went wrong here: see the log of the server")


def _validation(error: ValidationException) -> str:
    """Which field is wrong, and why."""
    extra = error.extra if isinstance(error.extra, list) else []
    told = [
        f"{one.get('key', '')}: {one.get('message', '')}".removeprefix(": ")
        for one in extra
        if isinstance(one, dict)
    ]
    return "; ".join(told) or error.detail


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "..."


EXCEPTION_HANDLERS: dict[Any, Any] = {
    Refused: on_refused,
    SequentialError: on_sequential_error,
    HTTPException: on_http_exception,
    RecursionError: on_too_deep,
    Exception: on_unexpected,
}
