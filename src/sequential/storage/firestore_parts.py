"""Values too large for the document they belong to: kept apart, as documents that never change.

A part is written under a new name, and counts once a document refers to it. So any number of bytes
is changed at once with that document. What a commit can carry goes with it; the rest goes ahead,
after a note of what would have to be removed if the commit never comes (`LEFT`).
"""

import hashlib
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sequential.storage import firestore_values
from sequential.storage.firestore_connection import Connection
from sequential.storage.firestore_values import EXISTING, NAME, Condition, Found

PARTS, LEFT = "parts", "left"
CHUNK = 1_000_000  # bytes in a document, which may have 1 MiB
MOST_BYTES = 3 << 20  # in a commit, which may have 10 MiB, and 4 MiB on the emulator
MOST_WRITES = 400  # in a commit
LEFT_AFTER = 3600.0  # seconds after which a commit that has not come will not come
_DATA = "data"
_TOGETHER = 16  # documents that are read by one request


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Where a value is kept: in documents named `<name>.0`, `<name>.1`, ..."""

    name: str
    size: int
    digest: str

    @property
    def chunks(self) -> int:
        return max(1, -(-self.size // CHUNK))


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


class PartMissingError(Exception):
    """A part is not there: its document has changed meanwhile, or is damaged."""


class Batch:
    """What one change writes: the writes that count, and the parts they refer to."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self.change = secrets.token_hex(6)
        self.writes: list[Any] = []
        self._connection = connection
        self._prefix = f"{owner}-{self.change}"
        self._parts: list[tuple[Part, bytes]] = []
        self._dropped: list[Part] = []

    def keep(self, data: bytes, name: str = "") -> Part:
        """Have a value kept apart; returns what to refer to it by."""
        name = name or f"{self._prefix}-{len(self._parts)}"
        part = Part(name, len(data), digest_of(data))
        self._parts.append((part, data))
        return part

    def drop(self, part: Part | None) -> None:
        """Have a part removed that nothing refers to any more."""
        if part is not None:
            self._dropped.append(part)

    async def commit(self) -> list[Any]:
        """Do it, all or nothing; returns the versions that the `writes` made."""
        writes = [*self.writes, *self._puts(self._parts)]
        if len(writes) > MOST_WRITES or sum(w.ByteSize() for w in writes) > MOST_BYTES:
            writes = [*self.writes, await self._write_ahead()]
        removed = self._removals()
        room = max(0, MOST_WRITES - len(writes))
        versions = await self._connection.commit([*writes, *removed[:room]])
        for some in portions(removed[room:]):
            await self._connection.commit(some)
        return versions[: len(self.writes)]

    async def _write_ahead(self) -> Any:
        """Write the parts before the commit; returns what the commit has to do about the note."""
        place = self._connection.place
        note = place.name(LEFT, self._prefix)
        await self._connection.commit([firestore_values.put(note, {})])
        for some in portions(self._puts(self._parts)):
            await self._connection.commit(some)
        return firestore_values.delete(note, EXISTING)

    def _puts(self, parts: Iterable[tuple[Part, bytes]]) -> list[Any]:
        return [
            firestore_values.put(name, {_DATA: data[i * CHUNK : (i + 1) * CHUNK]})
            for part, data in parts
            for i, name in enumerate(_names(self._connection, part))
        ]

    def _removals(self) -> list[Any]:
        names = [n for part in self._dropped for n in _names(self._connection, part)]
        return [firestore_values.delete(name) for name in names]


def portions(writes: Sequence[Any]) -> list[list[Any]]:
    """The writes in groups that each fit into a commit."""
    groups: list[list[Any]] = []
    size = MOST_BYTES
    for write in writes:
        if size + write.ByteSize() > MOST_BYTES or len(groups[-1]) >= MOST_WRITES:
            groups.append([])
            size = 0
        groups[-1].append(write)
        size += write.ByteSize()
    return groups


async def load(connection: Connection, parts: Iterable[Part]) -> dict[Part, bytes]:
    """The values of these parts; raises `PartMissingError`."""
    wanted = {part: _names(connection, part) for part in parts}
    names = [name for group in wanted.values() for name in group]
    found: dict[str, Found] = {}
    for start in range(0, len(names), _TOGETHER):
        found |= await connection.get(names[start : start + _TOGETHER])
    loaded: dict[Part, bytes] = {}
    for part, group in wanted.items():
        chunks = [found[name].fields.get(_DATA) for name in group if name in found]
        data = b"".join(chunk for chunk in chunks if isinstance(chunk, bytes))
        if len(data) != part.size:
            raise PartMissingError(part.name)
        loaded[part] = data
    return loaded


def _names(connection: Connection, part: Part) -> list[str]:
    return [connection.place.name(PARTS, f"{part.name}.{i}") for i in range(part.chunks)]


# --- what is left --------------------------------------------------------------------------------


def note(connection: Connection, owner: str) -> Any:
    """The write that says: the parts of `owner` are to be removed, whoever comes to it."""
    return firestore_values.put(connection.place.name(LEFT, owner), {"now": "yes"})


async def remove_left(connection: Connection) -> None:
    """Remove the parts of runs that are deleted, and of commits that never came."""
    for found in await connection.find(LEFT, limit=20):
        age = time.time() - found.version.seconds
        if "now" in found.fields or age > LEFT_AFTER:
            await remove_all(connection, found.id)


async def remove_all(connection: Connection, owner: str) -> None:
    """Remove all parts of an owner, and the note that says so."""
    place = connection.place
    where = [
        Condition(NAME, ">=", place.name(PARTS, f"{owner}-")),
        Condition(NAME, "<", place.name(PARTS, f"{owner}.")),
    ]
    last = firestore_values.delete(place.name(LEFT, owner))
    while True:
        found = await connection.find(PARTS, where, limit=MOST_WRITES - 1, fields=())
        is_last = len(found) < MOST_WRITES - 1
        removals = [firestore_values.delete(one.name) for one in found]
        await connection.commit([*removals, last] if is_last else removals)
        if is_last:
            return
