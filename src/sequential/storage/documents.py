"""Documents, the small records of a server, and the keystore, which keeps them by default.

A document is a JSON tree under a key of a collection, with a version that counts its changes. What
may be stored is checked here, for every store. A store with a better place for documents than its
keystore overrides the five methods below that begin with `_`: what they get is checked, and values
are JSON text.
"""

import abc
import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import msgspec

from sequential.core.model import Document
from sequential.core.names import check_collection_name, check_document_key
from sequential.errors import DocumentChangedError, InvalidInputError, StorageError

LARGEST = 512 << 10  # bytes of a value's JSON
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class Stored(NamedTuple):
    """A document as a store has it: its value is JSON."""

    key: str
    text: str
    version: int


class Page(NamedTuple):
    """Which documents of a collection are listed: `limit` of those behind the key `after`."""

    after: str | None = None
    limit: int | None = None
    newest: bool = False  # in descending order, and "behind" means smaller

    def of(self, keys: Iterable[str]) -> list[str]:
        """Those of these keys that are on the page, in its order."""
        ordered = sorted(keys, reverse=self.newest)
        if (after := self.after) is not None:
            ordered = [key for key in ordered if (key < after if self.newest else key > after)]
        return ordered[: self.limit]


class DocumentStore(abc.ABC):
    """What a store keeps by name: entries of the keystore, and documents."""

    # Entries of the keystore that hold documents begin like this; no name of a secret does.
    reserved_keys: ClassVar[str] = "document:"
    _lock: asyncio.Lock

    # --- keystore: what it holds is encrypted already --------------------------------------------

    @abc.abstractmethod
    async def set_keystore(self, key: str, value: str) -> None:
        """Create or replace an entry."""

    @abc.abstractmethod
    async def get_keystore(self, key: str) -> str | None: ...

    @abc.abstractmethod
    async def delete_keystore(self, key: str) -> bool:
        """Remove an entry; returns whether there was one."""

    @abc.abstractmethod
    async def list_keystore(self) -> list[str]:
        """All keys, sorted."""

    # --- documents -------------------------------------------------------------------------------

    async def put_document(
        self, collection: str, key: str, value: Any, *, if_version: int | None = None
    ) -> Document:
        """Create or replace a document; returns it with its new version.

        With `if_version` only if it still has this version, with 0 only if there is none: else
        `DocumentChangedError` is raised and nothing is written. Raises `InvalidNameError`, and
        `InvalidInputError` for a value that is no JSON, or more than 512 KiB of it.
        """
        _check(collection, key)
        text = _text(collection, key, value)
        version = await self._put_document(collection, key, text, if_version)
        return _document(collection, Stored(key, text, version))

    async def get_document(self, collection: str, key: str) -> Document | None:
        _check(collection, key)
        found = await self._get_document(collection, key)
        return _document(collection, found) if found else None

    async def delete_document(self, collection: str, key: str) -> bool:
        """Remove a document; returns whether there was one."""
        _check(collection, key)
        return await self._delete_document(collection, key)

    async def list_documents(
        self,
        collection: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> list[Document]:
        """Documents by key, in the order of code points, from behind `after` on.

        `newest` turns the order round: the greatest key comes first, and those before `after`
        follow it.
        """
        check_collection_name(collection)
        if after is not None:
            check_document_key(after)
        if limit is not None and limit <= 0:
            return []
        found = await self._list_documents(collection, Page(after, limit, newest))
        return [_document(collection, one) for one in found]

    async def prune_documents(self, collection: str, before: str) -> int:
        """Remove all documents whose key is smaller than `before`; returns how many there were."""
        _check(collection, before)
        return await self._prune_documents(collection, before)

    # --- how they are kept -----------------------------------------------------------------------

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        """Write a document if it may be written, as one operation; returns its version."""
        async with self._lock:
            found = await self._get_document(collection, key)
            version = next_version(collection, key, found.version if found else 0, if_version)
            await self.set_keystore(self._entry(collection, key), f"{version} {text}")
            return version

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        entry = await self.get_keystore(self._entry(collection, key))
        if entry is None:
            return None
        version, _, text = entry.partition(" ")
        return Stored(key, text, int(version) if version.isdecimal() else 0)

    async def _delete_document(self, collection: str, key: str) -> bool:
        async with self._lock:
            return await self.delete_keystore(self._entry(collection, key))

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        keys = page.of(await self._document_keys(collection))
        found = [await self._get_document(collection, key) for key in keys]
        return [one for one in found if one]

    async def _prune_documents(self, collection: str, before: str) -> int:
        keys = Page(before, newest=True).of(await self._document_keys(collection))
        return sum([await self._delete_document(collection, key) for key in keys])

    async def _document_keys(self, collection: str) -> list[str]:
        beginning = self._entry(collection, "")
        entries = await self.list_keystore()
        return [name.removeprefix(beginning) for name in entries if name.startswith(beginning)]

    def _entry(self, collection: str, key: str) -> str:
        return f"{self.reserved_keys}{collection}:{key}"


def next_version(collection: str, key: str, found: int, if_version: int | None) -> int:
    """The version after `found`, 0 for none; raises `DocumentChangedError` if it is not wanted."""
    if if_version is not None and if_version != found:
        raise changed(collection, key, found)
    return found + 1


def changed(collection: str, key: str, found: int) -> DocumentChangedError:
    """The error for a document that has the version `found`, 0 for none, and not the wanted one."""
    state = f"has version {found} now" if found else "is not there any more"
    return DocumentChangedError(
        f"the document {collection}/{key} {state}: somebody else has changed it meanwhile; read it "
        "again, then decide anew"
    )


def _check(collection: str, key: str) -> None:
    check_collection_name(collection)
    check_document_key(key)


def _text(collection: str, key: str, value: Any) -> str:
    """The JSON of a value that may be stored."""
    try:
        data = _encoder.encode(value)
    except (TypeError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidInputError(
            f"the document {collection}/{key} is no JSON ({error}): use None, booleans, numbers, "
            "valid text, lists and dictionaries of these"
        ) from error
    if len(data) > LARGEST:
        raise InvalidInputError(
            f"the document {collection}/{key} has {len(data)} bytes, at most {LARGEST} are "
            "allowed: keep what is large elsewhere"
        )
    return data.decode()


def _document(collection: str, found: Stored) -> Document:
    try:
        return Document(collection, found.key, _decoder.decode(found.text), found.version)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"the document {collection}/{found.key} is damaged ({error}): delete it, or bring it "
            "back from a backup"
        ) from error
