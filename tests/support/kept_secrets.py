"""Secrets for tests of services, without a store."""

from collections.abc import Mapping

from sequential.services.base import CallError


class KeptSecrets:
    """The secrets of a mapping, which may change; those in `refuse` are not for the task."""

    def __init__(self, kept: Mapping[str, str], refuse: set[str] | None = None) -> None:
        self._kept = kept
        self._refuse = refuse or set()

    async def get(self, name: str) -> str:
        if name in self._refuse:
            told = f"the secret {name!r} is not in the task's allow.secrets (no secret)"
            raise CallError("PermissionError", told, code="refused")
        if name not in self._kept:
            raise CallError("LookupError", f"there is no secret {name!r}", code="secret_not_found")
        return self._kept[name]

    def redacted(self, text: str) -> str:
        return text
