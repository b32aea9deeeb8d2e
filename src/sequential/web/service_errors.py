"""How the failure of a call leaves the server: a status, and who is to blame in words.

A status of 5xx, and 429, says that another attempt may do better. All others say that the same
call will fail again, or must not be made again: of a method that is not declared safe or idempotent
nobody knows what an attempt that was given up has done.
"""

from typing import Any, NamedTuple

from litestar import Response

from sequential.services.base import CallError, TryAgain
from sequential.web.chains import ChainError, ModuleRefusedError
from sequential.web.errors import Refused

_BY_CODE = {
    "unknown_service": 404,
    "unknown_method": 404,
    "invalid_call": 400,
    "value_not_supported": 400,
    "refused": 403,
    "missing_extra": 501,
    "internal": 500,
}
_BY_TYPE = {"PermissionError": 403, "LookupError": 404, "KeyError": 404, "FileNotFoundError": 404}
# The words of the original's client for the same.
_PROXY_CODES = {400: "INVALID_CHAIN_FORMAT", 403: "SDK_INIT_ERROR", 404: "NOT_FOUND"}


class Failed(NamedTuple):
    """A call that failed, as the other side is told."""

    status: int
    code: str
    message: str
    name: str  # of the exception, as a task would see it
    retry_after: float | None = None
    value: tuple[Any, ...] = ()  # what the call gives if no other attempt is made

    def response(self, *, proxy: bool = False) -> Response[Any]:
        """The answer to the request; with `proxy` in the words of the original's client."""
        code = self.code
        if proxy:
            code = _PROXY_CODES.get(self.status, "CHAIN_EXECUTION_ERROR")
        body: dict[str, Any] = {
            "error": {
                "message": " ".join(self.message.split()),
                "code": code,
                "status": self.status,
                "name": self.name,
                "hint": "",
            }
        }
        if self.value:
            body["result"] = self.value[0]
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return Response(body, status_code=self.status, headers=headers)


def failed(error: CallError | TryAgain | ChainError | Refused) -> Failed:
    """What is told of an error."""
    match error:
        case ModuleRefusedError():
            return Failed(403, "forbidden", str(error), "PermissionError")
        case ChainError():
            return Failed(400, "invalid_request", str(error), "ValueError")
        case Refused():
            return Failed(error.status, error.detail.code, error.detail.message, "RuntimeError")
        case TryAgain():
            return _later(error)
    failure = error.failure
    status = _BY_CODE.get(failure.code) or _BY_TYPE.get(failure.type, 422)
    return Failed(status, failure.code, failure.message, failure.type)


def _later(again: TryAgain) -> Failed:
    failure = again.outcome.error
    if failure is None:
        told = "the service asks for another attempt"
        value = (again.outcome.value,)
        return Failed(503, "try_again", told, "RuntimeError", again.retry_after, value)
    status = 504 if failure.type == "TimeoutError" else 503
    return Failed(status, failure.code, failure.message, failure.type, again.retry_after)
