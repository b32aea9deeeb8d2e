"""A request of an HTTP library as a call of the run, and the answer as that library knows it.

Each exchange is one `http.fetch`: the journal has it, `allow.hosts` holds for it, and a replay gets
the recorded answer. Following redirects and trying again stay with the library, which does both by
making further requests.
"""

from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sequential.core.model import Failure
from sequential.runtimes.native.execution import Execution, Requested

Headers = list[tuple[str, str]]

# They belong to a connection, and the http service has connections of its own.
_OF_CONNECTION = frozenset({
    "connection", "content-length", "expect", "host", "http2-settings", "keep-alive",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
})  # fmt: skip
_UNPACKED = frozenset({"gzip", "x-gzip", "deflate"})  # what the http service unpacks
_FRAMING = frozenset({"connection", "keep-alive", "trailer", "transfer-encoding"})
_PORTS = {"http": 80, "https": 443}


class Request(NamedTuple):
    """What a library wants to send. `timeout` is seconds for all of it, None means the default."""

    method: str
    url: str
    headers: Headers
    body: bytes = b""
    timeout: float | None = None

    def requested(self, running: Execution) -> Requested:
        """The call. What a replay has to repeat of it is the method, the URL and the body.

        Headers are not part of that: SDKs put times and trace ids into them. `ValueError` and
        `RuntimeError` for what a shared connection cannot do.
        """
        self.check()
        options: dict[str, Any] = {
            "url": self.url,
            "method": self.method,
            "headers": self._headers(),
            "retries": 0,
            "follow_redirects": False,
        }
        if self.body:
            options["data"] = _text(self.body)
        if self.timeout:
            options["timeout"] = float(self.timeout)
        identity = {name: options.get(name) for name in ("method", "url", "data")}
        return running.requested("http", "fetch", (), options, identity)

    def check(self) -> None:
        """Raise for what cannot be done on connections that tasks share."""
        given = {name.lower(): value for name, value in self.headers}
        if "upgrade" in given:
            raise RuntimeError(
                "a native task cannot keep a connection open, which would not survive it: use "
                "`await step(function, ...)` for WebSockets and other upgrades"
            )
        if not _same_site(given.get("host"), self.url):
            raise ValueError(
                f"the header Host names {given['host']}, which is not the host of the URL "
                f"{self.url.partition('?')[0]}: put it into the URL"
            )

    def _headers(self) -> list[list[str | None]]:
        headers: list[list[str | None]] = []
        for name, value in self.headers:
            key = name.lower()
            # The service unpacks what it asks for, so the journal holds readable answers.
            if key == "accept-encoding" and value.strip().lower() != "identity":
                continue
            if key not in _OF_CONNECTION:
                headers.append([name, value])
        has_type = any(name.lower() == "content-type" for name, _ in self.headers)
        if not has_type and (self.body or self.method not in ("GET", "HEAD")):
            headers.append(["Content-Type", None])  # else one would be guessed
        return headers


class Answer(NamedTuple):
    """What came back, unpacked and whole."""

    status: int
    headers: Headers
    body: bytes

    @property
    def reason(self) -> str:
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return ""


def answer_to(request: Request, value: Any) -> Answer:
    """The answer that `http.fetch` returned, with headers that fit the body as it is now."""
    content = value.get("content")
    body: bytes = value["text"].encode() if content is None else content
    headers = [(name, text) for name, text in value["headers"] if name.lower() not in _FRAMING]
    if request.method == "HEAD" or value["status"] in (204, 304):
        return Answer(value["status"], headers, b"")
    headers = [pair for pair in headers if not _is_done(*pair)]
    return Answer(value["status"], [*headers, ("Content-Length", str(len(body)))], body)


def code_of(error: Exception) -> str:
    """What kind of failure a call ended with.

    `refused` (the task may not reach the host), `unknown_host`, `unreachable`, `connect_timeout`,
    `timeout` or `network`.
    """
    failure = getattr(error, "failure", None)
    if isinstance(failure, Failure):
        return failure.code
    return "timeout" if isinstance(error, TimeoutError) else "network"


def log_refusal(running: Execution, error: Exception) -> None:
    """Put into the run's log that a host may not be reached: SDKs hide the reason as a rule."""
    if code_of(error) == "refused":
        running.write(f"{error}\n")


def _is_done(name: str, value: str) -> bool:
    """Whether a header tells how to read a body that has been read."""
    key = name.lower()
    packing = key == "content-encoding" and value.strip().lower() in _UNPACKED
    return packing or key == "content-length"


def _text(body: bytes) -> str | bytes:
    """As text where it is some, so that people can read it in the journal."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _same_site(host: str | None, url: str) -> bool:
    parts = urlsplit(url)
    authority = parts.netloc.rpartition("@")[2].lower()
    default = f":{_PORTS.get(parts.scheme, 0)}"
    return host is None or host.lower().removesuffix(default) == authority.removesuffix(default)
