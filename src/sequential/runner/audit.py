"""The audit log: who did what to a store over HTTP, and when."""

import logging
import secrets

import msgspec

from sequential.core import ids, times
from sequential.runner.clock import Clock
from sequential.storage.base import StorageAdapter

log = logging.getLogger("sequential.audit")

COLLECTION = "audit"
LONGEST = 300  # characters of a field: some hold what was sent


class AuditEntry(msgspec.Struct, frozen=True):
    """One action: `actor` did `action` to `subject` from `address`, and `outcome` says how it went.

    `id` sorts by time.
    """

    id: str
    at: str
    actor: str
    action: str  # as in `runs.cancel`
    subject: str = ""  # as in the id of a run, or the name of a secret
    address: str = ""
    outcome: str = ""  # the status of the answer, as in `200`, and the code of an error


class Audit:
    """The audit log of a store; entries are kept for so many `days`."""

    def __init__(self, storage: StorageAdapter, clock: Clock, days: float) -> None:
        self._storage = storage
        self._clock = clock
        self._days = days

    async def record(
        self, actor: str, action: str, subject: str = "", *, address: str = "", outcome: str = ""
    ) -> None:
        """Write an entry. What it tells of has been done, so a store that fails is only logged."""
        now = self._clock.now()
        milliseconds, rest = divmod(now.microsecond, 1000)  # the rest sorts what comes at once
        entropy = rest.to_bytes(2, "big") + secrets.token_bytes(8)
        key = ids.run_id(int(now.timestamp()) * 1000 + milliseconds, entropy)
        fields = (actor, action, subject, address, outcome)
        short = [field[:LONGEST].encode(errors="replace").decode() for field in fields]
        entry = AuditEntry(key, times.to_text(now), *short)
        try:
            await self._storage.put_document(COLLECTION, key, msgspec.to_builtins(entry))
        except Exception:
            log.exception("the audit log lacks: %s", msgspec.json.encode(entry).decode())

    async def list(self, *, limit: int = 50, before: str | None = None) -> list[AuditEntry]:
        """Entries, newest first, from behind the id `before` on."""
        found = await self._storage.list_documents(
            COLLECTION, after=before, limit=limit, newest=True
        )
        return [msgspec.convert(one.value, AuditEntry) for one in found]

    async def prune(self) -> int:
        """Remove entries that are too old; returns how many there were."""
        moment = self._clock.now().timestamp() - self._days * 86400
        return await self._storage.prune_documents(
            COLLECTION, ids.run_id(max(0, int(moment * 1000)), bytes(10))
        )
