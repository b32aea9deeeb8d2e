"""What a service says about itself: its methods, and what each of them takes and gives.

`description_of(service)` works for every service. Those made of Python functions tell their types,
others their names only.
"""

from typing import Any, Literal

import msgspec

from sequential.services.base import Service

Retry = Literal["safe", "idempotent", "unsafe"]
"""What doing a call twice does: nothing at all, the same as once, or harm."""

ANYTHING: dict[str, Any] = {}  # the JSON Schema that every value fits


class MethodDescription(msgspec.Struct, frozen=True):
    """A method of a service.

    `parameters` is the JSON Schema of its arguments by name, `result` that of its value, `timeout`
    the seconds that one attempt may take, `secrets` are the names of those it is given.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = ANYTHING
    result: dict[str, Any] = ANYTHING
    retry: Retry = "unsafe"
    timeout: float | None = None
    secrets: tuple[str, ...] = ()


class ServiceDescription(msgspec.Struct, frozen=True):
    """A service and all of its methods. `is_open` says that it has others beside these."""

    name: str
    description: str = ""
    methods: tuple[MethodDescription, ...] = ()
    is_open: bool = False

    def find(self, method: str) -> MethodDescription | None:
        """The method of this name, if it is listed."""
        return next((one for one in self.methods if one.name == method), None)


def description_of(service: Service) -> ServiceDescription:
    """What a service says about itself in `describe()`; of one that has none, its names."""
    describe = getattr(service, "describe", None)
    if describe is not None:
        told: ServiceDescription = describe()
        return told
    methods = tuple(MethodDescription(name) for name in service.methods())
    return ServiceDescription(service.name, methods=methods, is_open=hasattr(service, "accepts"))
