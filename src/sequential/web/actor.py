"""Who sends a request, as far as the server knows, and what he may do."""

from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency

from sequential.core.bounds import PUBLIC, TokenLimits, least
from sequential.core.model import Bounds, evolve
from sequential.runner.tokens import Role, Token

Connection = ASGIConnection[Any, Any, Any, Any]
AnyRequest = Request[Any, Any, Any]


class Actor(msgspec.Struct, frozen=True):
    """Somebody who may use the server: the holder of a token, a user, a program on this machine.

    `limits` are those of a token that has any, `sent` those of everybody. `name` is how the audit
    log calls him.
    """

    id: str
    name: str
    role: Role
    limits: TokenLimits | None = None
    sent: TokenLimits = TokenLimits()

    def permits_task(self, task: str) -> bool:
        """Whether he may send, start and operate a task of this name."""
        limits = self.limits or TokenLimits()
        return limits.permits_task(task) and self.sent.permits_task(task)

    def most(self, number: str) -> Any:
        """What holds of a number in `TokenLimits`: the smaller one of his and everybody's."""
        return least(getattr(self.limits or self.sent, number), getattr(self.sent, number))

    @property
    def of_runs(self) -> tuple[Bounds, ...]:
        """The bounds of runs that he starts, besides those of their tasks."""
        return () if self.limits is None else (self.limits.bounds,)

    @property
    def of_tasks(self) -> tuple[Bounds, ...]:
        """The bounds of tasks that he sends: what everybody's leave open is what is public."""
        common = self.sent.bounds
        common = evolve(
            common,
            hosts=PUBLIC.hosts if common.hosts is None else common.hosts,
            services=PUBLIC.services if common.services is None else common.services,
        )
        return (common, *self.of_runs)


# What a handler asks for by the name `actor`.
TheActor = NamedDependency[Actor]


def actor_of(request: AnyRequest) -> Actor:
    """Who was let in with this request."""
    actor = request.scope.get("user")
    assert isinstance(actor, Actor)  # the guard has seen to it
    return actor


def holder_of(token: Token, sent: TokenLimits) -> Actor:
    """Who comes with a token."""
    name = f"token {token.name} ({token.id})"
    return Actor(token.id, name, token.role, token.limits, sent)
