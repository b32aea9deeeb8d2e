"""The service "clock": waiting that costs nothing while it lasts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sequential.services.base import CallContext, CallError, unknown_method


class ClockService:
    """`sleep(seconds)`: the waiting is the engine's, done durably before the call is performed."""

    name = "clock"

    def methods(self) -> Sequence[str]:
        return ("sleep",)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """The seconds to sleep. Wrong arguments are due at once, for `call` to refuse."""
        try:
            return _seconds(args, kwargs) if method == "sleep" else 0.0
        except CallError:
            return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """None, as soon as it is called; `ValueError` for what is no finite, positive time."""
        if method != "sleep":
            raise unknown_method(self, method)
        _seconds(args, kwargs)

    async def close(self) -> None:
        pass


def _seconds(args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
    given = [*args, *(kwargs[name] for name in ("seconds", "delay") if name in kwargs)]
    if len(given) != 1 or len(args) + len(kwargs) != 1:
        raise _wrong("takes one argument, the number of seconds")
    (value,) = given
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"needs a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise _wrong("needs a finite number of seconds")
    if seconds < 0:
        raise _wrong(f"cannot sleep for a negative time: {seconds:g} seconds")
    return seconds


def _wrong(message: str) -> CallError:
    return CallError("ValueError", f"sleep() {message}", code="invalid_call")
