"""aiohttp: connections of a task that lead to the journal instead of the network."""

import asyncio
import errno
import functools
import socket
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

from sequential.core.model import Frame
from sequential.runtimes.native.execution import CallFuture, Execution
from sequential.runtimes.native.http_message import Request, answer_to, code_of, log_refusal
from sequential.runtimes.native.http_wire import Wire, written
from sequential.runtimes.native.patches import execution


class _Asked(NamedTuple):
    """What the connection of a request does not know: how long it may take, and who asked."""

    seconds: float | None = None
    where: Frame | None = None


_asked: ContextVar[_Asked] = ContextVar("asked", default=_Asked())  # noqa: B039 - it is frozen


def patch(library: Any) -> None:
    """Cover all sessions of the library; our own, which has a thread of its own, is no task's."""
    session, connector = library.ClientSession, library.TCPConnector
    session._request = _requesting(library, session._request)
    connector._create_connection = _connecting(library, connector._create_connection)


def _requesting(library: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Hand the timeout on: kept by aiohttp, each request would set durable timers of its own."""

    @functools.wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        running = execution()
        if running is None:
            return original(self, *args, **kwargs)
        # The line is known now; the request may begin in a task that `gather` makes.
        asked = _Asked(_seconds(library, self, kwargs), running.places.of_call())
        return requested(asked, self, args, kwargs)

    async def requested(asked: _Asked, self: Any, args: Any, kwargs: Any) -> Any:
        token = _asked.set(asked)
        try:
            unlimited = library.ClientTimeout(total=None)
            return await original(self, *args, **{**kwargs, "timeout": unlimited})
        finally:
            _asked.reset(token)

    return request


def _seconds(library: Any, session: Any, options: Mapping[str, Any]) -> float | None:
    given = options.get("timeout", session.timeout)
    if given is None or isinstance(given, int | float):
        return given
    if not isinstance(given, library.ClientTimeout):  # a mark that says "the session's own"
        given = session.timeout
    seconds: float | None = given.total or given.sock_read
    return seconds


def _connecting(library: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def create_connection(self: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
        running = execution()
        if running is None:
            return await original(self, req, *args, **kwargs)
        headers = [(str(name), str(value)) for name, value in req.headers.items()]
        Request(req.method, str(req.url), headers).check()
        protocol = self._factory()
        errors = functools.partial(_own_error, library, req.connection_key)
        protocol.connection_made(JournalTransport(running, str(req.url.origin()), protocol, errors))
        return protocol

    return create_connection


class JournalTransport(asyncio.Transport):
    """Stands where a connection has its transport."""

    def __init__(
        self,
        running: Execution,
        origin: str,
        protocol: Any,
        own_error: Callable[[Exception], Exception],
    ) -> None:
        super().__init__()
        self._running = running
        self._wire = Wire(origin)
        self._protocol = protocol
        self._own_error = own_error
        self._call: CallFuture | None = None
        self._is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take a piece of a request; the call is made when it is complete."""
        request = self._wire.feed(data)
        if request is None:
            return
        asked = _asked.get()
        request = request._replace(timeout=asked.seconds)
        try:
            call = request.requested(self._running)._replace(where=asked.where)
            self._call = self._running.call_later(call)
        except Exception as error:
            self._fail(error)
        else:
            self._call.add_done_callback(functools.partial(self._deliver, request))

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(pieces))

    def _deliver(self, request: Request, call: "asyncio.Future[Any]") -> None:
        if call.cancelled() or self._is_closed:
            return
        error = call.exception()
        if error is None:
            self._protocol.data_received(written(answer_to(request, call.result())))
        elif isinstance(error, OSError):
            log_refusal(self._running, error)
            self._fail(self._own_error(error))
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._protocol.set_exception(error)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._call is not None:
            self._call.cancel()
        self._running.loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def _own_error(library: Any, key: Any, error: OSError) -> Exception:
    """The exception that aiohttp has for this, with our message."""
    code = code_of(error)
    own: Exception
    if code == "timeout":
        own = library.SocketTimeoutError(str(error))
    elif code == "connect_timeout":
        own = library.ConnectionTimeoutError(str(error))
    elif code == "network":
        own = library.ServerDisconnectedError(str(error))
    elif code == "unknown_host":
        reason = socket.gaierror(socket.EAI_NONAME, str(error))
        own = library.ClientConnectorDNSError(key, reason)
    else:  # it shows the text that belongs to a number
        number = errno.EACCES if code == "refused" else errno.EHOSTUNREACH
        own = library.ClientConnectorError(key, OSError(number, str(error)))
    own.__cause__ = error
    return own
