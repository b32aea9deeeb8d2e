"""What the server of a project that somebody works on answers besides: its page and its state."""

import time
from importlib.resources import files
from typing import Any

from litestar import Litestar, Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response.streaming import ASGIStreamingResponse

from sequential.runner.engine import Engine
from sequential.web.app import create_app
from sequential.web.handlers import get
from sequential.web.settings import ServerSettings
from sequential.web.stream import HEADERS, HEARTBEAT, LONGEST, RETRY, Stream
from sequential.web.workshop import State, Workshop

_STATIC = files("sequential.web") / "static"
_KINDS = {"dev.html": "text/html", "dev.css": "text/css", "dev.js": "text/javascript"}


def dev_app(engine: Engine, settings: ServerSettings, workshop: Workshop) -> Litestar:
    """The server of an engine that others drive, with what a workshop has to show."""
    app = create_app(engine, settings, drive=False)
    app.state.workshop = workshop
    app.register(Router("/dev", route_handlers=[page, part, state, events]))
    return app


@get("/", include_in_schema=False, sync_to_thread=False)
def page() -> Response[bytes]:
    """The page; what it shows comes by its script."""
    return _file("dev.html")


@get("/{name:str}", include_in_schema=False, sync_to_thread=False)
def part(name: FromPath[str]) -> Response[bytes]:
    """What belongs to the page: its style and its script."""
    if name not in _KINDS:
        raise NotFoundException
    return _file(name)


@get("/state", include_in_schema=False, sync_to_thread=False)
def state(request: Request[Any, Any, Any]) -> State:
    """Tasks and what is wrong, as it is at the moment."""
    workshop: Workshop = request.app.state.workshop
    return workshop.state()


@get("/events", include_in_schema=False, sync_to_thread=False)
def events(request: Request[Any, Any, Any]) -> ASGIStreamingResponse:
    """The same as Server-Sent Events named `state`: at first, and whenever it has changed."""
    told = _told(request.app.state.workshop)
    headers = dict(HEADERS)
    return ASGIStreamingResponse(iterator=told, media_type="text/event-stream", headers=headers)


async def _told(workshop: Workshop) -> Stream:
    channel, end = workshop.channel, time.monotonic() + LONGEST
    yield RETRY
    number = -1
    while time.monotonic() < end:
        if channel.number > number:
            number = channel.number
            yield b"".join(piece.data for piece in channel.newest("state"))
        elif channel.is_over:
            return
        elif not await channel.wait(number, HEARTBEAT):
            yield b": still here\n\n"


def _file(name: str) -> Response[bytes]:
    return Response((_STATIC / name).read_bytes(), media_type=_KINDS[name])
