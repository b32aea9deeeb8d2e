"""HTTP/1.1 for clients that may be slow or up to no good: a request has to arrive in time.

uvicorn closes connections that are idle between two requests; a client that sends a byte now and
then would keep one for as long as it likes. Here the head of a request and its body have a time
limit each, counted from their beginning.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from sequential.web.errors import ErrorBody, ErrorDetail

_LATE = ErrorDetail("too_slow", "the request did not arrive in time")


class Patience(NamedTuple):
    """Seconds in which the head of a request and its body have to arrive."""

    head: float
    body: float


class PunctualProtocol(H11Protocol):
    """The protocol of uvicorn with limits for what is arriving."""

    def __init__(self, *args: Any, patience: Patience, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: tuple[str, object] = ("", None)  # what arrives, and of which request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """Begin to wait for what has to come next, if anything."""
        awaited = (self._arriving(), self.cycle)
        if awaited == self._awaited:
            return
        self._stop_timer()
        self._awaited = awaited
        seconds = {"head": self._patience.head, "body": self._patience.body}.get(awaited[0])
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._give_up)

    def _arriving(self) -> str:
        """`head` or `body`; nothing while an answer is made, or between two requests."""
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        if self.conn.their_state is not h11.IDLE:
            return ""
        is_first: bool = self.cycle is None
        return "head" if is_first or self.conn.trailing_data[0] else ""

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self._awaited[0] == "body" and not self.cycle.response_started:
            self._refuse()
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever reads the body is told
            self.cycle.message_event.set()
        self.transport.close()

    def _refuse(self) -> None:
        body = msgspec.json.encode(ErrorBody(_LATE))
        size = str(len(body))
        kind = ("Content-Type", "application/json")
        headers = [kind, ("Content-Length", size), ("Connection", "close")]
        answer = h11.Response(status_code=408, headers=headers, reason="Request Timeout")
        for part in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def punctual(patience: Patience) -> Callable[..., PunctualProtocol]:
    """The protocol for a server, with these limits."""

    def make(*args: Any, **kwargs: Any) -> PunctualProtocol:
        return PunctualProtocol(*args, patience=patience, **kwargs)

    return make
