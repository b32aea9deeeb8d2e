"""The documents of the Redis store: a hash for each collection, and its keys in their order."""

from sequential.storage.documents import Page, Stored, changed
from sequential.storage.redis_open import OpenStore
from sequential.storage.redis_records import Item, damage

_PAGE = 200  # documents in one answer
_AT_ONCE = 1000  # documents that are removed by one script


class RedisDocuments(OpenStore):
    """How documents are kept: as `<version> <JSON>`, by key."""

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        wanted = "" if if_version is None else if_version
        word, version = await self._call(
            "put_document", [], [collection, key.encode(), text.encode(), wanted]
        )
        if word == b"changed":
            raise changed(collection, key, int(version))
        return int(version)

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        name = f"{self._address.prefix}documents:{collection}"
        entry = await self._server.command("HGET", name, key.encode())
        return None if entry is None else _stored(collection, key, entry)

    async def _delete_document(self, collection: str, key: str) -> bool:
        _, removed = await self._call("delete_document", [], [collection, key.encode()])
        return bool(removed == b"1")

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        found: list[Stored] = []
        after = page.after or ""
        while page.limit is None or len(found) < page.limit:
            size = _PAGE if page.limit is None else min(page.limit - len(found), _PAGE)
            items: list[Item] = [collection, after.encode(), size, int(page.newest)]
            _, keys, entries = await self._call("list_documents", [], items)
            names = [key.decode() for key in keys]
            found += [_stored(collection, *one) for one in zip(names, entries, strict=True)]
            if len(names) < size:
                break
            after = names[-1]
        return found

    async def _prune_documents(self, collection: str, before: str) -> int:
        removed = 0
        while True:
            items: list[Item] = [collection, before.encode(), _AT_ONCE]
            count = int((await self._call("prune_documents", [], items))[1])
            removed += count
            if count < _AT_ONCE:
                return removed


def _stored(collection: str, key: str, entry: bytes | None) -> Stored:
    version, _, text = (entry or b"").partition(b" ")
    try:
        return Stored(key, text.decode(), int(version))
    except ValueError as error:
        raise damage(f"the document {collection}/{key}", "it has no version") from error
