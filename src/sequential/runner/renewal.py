"""Settings, services and modules that were edited, taken over by an engine that goes on."""

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Collection
from pathlib import Path

import msgspec

from sequential.config import Settings
from sequential.runner.engine import Engine
from sequential.services.base import Service
from sequential.services.registry import standard_services

# What an engine has been built with, which another one would have to be built for.
_LASTING = ("project", "adaptor", "tasks", "server", "remote")
_LASTING_RUNNER = ("live_programs", "calls", "native", "sweep")
_NAMES = {"remote": "services"}  # in the file


async def renew_services(engine: Engine, *, http: bool = False) -> list[Service]:
    """Load `services/*.py` again for the calls to come; with `http` also what `fetch` uses.

    Raises `ServiceLoadError` that names file and line; then everything is as it was. Returns those
    that are used no more: they are to be closed when the calls that they perform have ended.
    """
    settings = engine.settings
    fresh = await asyncio.to_thread(
        standard_services, settings.http, settings.project, (), settings.remote
    )
    return engine.services.renew(fresh, ["http"] if http else [])


def renew_settings(engine: Engine, settings: Settings) -> list[str]:
    """Use other settings from the next run on; returns the names of those that want a restart.

    Those of `http` count when the services are renewed.
    """
    old = engine.settings
    waiting = [name for name in _LASTING if getattr(settings, name) != getattr(old, name)]
    kept = {name: getattr(old.runner, name) for name in _LASTING_RUNNER}
    runner = msgspec.structs.replace(settings.runner, **kept)
    of_runner = [name for name in kept if getattr(settings.runner, name) != kept[name]]
    lasting = {name: getattr(old, name) for name in _LASTING}
    engine.adopt(msgspec.structs.replace(settings, runner=runner, **lasting))
    return [_NAMES.get(name, name) for name in waiting] + [f"runner.{name}" for name in of_runner]


def forget_modules(files: Collection[Path]) -> None:
    """Have modules of the project imported anew by those who import them next.

    Who has one already keeps it. Python tells an edited file by its second and its size, so what it
    has compiled of these files is removed as well.
    """
    edited = {str(file.resolve()) for file in files}
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if name != "__main__" and place is not None and str(Path(place).resolve()) in edited:
            del sys.modules[name]
    for place in edited:
        Path(importlib.util.cache_from_source(place)).unlink(missing_ok=True)
    importlib.invalidate_caches()
