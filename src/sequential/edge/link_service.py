"""The service `edge`: a task makes links to itself, to send one by e-mail before it waits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sequential.services.base import CallContext, CallError, unknown_method


class LinkService:
    """`await services.edge.link("approved", data=True)`, with the arguments of `Edge.link`."""

    name = "edge"
    of_a_run = True  # no use to those who call from outside of one

    def __init__(self, link: Callable[..., str]) -> None:
        self._link = link

    def methods(self) -> Sequence[str]:
        """There is one."""
        return ("link",)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """At once."""
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> str:
        """A link to the run that asks; a call that is performed twice makes the same answer."""
        if method != "link":
            raise unknown_method(self, method)
        try:
            return self._link(context.run_id, *args, **{"key": context.idempotency_key, **kwargs})
        except TypeError as error:
            raise CallError("TypeError", f"edge.link: {error}") from error

    async def close(self) -> None:
        """Nothing is open."""
