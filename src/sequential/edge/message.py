"""What goes in and out of `Edge.handle`: a request and a response as plain data."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sequential.core.model import TaskRun
from sequential.errors import ConfigError

_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_encoder = msgspec.json.Encoder()


class Request(msgspec.Struct, frozen=True):
    """One HTTP request.

    `path` is decoded and begins behind `base_url`; names of `headers` are in lower case; of query
    fields that come more than once, the last counts. `base_url` is where the platform says that
    this function is reached from outside; it is empty where only the header `Host` tells.
    `seconds_left` is how long this invocation may take, if the platform tells.
    """

    method: str
    path: str
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: bytes = b""
    base_url: str = ""
    seconds_left: float | None = None

    @property
    def host_url(self) -> str:
        """Where the sender says that it has reached this function; empty when it does not say."""
        host = self.headers.get("host", "")
        if not host or not set(host).isdisjoint("/?#@\\ \t\r\n"):
            return ""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if not name:
            return ""
        usual = "http" if name == "localhost" or name.startswith("127.") else "https"
        said = self.headers.get("x-forwarded-proto", usual)
        return f"{said if said in ('http', 'https') else usual}://{host}"

    @property
    def wants_page(self) -> bool:
        """Whether a person in a browser asks."""
        return "text/html" in self.headers.get("accept", "")


class Response(msgspec.Struct, frozen=True):
    """One HTTP response."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is answered with a status of its own and one line that says why."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Event(msgspec.Struct, frozen=True):
    """What a queue or a timer tells a function: the run to go on with; none: look what is due."""

    resume: str | None = None


def event_from(text: str | bytes) -> Event:
    """The event in a message of a queue, `{"resume": "<run>"}` or `{}`; raises `ValueError`."""
    return msgspec.json.decode(text, type=Event)


def json_response(status: int, document: Any, headers: Mapping[str, str] = {}) -> Response:
    """A document as JSON, which no cache may keep."""
    kind = {"Content-Type": "application/json"}
    return Response(status, {**kind, **_PRIVATE, **headers}, _encoder.encode(document))


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] = {}) -> Response:
    """What went wrong in one line, and a word for machines."""
    line = " ".join(message.split())
    return json_response(status, {"error": line, "code": code}, headers)


def run_response(run: TaskRun) -> Response:
    """A run as its starter sees it: 200 when it is over, 202 while it goes on."""
    document: dict[str, Any] = {
        "id": run.id,
        "task": run.task_identifier,
        "status": run.status,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
    }
    if run.status.is_final:
        document |= {"ended_at": run.ended_at, "result": run.result}
        if run.error:
            error = run.error
            document["error"] = {"type": error.type, "message": error.message, "code": error.code}
    elif run.wake_at:
        document["wake_at"] = run.wake_at
    return json_response(200 if run.status.is_final else 202, document)


def query_of(text: str) -> dict[str, str]:
    """The fields of a query string; raises `ValueError` for more than anybody needs."""
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))


def checked_url(url: str) -> str:
    """An address without a slash at its end; raises `ConfigError` when it cannot be one."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_right = False
    if not is_right:
        raise ConfigError(f"{url!r} is not the address of a function: use https://<host>")
    return url.rstrip("/")
