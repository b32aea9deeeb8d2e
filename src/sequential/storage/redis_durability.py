"""What a Redis server promises for the writes it has acknowledged, as far as it says."""

from collections.abc import Sequence
from typing import Any

from sequential.errors import StorageError
from sequential.storage.redis_server import Server

_SETTINGS = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")


async def durability(server: Server) -> tuple[str, str]:
    """What survives a power cut of the server, and a warning if it is too little or unknown."""
    found: dict[str, str] = {}
    for name in _SETTINGS:
        try:
            found |= _pairs(await server.command("CONFIG", "GET", name, patience=0))
        except StorageError:  # services do not let their users look
            return "unknown: the server does not tell its settings", ""
    shown, complaints = _promise(found), []
    if found.get("appendonly") != "yes":
        complaints.append("a restart may lose all runs: set `appendonly yes`")
    policy = found.get("maxmemory-policy", "noeviction")
    if policy != "noeviction" and found.get("maxmemory", "0") != "0":
        complaints.append(
            f"`maxmemory-policy {policy}` removes runs when memory is short: set `noeviction`"
        )
    return shown, f"{server.address.shown}: {'; '.join(complaints)}" if complaints else ""


def _promise(found: dict[str, str]) -> str:
    if found.get("appendonly") != "yes":
        return "none: a restart of the server may lose everything (appendonly no)"
    match found.get("appendfsync"):
        case "always":
            return "what was acknowledged survives a power cut (appendfsync always)"
        case "everysec":
            return "a power cut loses up to a second or two (appendfsync everysec)"
        case _:
            return "a power cut loses what the system has not written (appendfsync no)"


def _pairs(answer: Any) -> dict[str, str]:
    """The client gives a dictionary or, for a command it does not know, a list."""
    if isinstance(answer, dict):
        items: Sequence[Any] = [item for pair in answer.items() for item in pair]
    else:
        items = answer
    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in items]
    return dict(zip(texts[::2], texts[1::2], strict=False))
