"""Calls of services, recorded once and given again: tests in CI that need no internet.

A recording is a JSON file to be kept with the tests. It holds what tasks asked for and what they
got; secrets from the keystore are taken out, other private data is for its author to see to.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sequential.core import values
from sequential.core.model import Failure, Outcome
from sequential.services.base import CallContext, CallError, NotYet, Service, TryAgain

# Of the engine itself: these never leave the process.
OWN = frozenset({"clock", "events", "tasks", "step"})


class Exchange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt of a call and how it went; `again` has what `TryAgain` says besides."""

    operation: str
    arguments: Any
    value: Any = None
    error: Failure | None = None
    again: tuple[float | None, int | None] | None = None


class Recording:
    """Exchanges in a file: made anew if `records`, else given again.

    The same call asked for several times gets the recorded answers one after the other.
    """

    def __init__(self, path: Path, *, records: bool) -> None:
        self.path = path
        self.records = records
        self.exchanges: list[Exchange] = []
        self._given: Counter[tuple[str, bytes]] = Counter()
        if not records and path.exists():
            try:
                self.exchanges = msgspec.json.decode(path.read_bytes(), type=list[Exchange])
            except ValueError as error:
                raise ValueError(f"{path.name} is no recording, make it anew: {error}") from error

    def front(self, service: Service) -> Service:
        """What takes the place of a service; those of the engine itself stay as they are."""
        return service if service.name in OWN else RecordedService(service, self)

    def take(self, operation: str, arguments: Any) -> Exchange:
        """The next recorded answer; `CallError` that says what to do when there is none."""
        key = (operation, _key(arguments))
        fitting = [one for one in self.exchanges if (one.operation, _key(one.arguments)) == key]
        number = self._given[key]
        if number < len(fitting):
            self._given[key] += 1
            return fitting[number]
        shown = _key(arguments).decode()
        shown = shown if len(shown) <= 200 else shown[:200] + "..."
        times = f"has this call {len(fitting)} times only" if fitting else "does not have this call"
        raise CallError(
            "RuntimeError",
            f"{operation} {shown}: the recording {self.path.name} {times}; "
            "record it with `pytest --sequential-record`",
            code="not_recorded",
        )

    def keep(self, exchange: Exchange) -> None:
        """One more exchange."""
        self.exchanges.append(exchange)

    def write(self) -> None:
        """Write the file, if this records."""
        if self.records:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = msgspec.json.format(msgspec.json.encode(self.exchanges), indent=2)
            self.path.write_bytes(text + b"\n")


class RecordedService:
    """A service whose calls are recorded, or answered from a recording."""

    def __init__(self, real: Service, recording: Recording) -> None:
        self.name = real.name
        self._real = real
        self._recording = recording

    def methods(self) -> Sequence[str]:
        return self._real.methods()

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return self._real.due_after(method, args, kwargs)

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """The value of the real call, or the one that was recorded; errors are recorded, too."""
        operation = f"{self.name}.{method}"
        arguments = values.arguments_to_json(args, kwargs, operation)
        if not self._recording.records:
            return _answer(self._recording.take(operation, arguments))

        def keep(outcome: Outcome, **more: Any) -> None:
            exchange = Exchange(operation, arguments, outcome.value, outcome.error, **more)
            self._recording.keep(_redacted(exchange, context))

        try:
            value = await self._real.call(method, args, kwargs, context)
        except CallError as error:
            keep(Outcome(error=error.failure))
            raise
        except TryAgain as error:
            tree = values.to_json(error.outcome.value, operation)
            outcome = Outcome(tree, error.outcome.error)
            keep(outcome, again=(error.retry_after, error.retries))
            raise
        except NotYet:
            raise
        except Exception as error:
            keep(Outcome(error=Failure("RuntimeError", f"{type(error).__name__}: {error}")))
            raise
        keep(Outcome(values.to_json(value, operation)))
        return value

    async def close(self) -> None:
        await self._real.close()


def _answer(exchange: Exchange) -> Any:
    if exchange.again is not None:
        retry_after, retries = exchange.again
        outcome = Outcome(values.from_json(exchange.value), exchange.error)
        raise TryAgain(outcome, retry_after=retry_after, retries=retries)
    if (failure := exchange.error) is not None:
        raise CallError(failure.type, failure.message, failure.code)
    return values.from_json(exchange.value)


def _redacted(exchange: Exchange, context: CallContext) -> Exchange:
    text = msgspec.json.encode(exchange).decode()
    hidden = context.secrets.redacted(text)
    if hidden == text:
        return exchange
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(hidden, type=Exchange)
    return Exchange(exchange.operation, exchange.arguments, error=Failure("RuntimeError", "secret"))


def _key(arguments: Any) -> bytes:
    return msgspec.json.encode(arguments, order="sorted")
