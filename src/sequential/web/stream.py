"""Live news over HTTP as Server-Sent Events: of one run, and of all.

A client that comes back says with `Last-Event-ID` what it has had; browsers do that by themselves.
What it missed comes first then, or the event `reset`, which asks it to load what it shows again.
"""

import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from litestar import Request
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, HeaderParameter, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Send

from sequential.core.model import Status
from sequential.errors import StorageError
from sequential.web.channel import EVERYTHING, Wanted, event, joined
from sequential.web.followed import AllRuns, FollowedRun
from sequential.web.handlers import TheEngine, get
from sequential.web.hub import Hub
from sequential.web.runs import RunId, found

HEARTBEAT = 15.0  # seconds without news after which a comment keeps the connection in use
LONGEST = 900.0  # seconds; then the client comes back, and its token is looked at again
RETRY = b"retry: 2000\n\n"  # milliseconds until a browser comes back
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="the id of the last event that was had"),
]
LastId = Annotated[
    str | None,
    QueryParameter(description="the same, for clients that cannot set a header"),
]
Stream = AsyncGenerator[bytes, None]
_RESPONSES = {
    200: ResponseSpec(str, media_type="text/event-stream", generate_examples=False),
    204: ResponseSpec(None, description="there is nothing more: do not come back"),
}


@get("/runs/{run_id:str}/events", summary="One run, live", responses=_RESPONSES)
async def follow_run(
    request: Request[Any, Any, Any],
    engine: TheEngine,
    run_id: RunId,
    last: LastEventId = None,
    last_event_id: LastId = None,
) -> ASGIResponse:
    """Server-Sent Events, at most ten times a second, always with the last state.

    `run` is the run as it is, which also comes first, `call` a call that is new or has changed,
    `log` a line that was printed, `end` says that the run is over, `gone` that it was removed.
    """
    run = await found(engine, run_id)
    hub: Hub = request.app.state.house.hub
    had = last or last_event_id
    if run.status.is_final and had:
        async with hub.following(run.id) as channel:
            if channel.is_known_end(had):
                return ASGIResponse(status_code=204)
    return _Streamed(_events(hub, hub.following(run.id), had))


@get("/events", summary="All runs, live", responses=_RESPONSES)
async def follow_all(
    request: Request[Any, Any, Any],
    engine: TheEngine,  # asking for it opens it
    task: FromQuery[str | None] = None,
    status: FromQuery[list[Status] | None] = None,
    last: LastEventId = None,
    last_event_id: LastId = None,
) -> ASGIResponse:
    """Server-Sent Events: what happens from now on, or since the last event that was had.

    `run` is a run that is new or has changed, `gone` one that was removed. With `task` only runs of
    it, with `status` only those that have or had that status.
    """
    hub: Hub = request.app.state.house.hub
    wanted = Wanted.of(task, status or ())
    return _Streamed(_events(hub, hub.following_all(), last or last_event_id, wanted))


HANDLERS = [follow_run, follow_all]


class _Streamed(ASGIStreamingResponse):
    """Sends what a generator gives, and closes it when the client has gone."""

    def __init__(self, pieces: Stream) -> None:
        super().__init__(iterator=pieces, media_type="text/event-stream", headers=dict(HEADERS))
        self._pieces = pieces

    async def send_body(self, send: Send, receive: Receive) -> None:
        async with contextlib.aclosing(self._pieces):
            await super().send_body(send, receive)


async def _events(
    hub: Hub,
    following: AbstractAsyncContextManager[FollowedRun | AllRuns],
    last: str | None,
    wanted: Wanted = EVERYTHING,
) -> Stream:
    """The events for one client, until there are no more or the server wants to end."""
    end = time.monotonic() + LONGEST
    yield RETRY
    with contextlib.suppress(StorageError):  # the client comes back, and is told then
        async with following as channel:
            number = channel.number
            yield await channel.missed(last, wanted) if last else channel.first()
            while not channel.is_over or channel.number > number:
                if hub.is_draining or time.monotonic() > end:
                    yield event("bye", {})
                    return
                if not await channel.wait(number, HEARTBEAT):
                    yield b": still here\n\n"
                    continue
                news, number = channel.after(number), channel.number
                yield channel.again() if news is None else joined(news, wanted)
