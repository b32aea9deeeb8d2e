"""The server as a process: listens, answers, and leaves in good order when it is told to."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import uvicorn
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from sequential.errors import ConfigError
from sequential.web.errors import ErrorBody, ErrorDetail
from sequential.web.punctual import Patience, punctual
from sequential.web.settings import ServerSettings

GRACE = 10.0  # seconds in which requests in progress may end once the server is told to stop
KEEP_ALIVE = 30  # seconds that an idle connection is kept

_CROWDED = ErrorDetail("too_many_connections", "the server has too many connections")


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; raises `ConfigError` that says who may be in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only with the protocol named, asyncio sets TCP_NODELAY: else answers come 40 ms late.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(2048)
    except (OSError, OverflowError) as error:
        made.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {why}; choose another one with --port"
        ) from error
    made.setblocking(False)
    return made


def address_of(listener: socket.socket) -> str:
    """Where a socket is reached, as a URL."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what it is reached at from here
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Serves an application of `create_app` until `stop`; signals are the caller's to handle."""

    def __init__(self, app: Litestar, settings: ServerSettings | None = None) -> None:
        settings = settings or ServerSettings()
        patience = Patience(settings.head_timeout, settings.body_timeout)
        super().__init__(
            uvicorn.Config(
                self._admit,
                http=cast("Any", punctual(patience)),
                ws="none",
                interface="asgi3",
                log_config=None,
                log_level="error",  # what others send wrongly is no news
                access_log=False,
                server_header=False,
                date_header=True,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=int(GRACE),
            )
        )
        self._app = app
        self._most = settings.most_connections

    async def run_on(self, listener: socket.socket) -> None:
        """Serve until told to stop; what was in progress has ended or is parked then."""
        await self.serve(sockets=[listener])

    def stop(self) -> None:
        """Take no more requests, let those that wait and those that follow end, then leave."""
        self.should_exit = True
        self._app.state.house.drain()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless there are too many connections already."""
        if scope["type"] == ScopeType.HTTP and len(self.server_state.connections) > self._most:
            await _refuse(send)
        else:
            await self._app(scope, receive, send)


async def _refuse(send: Send) -> None:
    """Say that there is no room, and close, so that there is."""
    body = msgspec.json.encode(ErrorBody(_CROWDED))
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "retry-after": "5",
        "connection": "close",
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 503, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": False})
