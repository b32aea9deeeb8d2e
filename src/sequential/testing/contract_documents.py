"""What a store must promise for documents, the small records of a server."""

import asyncio
from typing import Any

import pytest

from sequential.core.model import Document
from sequential.errors import DocumentChangedError, InvalidInputError, InvalidNameError
from sequential.storage.base import StorageAdapter
from sequential.testing.contract_base import Contract
from sequential.testing.contract_records import SHORT_TEXTS, TREES, text_of

# In the order of code points, which is not that of any language.
KEYS = [
    *(
        " ",
        "!",
        "% 2f",
        "'; DROP TABLE documents; --",
        "*",
        ".",
        "..",
        "../../etc/passwd",
        "/",
        "0",
    ),
    *("01890a5d-ac96-774b-bcce-b302099a8057", "10", "2", "A", "B", "Z", "[a]", "\\", "__a__"),
    *(
        "a",
        "a b",
        "a!",
        "a-b",
        "a.json",
        "a/b",
        "a:b",
        "aa",
        "b",
        "k" * 200,
        "z",
        "~",
        "Ä",
        "ä",
        "東京",
    ),
    *("\ufb01", "\U0001f40d", "\U0001f40d" * 200),
]


class DocumentsContract(Contract):
    """Documents one by one."""

    async def test_a_document_is_put_replaced_and_deleted(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        assert await adapter.get_document("tokens", "a") is None
        assert await adapter.list_documents("tokens") == []
        one = await adapter.put_document("tokens", "a", {"role": "read"})
        assert one == Document("tokens", "a", {"role": "read"}, 1)
        assert await other.get_document("tokens", "a") == one
        two = await other.put_document("tokens", "a", None)
        assert two == Document("tokens", "a", None, 2)
        assert await adapter.get_document("tokens", "a") == two
        assert await adapter.list_documents("tokens") == [two]
        assert await adapter.delete_document("tokens", "a") is True
        assert await other.delete_document("tokens", "a") is False
        assert await other.get_document("tokens", "a") is None
        assert await other.list_documents("tokens") == []
        assert (await other.put_document("tokens", "a", 1)).version == 1

    async def test_collections_do_not_know_each_other(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        names = ("a", "a_", "aa", "b", "b" * 40)
        for number, name in enumerate(names):
            await adapter.put_document(name, "key", number)
            await adapter.put_document(name, "old", number)
        assert await other.prune_documents("a", "z") == 2
        assert await other.delete_document("b", "key") is True
        found = [[one.value for one in await other.list_documents(name)] for name in names]
        assert found == [[], [1, 1], [2, 2], [3], [4, 4]]

    async def test_documents_are_no_entries_of_the_keystore(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        await adapter.set_keystore("key", "secret")
        await adapter.put_document("tokens", "key", "document")
        entries = await other.list_keystore()
        assert [one for one in entries if not one.startswith(other.reserved_keys)] == ["key"]
        assert await other.get_keystore("key") == "secret"
        assert await other.delete_keystore("key") is True
        assert (await other.list_documents("tokens"))[0].value == "document"

    async def test_a_value_comes_back_exactly(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        large = ["x" * 100, {"ä": "\0\u2028"}] * 700  # more than 100 KB of JSON
        values: list[Any] = [*TREES, large]
        for version, value in enumerate(values, 1):
            put = await adapter.put_document("tokens", "a", value)
            assert put.version == version
            assert text_of(put.value) == text_of(value)
            for found in (
                await other.get_document("tokens", "a"),
                *await other.list_documents("tokens"),
            ):
                assert text_of(found) == text_of(put)

    async def test_a_change_of_a_value_is_not_a_change_of_its_document(
        self, adapter: StorageAdapter
    ) -> None:
        value = {"roles": ["read"]}
        put = await adapter.put_document("tokens", "a", value)
        value["roles"].append("operate")
        put.value["roles"].append("admin")
        found = await adapter.get_document("tokens", "a")
        assert found
        assert found.value == {"roles": ["read"]}

    async def test_a_value_that_is_too_large_is_refused(self, adapter: StorageAdapter) -> None:
        await adapter.put_document("tokens", "a", 1)
        with pytest.raises(InvalidInputError, match="at most 524288 are allowed"):
            await adapter.put_document("tokens", "a", "x" * (512 << 10))
        found = await adapter.get_document("tokens", "a")
        assert found == Document("tokens", "a", 1, 1)

    @pytest.mark.parametrize("name", ["", "A", "_a", "a-b", "a1", "a/b", "ä", "a\n", "a" * 41])
    async def test_a_hostile_collection_is_refused(
        self, adapter: StorageAdapter, name: str
    ) -> None:
        with pytest.raises(InvalidNameError, match="not a name of a collection"):
            await adapter.put_document(name, "key", 1)
        with pytest.raises(InvalidNameError, match="not a name of a collection"):
            await adapter.list_documents(name)

    @pytest.mark.parametrize("key", ["", "k" * 201, "a\0", "a\n", "\u202ea", "\ud800", "\u2028"])
    async def test_a_hostile_key_is_refused(self, adapter: StorageAdapter, key: str) -> None:
        for attempt in (
            adapter.put_document("tokens", key, 1),
            adapter.get_document("tokens", key),
            adapter.delete_document("tokens", key),
            adapter.list_documents("tokens", after=key),
            adapter.prune_documents("tokens", key),
        ):
            with pytest.raises(InvalidNameError, match="not a key of a document"):
                await attempt
        assert await adapter.list_documents("tokens") == []


class DocumentListsContract(Contract):
    """Documents in the order of their keys."""

    async def test_any_printable_text_is_a_key_and_sorts_by_its_code_points(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        texts = [text for text in SHORT_TEXTS if text and text.isprintable()]
        keys = [*KEYS, *texts, "z\ufffd"]
        for number, key in enumerate(keys):
            put = await adapter.put_document("audit_log", key, number)
            assert await other.get_document("audit_log", key) == put
        found = await other.list_documents("audit_log")
        assert [one.key for one in found] == sorted(keys)
        assert [keys[one.value] for one in found] == sorted(keys)
        assert await other.list_documents("audit_log", newest=True) == found[::-1]
        for place, key in enumerate(sorted(keys)):
            assert (
                await other.list_documents("audit_log", after=key, limit=2)
                == (found[place + 1 : place + 3])
            )
            assert await other.delete_document("audit_log", key) is True
        assert await other.list_documents("audit_log") == []

    async def test_pages_follow_each_other_in_both_directions(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        keys = [f"{number:03}" for number in range(25)]
        stores = (adapter, other)
        await asyncio.gather(
            *(stores[i % 2].put_document("log", key, i) for i, key in enumerate(keys))
        )
        for newest, wanted in ((False, keys), (True, keys[::-1])):
            seen: list[str] = []
            after = None
            while page := await adapter.list_documents("log", after=after, limit=7, newest=newest):
                assert len(page) == min(7, 25 - len(seen))
                seen += [one.key for one in page]
                after = seen[-1]
            assert seen == wanted
        assert [d.key for d in await other.list_documents("log", after="0105", limit=2)] == [
            "011",
            "012",
        ]
        before = await other.list_documents("log", after="0105", limit=2, newest=True)
        assert [d.key for d in before] == ["010", "009"]
        assert await other.list_documents("log", limit=0) == []
        assert len(await other.list_documents("log", limit=1000)) == 25

    async def test_a_list_has_no_end(self, adapter: StorageAdapter, other: StorageAdapter) -> None:
        keys = [f"{number:04}" for number in range(450)]
        stores = (adapter, other)
        await asyncio.gather(
            *(stores[i % 2].put_document("log", key, i) for i, key in enumerate(keys))
        )
        assert [d.key for d in await other.list_documents("log")] == keys
        assert [d.key for d in await other.list_documents("log", newest=True)] == keys[::-1]
        assert [d.key for d in await other.list_documents("log", after="0100")] == keys[101:]
        assert await adapter.prune_documents("log", "0440") == 440
        assert [d.key for d in await other.list_documents("log")] == keys[440:]

    async def test_what_is_older_is_pruned(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        for key in KEYS:
            await adapter.put_document("log", key, key)
        assert await other.prune_documents("log", " ") == 0
        assert await other.prune_documents("log", "a") == len([k for k in KEYS if k < "a"])
        assert [d.key for d in await adapter.list_documents("log")] == [
            k for k in sorted(KEYS) if k >= "a"
        ]
        assert await adapter.prune_documents("log", "a") == 0
        assert await adapter.prune_documents("other", "a") == 0


class DocumentChangesContract(Contract):
    """Documents that several change at once."""

    async def test_a_document_is_replaced_only_if_it_has_the_wanted_version(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        with pytest.raises(DocumentChangedError, match="jobs/a is not there any more"):
            await adapter.put_document("jobs", "a", "lost", if_version=1)
        one = await adapter.put_document("jobs", "a", "one", if_version=0)
        assert one.version == 1
        for wrong in (0, 2, 99):
            with pytest.raises(DocumentChangedError, match="jobs/a has version 1 now"):
                await other.put_document("jobs", "a", "lost", if_version=wrong)
        assert await other.get_document("jobs", "a") == one
        two = await other.put_document("jobs", "a", "two", if_version=1)
        assert two.version == 2
        with pytest.raises(DocumentChangedError, match="jobs/a has version 2 now"):
            await adapter.put_document("jobs", "a", "lost", if_version=1)
        assert await adapter.get_document("jobs", "a") == two
        await adapter.delete_document("jobs", "a")
        with pytest.raises(DocumentChangedError):
            await other.put_document("jobs", "a", "lost", if_version=2)
        assert await other.list_documents("jobs") == []

    async def test_of_twenty_that_create_a_document_one_succeeds(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        await self._race((adapter, other), 0)

    async def test_of_twenty_that_replace_a_version_one_succeeds(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        await adapter.put_document("jobs", "a", "first")
        for version in (1, 2):
            await self._race((adapter, other), version)

    async def _race(self, stores: tuple[StorageAdapter, ...], version: int) -> None:
        results = await asyncio.gather(
            *(stores[i % 2].put_document("jobs", "a", i, if_version=version) for i in range(20)),
            return_exceptions=True,
        )
        won = [one for one in results if isinstance(one, Document)]
        assert sum(isinstance(one, DocumentChangedError) for one in results) == 19
        assert len(won) == 1
        assert won[0].version == version + 1
        for store in stores:
            assert await store.get_document("jobs", "a") == won[0]

    async def test_every_put_of_many_at_once_counts(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        stores = (adapter, other)
        put = await asyncio.gather(*(stores[i % 2].put_document("jobs", "a", i) for i in range(20)))
        assert sorted(one.version for one in put) == [*range(1, 21)]
        assert await adapter.get_document("jobs", "a") == max(put, key=lambda one: one.version)

    async def test_a_number_that_two_count_up_loses_none(
        self, adapter: StorageAdapter, other: StorageAdapter
    ) -> None:
        await adapter.put_document("jobs", "count", 0)

        async def count(store: StorageAdapter) -> None:
            left = 10
            while left:
                found = await store.get_document("jobs", "count")
                assert found
                try:
                    await store.put_document(
                        "jobs", "count", found.value + 1, if_version=found.version
                    )
                    left -= 1
                except DocumentChangedError:
                    await asyncio.sleep(0)

        await asyncio.gather(count(adapter), count(other))
        found = await other.get_document("jobs", "count")
        assert found == Document("jobs", "count", 20, 21)
