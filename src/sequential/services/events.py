"""The service "events": waiting for an answer from outside."""

from collections.abc import Mapping, Sequence
from typing import Any

from sequential.services.base import CallContext, CallError, NotYet, unknown_method


class EventsService:
    """`wait(name, timeout=)`: the engine hands over the event, this says how long to wait."""

    name = "events"

    def methods(self) -> Sequence[str]:
        return ("wait",)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """The seconds after which waiting has been in vain; 0 when there is no such limit."""
        return float(kwargs.get("timeout") or 0.0)

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Called when there is no such event: `TimeoutError` once the time is over."""
        if method != "wait":
            raise unknown_method(self, method)
        if (timeout := kwargs.get("timeout")) is None:
            raise NotYet
        name = kwargs.get("name")
        raise CallError("TimeoutError", f"no event {name!r} came within {timeout:g} s", "timeout")

    async def close(self) -> None:
        pass
