"""A service for tests: answers from plain functions and remembers what it was asked."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from sequential.services.base import CallContext


class Performed(msgspec.Struct, frozen=True):
    """One call that reached the service."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: CallContext


class FakeService:
    """A service whose methods are functions, plain or async, by dotted name.

    `performed` lists the calls in the order in which they arrived.
    """

    def __init__(self, name: str, methods: Mapping[str, Callable[..., Any]]) -> None:
        self.name = name
        self.performed: list[Performed] = []
        self._methods = dict(methods)

    def methods(self) -> Sequence[str]:
        return tuple(self._methods)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        self.performed.append(Performed(method, tuple(args), dict(kwargs), context))
        answer = self._methods[method](*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    async def close(self) -> None:
        return None

    def keys(self) -> list[str]:
        """The idempotency keys of the calls performed."""
        return [call.context.idempotency_key for call in self.performed]
