"""Which storage adapters there are, and how one is chosen by name or URL.

Those of this package are built in; some need an extra to be installed. Others are added by
`register_adapter`, or by an installed package with an entry point in the group
`sequential.adapters`; none of them hides a built-in one. An adapter's module is imported when the
adapter is chosen.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sequential.errors import ConfigError, UnknownAdapterError
from sequential.storage.base import StorageAdapter

Factory = Callable[..., StorageAdapter]  # factory(location, **config)

GROUP = "sequential.adapters"
_NAME = re.compile(r"[a-z][a-z0-9_+-]*\Z")
_BUILT_IN = {
    "folder": "sequential.storage.folder:create",
    "memory": "sequential.storage.memory:create",
    "sqlite": "sequential.storage.sqlite:create",
    "postgres": "sequential.storage.postgres:create",
    "supabase": "sequential.storage.supabase:create",
    "redis": "sequential.storage.redis:create",
    "firestore": "sequential.storage.firestore:create",
}
_SAME = {
    "default": "folder",
    "": "folder",
    "postgresql": "postgres",
    "postgresql+psycopg": "postgres",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
}
# Packages that an adapter needs beyond the base installation: the extra of the same name brings
# them. Of some there may be a part that others brought, such as `google`.
_NEEDED = {"postgres": ("psycopg",), "redis": ("redis",), "firestore": ("google", "grpc")}
_registered: dict[str, Factory] = {}


def register_adapter(name: str, factory: Factory) -> None:
    """Make `create_adapter("<name>:<location>", **config)` call `factory(location, **config)`.

    Raises `ConfigError` for a name that is built in or is no word, and for a factory that cannot be
    called. Registering a name again replaces its factory.
    """
    if not _NAME.match(name) or name in _BUILT_IN or name in _SAME:
        raise ConfigError(
            f"{name!r} cannot name a storage adapter: use a word in lower-case letters other than "
            f"{', '.join([*_BUILT_IN, 'default'])}"
        )
    if not callable(factory):
        raise ConfigError(
            f"the factory of adapter {name} is {type(factory).__name__}: give a function "
            "(location, **config) that returns a StorageAdapter"
        )
    _registered[name] = factory


def registered_adapters() -> list[str]:
    """The names that can be chosen, sorted."""
    return sorted({*_BUILT_IN, *_registered, *_installed()})


async def create_adapter(name_or_url: str = "default", **config: Any) -> StorageAdapter:
    """An adapter that is ready for use; close it when you are done.

    `folder:./tasks` is a name with a location; what contains `://` reaches the adapter whole.
    Raises `UnknownAdapterError`, and `ConfigError` when the adapter does not know an option.
    """
    name, _, location = name_or_url.partition(":")
    if location.startswith("//"):
        location = name_or_url
    factory = _factory(_SAME.get(name, name))
    try:
        inspect.signature(factory).bind(location, **config)
    except TypeError as error:
        raise ConfigError(f"the storage adapter {name} cannot be made: {error}") from error
    adapter = factory(location, **config)
    if not isinstance(adapter, StorageAdapter):
        raise ConfigError(
            f"the factory of adapter {name} returned {type(adapter).__name__}: "
            "it must return a StorageAdapter"
        )
    await adapter.init()
    return adapter


def _factory(name: str) -> Factory:
    if built_in := _BUILT_IN.get(name):
        return _imported(name, built_in)
    if name in _registered:
        return _registered[name]
    if point := _installed().get(name):
        return _loaded(point)
    raise UnknownAdapterError(_unknown(name))


def _imported(name: str, place: str) -> Factory:
    module, _, attribute = place.partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED.get(name, ()):
            raise
        raise ConfigError(
            f"the storage adapter {name} needs the package {error.name}: "
            f"pip install 'sequential-ecosystem[{name}]'"
        ) from error
    return factory


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(point: EntryPoint) -> Factory:
    try:
        factory: Factory = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the storage adapter {point.name} is installed but cannot be loaded from "
            f"{point.value}: {error}"
        ) from error
    return factory


def _unknown(name: str) -> str:
    known = registered_adapters()
    near = difflib.get_close_matches(name.lower(), [*known, "default"], n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    shown = ascii(name if len(name) <= 40 else name[:37] + "...")
    return f"there is no storage adapter {shown}: {hint}there are {', '.join(known)}"
