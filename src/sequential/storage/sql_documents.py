"""The documents of stores made of SQL functions: rows, a function for each operation."""

from collections.abc import Sequence
from typing import Any

from sequential.storage.documents import Page, Stored
from sequential.storage.sql_requests import SqlRequests

_PAGE = 200  # documents in one answer


class SqlDocuments(SqlRequests):
    """How documents are kept."""

    async def _put_document(
        self, collection: str, key: str, text: str, if_version: int | None
    ) -> int:
        arguments = {"collection": collection, "key": key, "value": text, "if_version": if_version}
        version: int = await self._call("put_document", arguments, f"{collection}/{key}")
        return version

    async def _get_document(self, collection: str, key: str) -> Stored | None:
        row = await self._call("get_document", {"collection": collection, "key": key})
        return Stored(*row) if row else None

    async def _delete_document(self, collection: str, key: str) -> bool:
        return bool(await self._call("delete_document", {"collection": collection, "key": key}))

    async def _list_documents(self, collection: str, page: Page) -> list[Stored]:
        found: list[Stored] = []
        after = page.after
        while page.limit is None or len(found) < page.limit:
            size = _PAGE if page.limit is None else min(page.limit - len(found), _PAGE)
            arguments = {
                "collection": collection,
                "after": after,
                "limit": size,
                "newest": page.newest,
            }
            rows: Sequence[Any] = await self._call("list_documents", arguments) or ()
            found += [Stored(*row) for row in rows]
            if len(rows) < size:
                break
            after = found[-1].key
        return found

    async def _prune_documents(self, collection: str, before: str) -> int:
        arguments = {"collection": collection, "before": before}
        removed: int = await self._call("prune_documents", arguments)
        return removed
