"""The service "events": waiting for an answer from outside."""

from collections.abc import Mapping, Sequence
from typing import Any

from sequential.core.form import check_form
from sequential.errors import InvalidInputError
from sequential.services.base import CallContext, CallError, NotYet, unknown_method


class EventsService:
    """`wait(name, timeout=, schema=)`: the engine hands over the event, this says how long to wait.

    The schema is for who answers: see `core.form`.
    """

    name = "events"

    def methods(self) -> Sequence[str]:
        return ("wait",)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """The seconds after which waiting has been in vain; 0 when there is no such limit."""
        _check(kwargs)
        return float(kwargs.get("timeout") or 0.0)

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Called when there is no such event: `TimeoutError` once the time is over."""
        if method != "wait":
            raise unknown_method(self, method)
        _check(kwargs)
        if (timeout := kwargs.get("timeout")) is None:
            raise NotYet
        name = kwargs.get("name")
        raise CallError("TimeoutError", f"no event {name!r} came within {timeout:g} s", "timeout")

    async def close(self) -> None:
        pass


def _check(kwargs: Mapping[str, Any]) -> None:
    """Raise `CallError` for a schema that nobody could be shown."""
    if kwargs.get("schema") is None:
        return
    try:
        check_form(kwargs["schema"])
    except InvalidInputError as error:
        raise CallError("ValueError", f"wait_for_event(): {error}", error.code) from None
