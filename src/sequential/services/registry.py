"""Which services there are, and which of them a task may use."""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path

from sequential.core.model import Allow
from sequential.services.base import CallError, Service, unknown_method
from sequential.services.http_settings import HttpSettings

# Every task may use these; what `fetch` reaches is a matter of `allow.hosts`.
BUILT_IN = frozenset({"http", "clock", "tasks", "events", "step"})


class Services:
    """The services of a process by name."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._services: dict[str, Service] = {}
        for service in services:
            if service.name in self._services:
                raise ValueError(f"there are two services named {service.name!r}")
            self._services[service.name] = service

    def add(self, service: Service) -> None:
        """One more, in place of another of its name."""
        self._services[service.name] = service

    def front(self, front: Callable[[Service], Service]) -> None:
        """Put something before each service, such as what records its calls."""
        self._services = {name: front(service) for name, service in self._services.items()}

    def get(self, name: str, allow: Allow, method: str | None = None) -> Service:
        """The service for a call of a task.

        `CallError` for what the task may not use (`PermissionError`), and for a service or a method
        that does not exist (`RuntimeError`), with the names there are.
        """
        if not _allows(allow, name):
            listed = ", ".join(allow.services or ()) or "no service"
            raise CallError(
                "PermissionError",
                f"the service {name!r} is not in the task's allow.services ({listed})",
                code="refused",
            )
        service = self._services.get(name)
        if service is None:
            names = sorted(known for known in self._services if _allows(allow, known))
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise CallError(
                "RuntimeError",
                f"there is no service {name!r}; {hint}There are: {', '.join(names) or 'none'}",
                code="unknown_service",
            )
        if method is not None and method not in service.methods():
            raise unknown_method(service, method)
        return service

    def methods(self, allow: Allow) -> tuple[str, ...]:
        """`<service>.<method>` of all that the task may use, without the built-in services."""
        return tuple(
            f"{name}.{method}"
            for name, service in sorted(self._services.items())
            if name not in BUILT_IN and _allows(allow, name)
            for method in service.methods()
        )

    async def close(self) -> None:
        """Close every service; one that fails does not keep the others open."""
        services, self._services = list(self._services.values()), {}
        failed: Exception | None = None
        for service in services:
            try:
                await service.close()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed


def standard_services(
    http_settings: HttpSettings | None = None,
    project_folder: Path | None = None,
    given: Iterable[Service] = (),
) -> Services:
    """The services of a project: built-in ones, `given` ones, its `services/*.py`, installed ones.

    Of several with the same name the first in this order is used.
    """
    from sequential.services.clock import ClockService  # noqa: PLC0415
    from sequential.services.discovery import installed_services, load_services  # noqa: PLC0415
    from sequential.services.events import EventsService  # noqa: PLC0415
    from sequential.services.http import HttpService  # noqa: PLC0415

    chosen: dict[str, Service] = {service.name: service for service in given}
    if project_folder is not None:
        for service in load_services(project_folder / "services", BUILT_IN):
            chosen.setdefault(service.name, service)
    installed = installed_services(without={*BUILT_IN, *chosen})
    built_in = (ClockService(), EventsService(), HttpService(http_settings))
    return Services([*built_in, *chosen.values(), *installed])


def _allows(allow: Allow, name: str) -> bool:
    return allow.services is None or name in allow.services or name in BUILT_IN
