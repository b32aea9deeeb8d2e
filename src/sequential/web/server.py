"""The server as a process: listens, answers, and leaves in good order when it is told to."""

import asyncio
import socket
from types import FrameType

import uvicorn
from litestar import Litestar

from sequential.errors import ConfigError

GRACE = 10.0  # seconds in which requests in progress may end once the server is told to stop
KEEP_ALIVE = 30  # seconds that an idle connection is kept


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
    """Serves an application of `create_app` until SIGTERM, SIGINT or `stop`."""

    def __init__(self, app: Litestar) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=int(GRACE),
            )
        )
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run_on(self, listener: socket.socket) -> None:
        """Serve until told to stop; what was in progress has ended or is parked then."""
        self._loop = asyncio.get_running_loop()
        await self.serve(sockets=[listener])

    def stop(self) -> None:
        """Take no more requests, let those that wait end, then leave."""
        self.should_exit = True
        self._app.state.house.drain()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._app.state.house.drain)
