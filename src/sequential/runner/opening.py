"""What an engine is made of, for those who name a store or a project and nothing more."""

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sequential.config import Settings, lasting_secret, load_secret, load_settings
from sequential.runner.keystore import Keystore
from sequential.services.base import Service
from sequential.services.registry import Services, standard_services
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter


class Parts(NamedTuple):
    """Everything an engine works with. `secret` signs snapshots; it has the project's keys.

    `lasting` gives what links are signed with, if that is something else.
    """

    storage: StorageAdapter
    services: Services
    settings: Settings
    secret: bytes
    keys: Keystore | None = None
    lasting: Callable[[], bytes] | None = None


async def open_parts(
    storage: StorageAdapter | str | None,
    project: str | Path,
    settings: Settings | None,
    services: Iterable[Service],
) -> Parts:
    """The parts for a store, by name, URL or as it is, with the settings of a project.

    `services` are added to those of the project, in place of any of the same name.
    """
    named = storage if isinstance(storage, str) else None
    settings = settings or load_settings(Path(project), adaptor=named)
    available = standard_services(settings.http, settings.project, services, settings.remote)
    try:
        adapter = (
            storage
            if isinstance(storage, StorageAdapter)
            else await create_adapter(named or settings.storage)
        )
    except BaseException:
        await available.close()
        raise
    if settings.adaptor.startswith("memory"):
        return Parts(adapter, available, settings, secrets.token_bytes(32))
    secret = load_secret(settings.project)

    def lasting() -> bytes:
        return lasting_secret(settings.project)

    return Parts(adapter, available, settings, secret, Keystore(adapter, lasting), lasting)
