"""The services that a server offers, and one attempt at a call of one of them."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from sequential.core.model import Allow, Bounds
from sequential.errors import SequentialError
from sequential.runner.engine import Engine
from sequential.runner.service_client import ServiceClient
from sequential.services.base import CallError
from sequential.services.describe import ServiceDescription
from sequential.web.chains import Step, Wanted

# The names under which the original's services were reached.
WRAPPED = {
    "wrappedgapi": "gapi",
    "wrappedopenai": "openai",
    "wrappedsupabase": "supabase",
    "wrappedkeystore": "keystore",
    "wrappedwebsearch": "websearch",
    "database": "supabase",
}


class OfferedService(msgspec.Struct, frozen=True):
    """A service in a list: its methods by name, and what has to be installed before it works."""

    name: str
    description: str
    origin: str
    methods: list[str]
    is_open: bool = False
    missing: str | None = None


class Offer:
    """The services of an engine that may be called from outside.

    Without `names` these are all that need no permission of their own; one that does, such as the
    keystore, has to be named.
    """

    def __init__(self, engine: Engine, names: Collection[str] | None = None) -> None:
        self.engine = engine
        self._names = None if names is None else frozenset(names)
        self._client = ServiceClient(
            engine.storage,
            engine.services,
            keys=engine.keys,
            settings=engine.settings.runner,
        )

    def names(self) -> list[str]:
        """The names of the services on offer, sorted."""
        services = self.engine.services
        return [
            name
            for name in services.names()
            if (name in self._names if self._names is not None else services.is_for_all(name))
        ]

    def known(self, name: str) -> str:
        """The service that is meant by a name; `CallError` if it is not on offer."""
        names = self.names()
        meant = name if name in names else WRAPPED.get(name, name)
        if meant in names:
            return meant
        close = difflib.get_close_matches(meant, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise CallError(
            "RuntimeError",
            f"there is no service {name[:60]!r} here; {hint}"
            f"There are: {', '.join(names) or 'none'}",
            code="unknown_service",
        )

    def describe(self, name: str) -> ServiceDescription:
        """What a service on offer says about itself."""
        return self.engine.services.describe(self.known(name))

    def listed(self) -> list[OfferedService]:
        """All of them, shortly."""
        return [self._listed(name) for name in self.names()]

    async def call(
        self,
        name: str,
        wanted: Wanted,
        key: str | None = None,
        *,
        within: tuple[Bounds, ...] = (),
    ) -> Any:
        """Make one attempt and return the value as a JSON tree of `core.values`.

        `key` is the sender's `Idempotency-Key`, which the service is told, `within` are the bounds
        of the sender. Raises `TryAgain` and `CallError` as a service does.
        """
        name = self.known(name)
        method, args, kwargs = self._as_declared(name, wanted)
        allow = Allow(services=(name,), within=within)
        return await self._client.attempt(name, method, args, kwargs, allow=allow, key=key)

    def _as_declared(
        self, name: str, wanted: Wanted
    ) -> tuple[str, tuple[Any, ...], Mapping[str, Any]]:
        """The method and its arguments as the service declares them."""
        if wanted.steps:
            return "chain", ([_as_sent(step) for step in wanted.steps],), {}
        if not (wanted.is_chain and len(wanted.args) == 1 and isinstance(wanted.args[0], dict)):
            return wanted.method, wanted.args, wanted.kwargs
        (given,) = wanted.args
        declared = self.engine.services.describe(name).find(wanted.method)
        properties = declared.parameters.get("properties", {}) if declared else {}
        first: dict[str, Any] = next(iter(properties.values()), {})
        takes_object = first.get("type") == "object" or "$ref" in first
        if takes_object and not all(key in properties for key in given):
            return wanted.method, (given,), {}
        return wanted.method, (), given  # the original's services took named arguments only

    def _listed(self, name: str) -> OfferedService:
        services = self.engine.services
        missing = services.missing(name)
        try:
            told = services.describe(name)
        except (SequentialError, ImportError) as error:
            return OfferedService(name, "", services.origin(name), [], missing=str(error))
        methods = [method.name for method in told.methods]
        return OfferedService(
            name, told.description, services.origin(name), methods, told.is_open, missing
        )


def _as_sent(step: Step) -> dict[str, Any]:
    return {"property": step.property, "args": None if step.args is None else [*step.args]}
