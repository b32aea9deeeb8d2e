"""Servers of services as a process: one for all of them, or one for each on a port of its own."""

import asyncio
import socket
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sequential.runner.engine import Engine
from sequential.web.door import Door
from sequential.web.server import Server, address_of, listening
from sequential.web.services_app import create_services_app


class Served(NamedTuple):
    """A service and where it is reached; `port` is that of its server."""

    name: str
    port: int
    url: str


class ServicesServer:
    """Listens as soon as it is made, answers while `run` runs.

    With `separate` each service has a port of its own, in alphabetical order from `port` on, and is
    reached at the root there, too. Raises `ConfigError` for a port that is taken.
    """

    def __init__(
        self, names: Collection[str], host: str, port: int, *, separate: bool = False
    ) -> None:
        ordered = sorted(names)
        self._names = frozenset(names)
        self._listeners: list[tuple[socket.socket, str | None]] = []
        self.served: list[Served] = []
        try:
            for number, name in enumerate(ordered if separate else [None]):
                listener = listening(host, port + number if port else 0)
                self._listeners.append((listener, name))
        except BaseException:
            self.close()
            raise
        for number, name in enumerate(ordered):
            listener, alone = self._listeners[number if separate else 0]
            url = address_of(listener) + ("" if alone else f"/services/{name}")
            self.served.append(Served(name, listener.getsockname()[1], url))

    async def run(self, engine: Engine, door: Door, stop: asyncio.Event) -> None:
        """Answer until `stop` is set; what is in progress then may end."""
        servers = []
        for _, alone in self._listeners:
            names = self._names if alone is None else {alone}
            app = create_services_app(engine, names, door=door, alone=alone)
            servers.append(Server(app, engine.settings.server))
        serving = [
            asyncio.create_task(server.run_on(listener))
            for server, (listener, _) in zip(servers, self._listeners, strict=True)
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*serving)

    def close(self) -> None:
        """Stop listening."""
        for listener, _ in self._listeners:
            listener.close()


def registry(served: Sequence[Served]) -> list[dict[str, object]]:
    """The services as the original's registry file listed them."""
    return [one._asdict() for one in served]
