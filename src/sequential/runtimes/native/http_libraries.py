"""The HTTP libraries whose requests become calls of the run, each from when it is imported."""

import asyncio
import functools
import logging
import os
import random
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from sequential.runtimes.native import http_aiohttp, http_client, http_httpx, patches, unseen
from sequential.runtimes.native.importing import ImportHook, Then, rebind

_log = logging.getLogger(__name__)


@functools.cache
def install() -> None:
    """Cover them; only the first call does anything."""
    known: dict[str, Then] = {
        "aiohttp": http_aiohttp.patch,
        "botocore.compat": functools.partial(_patch_clock, name="get_current_datetime"),
        "google.auth._regional_access_boundary_utils": _without_background,
        "google.auth._helpers": functools.partial(_patch_clock, name="utcnow"),
        "http.client": http_client.patch,
        "httplib2": http_client.patch_httplib2,
        "httpx": http_httpx.patch,
        "httpx2": http_httpx.patch,
        "urllib3.connection": http_client.patch_urllib3,
        **dict(unseen.refusals()),
    }
    ImportHook({name: functools.partial(cover, patch) for name, patch in known.items()}).install()
    _rebind_replaced()


def cover(patch: Then, module: ModuleType) -> None:
    """Patch a library. One that has become another can be imported, and is refused in tasks."""
    try:
        patch(module)
    except AttributeError as error:
        _log.warning("requests of %s are refused in native tasks: %s", module.__name__, error)


def _rebind_replaced() -> None:
    """Reach libraries that were imported before, and took what `patches` has replaced, by name."""
    new = [
        one
        for module in (asyncio, os, random, time)
        for one in vars(module).values()
        if getattr(one, "__globals__", None) is vars(patches)
    ]
    rebind({one.__wrapped__: one for one in new})


def _patch_clock(module: Any, name: str) -> None:
    """Take the time from the run where a library signs requests with it.

    It asks `datetime`, a built-in type that cannot be changed, and what it signs is part of what
    it sends.
    """
    if callable(original := getattr(module, name, None)):
        setattr(module, name, _clock(original))


def _without_background(module: Any) -> None:
    """Leave out a look-up that google-auth makes in a thread, and can do without."""
    kind = getattr(module, "_RegionalAccessBoundaryRefreshManager", None)
    if kind is not None:
        kind.start_refresh = _outside(kind.start_refresh)


def _outside(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def start(*args: Any, **kwargs: Any) -> None:
        if patches.execution() is None:
            original(*args, **kwargs)

    return start


def _clock(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def moment(*args: Any, **kwargs: Any) -> Any:
        running = patches.execution()
        real = original(*args, **kwargs)
        return real if running is None else running.now().replace(tzinfo=real.tzinfo)

    return moment
