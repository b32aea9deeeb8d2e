"""Documents in Firestore: each is one, found by its collection and key in the field `place`.

That field has an index of its own in both directions, so no other is needed. A write is made on
condition that nothing was written since the document was read, and leaves a mark in it, by which a
write whose answer was lost is recognised.
"""

import asyncio
import hashlib
import random
import secrets
from abc import abstractmethod

from sequential.errors import StorageError
from sequential.storage import firestore_values
from sequential.storage.base import StorageAdapter
from sequential.storage.documents import Page, Stored, next_version
from sequential.storage.firestore_connection import ConflictError, Connection
from sequential.storage.firestore_values import EXISTING, MISSING, Condition, Found

DOCUMENTS = "documents"
_FIELDS = ("place", "version", "value")
_PAGE = 200  # documents in one answer
_AT_ONCE = 200  # documents that are removed by one commit
_MARKS = 8  # changes that a document remembers
_TRIES = 60
_LONGEST = 0.5  # seconds between two tries


class FirestoreDocuments(StorageAdapter):
    """How documents are kept."""

    @property
    @abstractmethod
    def _connection(self) -> Connection:
        """The connection, while the store is open."""

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        name = _name(self._connection, collection, key)
        mark = secrets.token_hex(6)
        written = 0  # the version that a try may have written whose answer was lost
        for attempt in range(_TRIES):
            found = (await self._connection.get([name], ("version", "marks"))).get(name)
            marks = _marks(found)
            if written and mark in marks:
                return written
            version = next_version(collection, key, _version(found), if_version)
            fields: dict[str, firestore_values.Value] = {
                "place": _place(collection, key),
                "version": str(version),
                "value": text,
                "marks": [*marks[1 - _MARKS :], mark],
            }
            condition = found.version if found else MISSING
            try:
                await self._connection.commit([firestore_values.put(name, fields, condition)])
                return version
            except ConflictError as error:
                written = version if error.repeated else written
            await asyncio.sleep(min(0.01 * 2**attempt, _LONGEST) * random.uniform(0.2, 1))  # noqa: S311
        raise StorageError(
            f"the document {collection}/{key} is changed by too many at once: try again"
        )

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        name = _name(self._connection, collection, key)
        found = (await self._connection.get([name], _FIELDS)).get(name)
        return _stored(found) if found else None

    async def _delete_document(self, collection: str, key: str) -> bool:
        name = _name(self._connection, collection, key)
        try:
            await self._connection.commit([firestore_values.delete(name, EXISTING)])
        except ConflictError as error:
            return error.repeated  # the answer to the first try was lost, and it has removed it
        return True

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        found: list[Stored] = []
        low, high = _bounds(collection)
        if page.after is not None:
            edge = _place(collection, page.after)
            low, high = (low, edge) if page.newest else (edge, high)
        while page.limit is None or len(found) < page.limit:
            size = _PAGE if page.limit is None else min(page.limit - len(found), _PAGE)
            rows = await self._between(low, high, size, newest=page.newest)
            found += map(_stored, rows)
            if len(rows) < size:
                break
            edge = str(rows[-1].fields["place"])
            low, high = (low, edge) if page.newest else (edge, high)
        return found

    async def _prune_documents(self, collection: str, before: str) -> int:
        low, _ = _bounds(collection)
        high = _place(collection, before)
        removed = 0
        while rows := await self._between(low, high, _AT_ONCE, fields=("place",)):
            await self._connection.commit([firestore_values.delete(row.name) for row in rows])
            removed += len(rows)
        return removed

    async def _between(
        self,
        low: str,
        high: str,
        limit: int,
        *,
        newest: bool = False,
        fields: tuple[str, ...] = _FIELDS,
    ) -> list[Found]:
        """Documents whose places are between these two, which do not count themselves."""
        where = [Condition("place", ">", low), Condition("place", "<", high)]
        return await self._connection.find(
            DOCUMENTS, where, order="place", descending=newest, limit=limit, fields=fields
        )


def _place(collection: str, key: str) -> str:
    return f"{collection}/{key}"


def _bounds(collection: str) -> tuple[str, str]:
    """What all places of a collection are between: "0" is the character behind "/"."""
    return f"{collection}/", f"{collection}0"


def _name(connection: Connection, collection: str, key: str) -> str:
    """Keys may be any text; names of documents may not."""
    digest = hashlib.sha256(_place(collection, key).encode()).hexdigest()
    return connection.place.name(DOCUMENTS, digest)


def _version(found: Found | None) -> int:
    return _stored_version(found) if found else 0


def _marks(found: Found | None) -> list[str]:
    marks = found.fields.get("marks") if found else None
    return marks if isinstance(marks, list) else []


def _stored(found: Found) -> Stored:
    key = str(found.fields.get("place")).partition("/")[2]
    return Stored(key, str(found.fields.get("value")), _stored_version(found))


def _stored_version(found: Found) -> int:
    try:
        return int(str(found.fields.get("version")))
    except ValueError:
        raise StorageError(
            f"the document {found.id} is damaged: it has no version; correct or delete it"
        ) from None
