"""The services that come with the package, for those who have what they need installed.

Each is a module with a function `service()` that makes it. The function may have parameters named
after what a process has: `keys` (the keystore), `storage` (the store) and `services` (all services
of the process); it is given those it names. The module is imported when the service is first used,
or asked for its methods; the packages of others are imported by its functions, where they are used.
"""

import importlib
import importlib.util
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sequential.services.base import CallContext, CallError, Service
from sequential.services.describe import ServiceDescription, description_of


class BuiltIn(NamedTuple):
    """Where a service is made, and which packages it needs, of which extra.

    Tasks use one that is `named_only` if their `allow.services` names it, as it shows or changes
    what belongs to the operator.
    """

    home: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    named_only: bool = False


BUILT_IN_SERVICES = {
    "admin-debug": BuiltIn("sequential.services.admin_debug:service", named_only=True),
    "gapi": BuiltIn("sequential.services.gapi:service", ("googleapiclient", "google.auth"), "gapi"),
    "keystore": BuiltIn("sequential.services.keystore:service", named_only=True),
    "openai": BuiltIn("sequential.services.openai:service", ("openai",), "openai"),
    "supabase": BuiltIn("sequential.services.supabase:service", ("postgrest",), "supabase-client"),
    "websearch": BuiltIn("sequential.services.websearch:service", ("ddgs",), "websearch"),
}


class LazyService:
    """A service that is made when it is first used.

    `parts` is what the function that makes it may ask for, by the names of its parameters.
    """

    is_lazy = True

    def __init__(self, name: str, built_in: BuiltIn, parts: Mapping[str, Any]) -> None:
        self.name = name
        self.named_only = built_in.named_only
        self._built_in = built_in
        self._parts = parts
        self._made: Service | None = None
        self._is_complete = False
        self._making = threading.Lock()  # it may be described in a thread, as that may take long

    @property
    def missing(self) -> str | None:
        """What to do before it can be used; None when everything is there."""
        # What was there stays there; looking again would cost every run that begins.
        self._is_complete = self._is_complete or all(map(_is_there, self._built_in.packages))
        if self._is_complete:
            return None
        return (
            f"the service {self.name!r} needs packages that are not installed: "
            f"pip install 'sequential-ecosystem[{self._built_in.extra}]'"
        )

    def methods(self) -> Sequence[str]:
        return () if self.missing else self._service().methods()

    def accepts(self, method: str) -> bool:
        """Whether it has this method; of one that cannot be used, the call says why."""
        if self.missing:
            return True
        service = self._service()
        accepts: Callable[[str], bool] | None = getattr(service, "accepts", None)
        return method in service.methods() if accepts is None else accepts(method)

    def describe(self) -> ServiceDescription:
        """What it says about itself; of one that cannot be used, what is missing."""
        if missing := self.missing:
            return ServiceDescription(self.name, missing)
        return description_of(self._service())

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0 if self.missing else self._service().due_after(method, args, kwargs)

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Have the service perform it; `CallError` that names the extra if packages are missing."""
        if missing := self.missing:
            raise CallError("RuntimeError", missing, code="missing_extra")
        return await self._service().call(method, args, kwargs, context)

    async def close(self) -> None:
        service, self._made = self._made, None
        if service is not None:
            await service.close()

    def _service(self) -> Service:
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> Service:
        module, _, function = self._built_in.home.partition(":")
        make: Callable[..., Service] = getattr(importlib.import_module(module), function)
        wanted = inspect.signature(make).parameters
        return make(**{name: part for name, part in self._parts.items() if name in wanted})


def built_in_services(parts: Mapping[str, Any]) -> list[LazyService]:
    """All of them that this version of the package has."""
    return [
        LazyService(name, built_in, parts)
        for name, built_in in BUILT_IN_SERVICES.items()
        if _is_there(built_in.home.partition(":")[0])
    ]


def _is_there(module: str) -> bool:
    """Whether a module can be imported, found without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the package it lies in is not there, or no real one
        return False
