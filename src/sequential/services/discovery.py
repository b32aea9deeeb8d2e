"""Finding the services of a project: the files under `services/`, and what is installed."""

import hashlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from sequential.errors import InvalidNameError, ServiceLoadError
from sequential.services.base import Service
from sequential.services.local import LocalService

ENTRY_POINTS = "sequential.services"


def load_services(folder: Path, reserved: Iterable[str] = ()) -> list[Service]:
    """The services of the files `<name>.py` in a folder, in the order of their names.

    Files whose names begin with "_" or "." are skipped; the others may import them, as in
    `from ._auth import token`. `ServiceLoadError` names the file, and the line if there is one.
    """
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.glob("*.py") if path.name[0] not in "._")
    package = _package(folder)
    services: list[Service] = []
    for path in files:
        module = _run(path, f"{package}.{path.stem}", frozenset(reserved))
        services.extend(_services_of(module, path.stem, str(path)))
    _check_names(services, frozenset(reserved))
    return services


def installed_services(without: Iterable[str] = ()) -> list[Service]:
    """The services of the entry points `sequential.services` of installed packages.

    An entry point is a `Service`, or a module with public functions, which is then the service of
    the entry point's name. Those named in `without` are not even imported.
    """
    services: list[Service] = []
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name in set(without):
            continue
        origin = f"the entry point {point.name!r} of {point.dist.name if point.dist else '?'}"
        try:
            loaded = point.load()
        except Exception as error:
            raise ServiceLoadError(f"{origin}: {_told(error)}") from error
        if isinstance(loaded, ModuleType):
            services.extend(_services_of(loaded, point.name, origin))
        elif isinstance(loaded, type) or not callable(getattr(loaded, "call", None)):
            raise ServiceLoadError(f"{origin} is {loaded!r}: it must be a Service or a module")
        else:
            services.append(loaded)
    return services


class _Source(SourceFileLoader):
    """Always reads the source: an edited file counts at once, and no `__pycache__` is left."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile(self.get_data(path), path, "exec", dont_inherit=True)


def _package(folder: Path) -> str:
    """An empty package in memory, so that files of a folder can import each other."""
    name = "sequential_services_" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    for known in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
        del sys.modules[known]
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    return name


def _run(path: Path, name: str, reserved: frozenset[str]) -> ModuleType:
    if path.stem in reserved:
        raise ServiceLoadError(f"{path}: the name {path.stem!r} belongs to a built-in service")
    spec = importlib.util.spec_from_file_location(name, path, loader=_Source(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and others look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ServiceLoadError(f"{path}{_line(error, path)}: {_told(error)}") from error
    return module


def _services_of(module: ModuleType, name: str, origin: str) -> list[Service]:
    declared = [value for value in vars(module).values() if isinstance(value, LocalService)]
    try:
        found = list(dict.fromkeys(declared)) or [LocalService.of_module(name, module)]
    except (InvalidNameError, ValueError) as error:
        raise ServiceLoadError(f"{origin}: {error}") from error
    for service in found:
        if not service.methods():
            raise ServiceLoadError(f"{origin}: the service {service.name!r} has no public function")
    return list(found)


def _check_names(services: list[Service], reserved: frozenset[str]) -> None:
    seen: set[str] = set()
    for service in services:
        if service.name in reserved:
            raise ServiceLoadError(f"the name {service.name!r} belongs to a built-in service")
        if service.name in seen:
            raise ServiceLoadError(f"two files define a service named {service.name!r}")
        seen.add(service.name)


def _line(error: BaseException, path: Path) -> str:
    """`:<line>` of the file where it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _told(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}".removesuffix(": ")
