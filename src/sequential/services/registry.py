"""Which services there are, and which of them a task may use."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sequential.core.model import Allow
from sequential.services.base import CallError, Service, unknown_method
from sequential.services.describe import ServiceDescription, description_of
from sequential.services.http_settings import HttpSettings
from sequential.services.remote_settings import RemoteSettings

# Every task may use these; what `fetch` reaches is a matter of `allow.hosts`.
BUILT_IN = frozenset({"http", "clock", "tasks", "events", "step"})

_CALLED = re.compile(r"\bservices\s*\.\s*([A-Za-z]\w*)\s*\.")
_HOST_TOOL = re.compile(
    r"""\b(?:call_host_tool|__callHostTool__)\s*\(\s*["']([\w-]+)["']\s*,\s*["']([\w.-]+)["']"""
)


class Services:
    """The services of a process by name.

    `origins` says of them where they come from, for people. `elsewhere` makes a service for a name
    that none of them has. `parts` are what services are made of that are made when they are used.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        origins: Mapping[str, str] | None = None,
        elsewhere: Callable[[str], Service] | None = None,
        parts: dict[str, Any] | None = None,
    ) -> None:
        self._services: dict[str, Service] = {}
        self._origins = dict(origins or {})
        self._elsewhere = elsewhere
        self._parts = {} if parts is None else parts
        self._named_only: set[str] = set()
        for service in services:
            if service.name in self._services:
                raise ValueError(f"there are two services named {service.name!r}")
            self.add(service)

    def add(self, service: Service) -> None:
        """One more, in place of another of its name."""
        self._services[service.name] = service
        if getattr(service, "named_only", False):
            self._named_only.add(service.name)
        else:
            self._named_only.discard(service.name)

    def renew(self, fresh: "Services", also: Iterable[str] = ()) -> list[Service]:
        """Take the services of the project's folder from `fresh`, and those named in `also`.

        Those that were given to the engine stay. Returns the ones that are used no more, to be
        closed when the calls that they perform have ended.
        """
        also = set(also)
        fresh.provide(**self._parts)  # one of the package may have been hidden by one of a file
        replaced: list[Service] = []
        for name in self._of_project() | fresh._of_project() | also:  # noqa: SLF001 - of our own
            old, new = self._services.get(name), fresh.find(name)
            is_given = old is not None and self.origin(name) == "given"
            if old is new or (is_given and name not in also):
                continue
            if old is not None:
                replaced.append(old)
            self._take(name, new, fresh.origin(name))
        return replaced

    def find(self, name: str) -> Service | None:
        """The service of a name, whoever may use it."""
        return self._services.get(name)

    def _of_project(self) -> set[str]:
        return {name for name, origin in self._origins.items() if origin == "project"}

    def _take(self, name: str, service: Service | None, origin: str) -> None:
        """Have this service under a name from now on, or none."""
        if service is None:
            del self._services[name]
            self._origins.pop(name, None)
            self._named_only.discard(name)
            return
        self.add(service)
        if origin != "given":
            self._origins[name] = origin

    def front(self, front: Callable[[Service], Service]) -> None:
        """Put something before each service, such as what records its calls."""
        self._services = {name: front(service) for name, service in self._services.items()}

    def provide(self, **parts: Any) -> None:
        """What the built-in services may be made of: `keys` and `storage` of this process."""
        self._parts.update({"services": self, **parts})

    def get(self, name: str, allow: Allow, method: str | None = None) -> Service:
        """The service for a call of a task.

        `CallError` for what the task may not use (`PermissionError`), and for a service or a method
        that does not exist (`RuntimeError`), with the names there are.
        """
        if not self._allows(allow, name):
            raise CallError("PermissionError", self._refusal(allow, name), code="refused")
        service = self._services.get(name)
        if service is None and self._elsewhere is not None and name.isidentifier():
            service = self._services[name] = self._elsewhere(name)
            self._origins[name] = "remote"
        if service is None:
            names = sorted(known for known in self._services if self._allows(allow, known))
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise CallError(
                "RuntimeError",
                f"there is no service {name!r}; {hint}There are: {', '.join(names) or 'none'}",
                code="unknown_service",
            )
        if method is not None and not _has(service, method):
            raise unknown_method(service, method)
        return service

    def methods(self, allow: Allow, source: str = "") -> tuple[str, ...]:
        """`<service>.<method>` of all that the task may use, without the built-in services.

        Of a service that cannot list all of its methods, these are the ones it lists and those that
        the `source` of the task writes out. Those that are made when they are used are left out
        where the source does not even have their name: making them all takes 30 ms.
        """
        names = set(self._services)
        if self._elsewhere is not None:
            names.update(_CALLED.findall(source), (name for name, _ in _HOST_TOOL.findall(source)))
        return tuple(
            f"{name}.{method}"
            for name in sorted(names - BUILT_IN)
            if self._allows(allow, name) and not self._is_idle(name, source)
            for method in self._methods_of(name, allow, source)
        )

    def names(self) -> list[str]:
        """The names of all services but those that every task has, sorted."""
        return sorted(set(self._services) - BUILT_IN)

    def is_for_all(self, name: str) -> bool:
        """Whether others than tasks may use it unasked: it need not be named, and needs no run."""
        of_a_run = getattr(self._services.get(name), "of_a_run", False)
        return name not in self._named_only and not of_a_run

    def describe(self, name: str) -> ServiceDescription:
        """What a service says about itself; raises as `get` does for one that is not there."""
        return description_of(self.get(name, Allow(services=(name, *self._services))))

    def origin(self, name: str) -> str:
        """Where a service comes from: project, installed, package, remote, given."""
        return self._origins.get(name, "given")

    def missing(self, name: str) -> str | None:
        """What is to be installed before a service can be used; None when nothing is."""
        missing: str | None = getattr(self._services.get(name), "missing", None)
        return missing

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

    def _is_idle(self, name: str, source: str) -> bool:
        lazy: bool = getattr(self._services.get(name), "is_lazy", False)
        return lazy and bool(source) and name not in source

    def _methods_of(self, name: str, allow: Allow, source: str) -> list[str]:
        service = self.get(name, allow)
        accepts = getattr(service, "accepts", None)
        listed = dict.fromkeys(service.methods())
        if accepts is not None:
            listed.update(dict.fromkeys(m for m in _mentioned(name, source) if accepts(m)))
        return list(listed)

    def _allows(self, allow: Allow, name: str) -> bool:
        if name in BUILT_IN:
            return True
        named_only = name in self._named_only
        if not all(one.permits_service(name, named_only=named_only) for one in allow.within):
            return False
        return not named_only if allow.services is None else name in allow.services

    def _refusal(self, allow: Allow, name: str) -> str:
        if not all(one.permits_service(name) for one in allow.within):
            return f"the operator lets this run use no service {name!r}"
        if allow.services is None:
            return f"only tasks whose allow.services names the service {name!r} may use it"
        listed = ", ".join(allow.services) or "no service"
        return f"the service {name!r} is not in the task's allow.services ({listed})"


def standard_services(
    http_settings: HttpSettings | None = None,
    project_folder: Path | None = None,
    given: Iterable[Service] = (),
    remote: RemoteSettings | None = None,
) -> Services:
    """The services of a project.

    Those that every task has; then, and of several with the same name the first in this order is
    used: `given` ones, those the settings say are elsewhere, its `services/*.py`, installed ones,
    and those that come with the package. Where the settings name one server for all services, these
    last three are asked for there.
    """
    from sequential.services.built_in import built_in_services  # noqa: PLC0415
    from sequential.services.clock import ClockService  # noqa: PLC0415
    from sequential.services.discovery import installed_services, load_services  # noqa: PLC0415
    from sequential.services.events import EventsService  # noqa: PLC0415
    from sequential.services.http import HttpService  # noqa: PLC0415

    chosen: dict[str, Service] = {service.name: service for service in given}
    origins = dict.fromkeys(chosen, "given")
    parts: dict[str, Any] = {}

    def choose(services: Iterable[Service], origin: str) -> None:
        for service in services:
            if service.name not in chosen:
                chosen[service.name], origins[service.name] = service, origin

    if remote is not None and remote.services:
        from sequential.services.remote import remote_services  # noqa: PLC0415

        choose(remote_services(remote), "remote")
    elsewhere = _elsewhere(remote)
    if elsewhere is None:
        if project_folder is not None:
            choose(load_services(project_folder / "services", BUILT_IN), "project")
        choose(installed_services(without={*BUILT_IN, *chosen}), "installed")
        choose(built_in_services(parts), "package")
    everywhere = (ClockService(), EventsService(), HttpService(http_settings))
    every: list[Service] = [*everywhere, *chosen.values()]
    return Services(every, origins=origins, elsewhere=elsewhere, parts=parts)


def _elsewhere(remote: RemoteSettings | None) -> Callable[[str], Service] | None:
    if remote is None or not remote.base_url:
        return None
    from sequential.services.remote import service_at  # noqa: PLC0415

    return lambda name: service_at(name, remote)


def _has(service: Service, method: str) -> bool:
    accepts: Callable[[str], bool] | None = getattr(service, "accepts", None)
    return method in service.methods() if accepts is None else accepts(method)


def _mentioned(service: str, source: str) -> Iterator[str]:
    """The methods of a service that a source writes out, as in `services.crm.users.find(...)`.

    Of `a` and `a.b` only the longer one: in a task a name is a method or has methods below it.
    """
    paths = re.findall(rf"\b{re.escape(service)}\s*((?:\.\s*[A-Za-z]\w*\s*)+)\(", source)
    names = {"".join(path.split()).removeprefix(".") for path in paths}
    names.update(method for name, method in _HOST_TOOL.findall(source) if name == service)
    for name in sorted(names):
        if not any(other.startswith(f"{name}.") for other in names):
            yield name
