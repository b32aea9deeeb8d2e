"""Documents of an adapter that has no place for them: they are entries of its keystore."""

from collections.abc import Awaitable, Callable

import pytest

from sequential.core.model import Document
from sequential.errors import InvalidInputError, StorageError
from sequential.storage.base import StorageAdapter
from sequential.storage.documents import DocumentStore, Page
from sequential.storage.memory import MemoryAdapter
from sequential.testing.contract_documents import (
    DocumentChangesContract,
    DocumentListsContract,
    DocumentsContract,
)


class WithoutDocuments(MemoryAdapter):
    """A custom adapter that was written before there were documents."""

    _put_document = DocumentStore._put_document
    _get_document = DocumentStore._get_document
    _delete_document = DocumentStore._delete_document
    _list_documents = DocumentStore._list_documents
    _prune_documents = DocumentStore._prune_documents


class TestDocumentsInTheKeystore(DocumentsContract, DocumentListsContract, DocumentChangesContract):
    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def open_adapter(self) -> Callable[[], Awaitable[StorageAdapter]]:
        adapter = WithoutDocuments()

        async def open_adapter() -> StorageAdapter:
            return adapter

        return open_adapter


async def test_entries_of_the_keystore_say_what_they_hold() -> None:
    adapter = WithoutDocuments()
    await adapter.put_document("tokens", "ci", {"role": "read"})
    assert await adapter.list_keystore() == ["document:tokens:ci"]
    assert await adapter.get_keystore("document:tokens:ci") == '1 {"role":"read"}'


async def test_a_damaged_document_is_reported_and_can_be_deleted() -> None:
    adapter = WithoutDocuments()
    for damaged in ("1 {", "text", ""):
        await adapter.set_keystore("document:tokens:ci", damaged)
        with pytest.raises(
            StorageError, match=r"tokens/ci is damaged.*: delete it, or bring it back"
        ):
            await adapter.get_document("tokens", "ci")
    assert await adapter.delete_document("tokens", "ci") is True
    assert await adapter.put_document("tokens", "ci", 1) == Document("tokens", "ci", 1, 1)


async def test_a_value_that_is_no_json_is_refused() -> None:
    adapter = MemoryAdapter()
    for value in (object(), {1: object()}, [lambda: 0], ["half \ud800"], {"\udfff": 1}):
        with pytest.raises(InvalidInputError, match="the document tokens/a is no JSON"):
            await adapter.put_document("tokens", "a", value)
    assert await adapter.get_document("tokens", "a") is None


def test_a_page_is_a_part_of_the_keys_in_its_order() -> None:
    keys = {"b", "a", "d", "c"}
    assert Page().of(keys) == ["a", "b", "c", "d"]
    assert Page(limit=3, newest=True).of(keys) == ["d", "c", "b"]
    assert Page(after="b", limit=1).of(keys) == ["c"]
    assert Page(after="bb", newest=True).of(keys) == ["b", "a"]
