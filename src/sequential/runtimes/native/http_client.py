"""`http.client` and what is built on it: urllib, requests, urllib3, httplib2, botocore.

A connection of a task leads to the journal instead of the network: it has a socket that reads the
request and hands out the recorded answer. The libraries notice nothing, so their cookies, streams,
adapters and retries work as ever.
"""

import functools
import io
import os
import socket
from collections.abc import Callable
from typing import Any

from sequential.runtimes.native.execution import Execution
from sequential.runtimes.native.http_message import Request, answer_to, code_of, log_refusal
from sequential.runtimes.native.http_wire import Wire, written
from sequential.runtimes.native.patches import execution

_HTTPS = 443
# Libraries tell these from a failure while an answer is read, and call them by names of their own.
_BEFORE_AN_ANSWER = frozenset({"refused", "unknown_host", "unreachable"})


class _Reading(io.RawIOBase):
    """Bytes that are asked for when somebody reads them: what reads them can bear an error."""

    def __init__(self, ask: Callable[[], bytes]) -> None:
        self._ask = ask
        self._left: memoryview | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left is None:
            self._left = memoryview(self._ask())
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


class JournalSocket:
    """Stands where a connection has its socket.

    `is_early` tells when the call is made: as soon as the request is complete, or when the answer
    is asked for, by libraries that set the timeout for it only then.
    """

    def __init__(self, running: Execution, origin: str, timeout: Any, *, is_early: bool) -> None:
        self.running = running
        self._wire = Wire(origin)
        self._is_early = is_early
        self._request: Request | None = None
        self._answer = b""
        self._error: Exception | None = None
        self.settimeout(timeout)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        """Take a piece of a request."""
        self._request = self._wire.feed(data)
        if self._is_early and self._request is not None:
            try:
                self._call()
            except OSError as error:
                if code_of(error) in _BEFORE_AN_ANSWER:
                    raise
                self._error = error

    def makefile(self, mode: str = "rb", *args: Any, **more: Any) -> io.BufferedReader:
        """The answer, to be read; in the middle of a request, the leave to go on with it."""
        return io.BufferedReader(_Reading(self._read))

    def _read(self) -> bytes:
        if self._error is not None:
            raise self._error
        if self._request is not None:
            self._call()
        return b"HTTP/1.1 100 Continue\r\n\r\n" if self._wire.is_inside else self._answer

    def _call(self) -> None:
        assert self._request is not None
        request, self._request = self._request._replace(timeout=self._timeout), None
        try:
            value = self.running.call_blocking(request.requested(self.running))
        except OSError as error:
            log_refusal(self.running, error)
            if code_of(error) != "unknown_host":
                raise
            unknown = socket.gaierror(socket.EAI_NONAME, str(error))
            vars(unknown).update(vars(error))
            raise unknown from error
        self._answer = written(answer_to(request, value))

    def settimeout(self, seconds: Any) -> None:
        is_given = isinstance(seconds, int | float) and seconds > 0
        self._timeout = float(seconds) if is_given else None

    def gettimeout(self) -> float | None:
        return self._timeout

    def fileno(self) -> int:
        """A file that can be read at any time, for those who ask whether there is an answer."""
        return _always_readable()

    def setsockopt(self, *option: Any) -> None: ...

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...


@functools.cache
def _always_readable() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def patch(module: Any) -> None:
    """Cover `http.client`, the connections of the standard library."""
    patch_connections(module.HTTPConnection)
    if hasattr(module, "HTTPSConnection"):  # missing in a Python without TLS
        patch_connections(module.HTTPSConnection)
    module.HTTPConnection.putrequest = _beginning(module.HTTPConnection.putrequest)


def patch_connections(*kinds: Any, is_early: bool = True) -> None:
    """Cover classes of connections that connect in a way of their own."""
    for kind in kinds:
        kind.connect = _connecting(kind.connect, is_early=is_early)


def patch_urllib3(module: Any) -> None:
    """Cover `urllib3.connection`."""
    patch_connections(module.HTTPConnection, module.HTTPSConnection, is_early=False)


def patch_httplib2(module: Any) -> None:
    """Cover `httplib2`."""
    patch_connections(module.HTTPConnectionWithTimeout, module.HTTPSConnectionWithTimeout)


def _connecting(original: Callable[..., Any], *, is_early: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        running = execution()
        if running is None:
            return original(self, *args, **kwargs)
        self.sock = JournalSocket(running, _origin(self), self.timeout, is_early=is_early)
        if hasattr(self, "is_verified"):
            self.is_verified = True  # by the http service
        return None

    return connect


def _beginning(original: Callable[..., Any]) -> Callable[..., Any]:
    """A connection that was opened outside of the task, or by another one, is not for this one."""

    @functools.wraps(original)
    def putrequest(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.sock is not None and getattr(self.sock, "running", None) is not execution():
            self.close()
        return original(self, *args, **kwargs)

    return putrequest


def _origin(connection: Any) -> str:
    host = getattr(connection, "_tunnel_host", None)  # behind a proxy
    port = connection._tunnel_port if host else connection.port
    host = host or connection.host
    scheme = "https" if connection.default_port == _HTTPS else "http"
    authority = f"[{host}]" if ":" in host else host
    is_default = port in (None, connection.default_port)
    return f"{scheme}://{authority}" if is_default else f"{scheme}://{authority}:{port}"
