"""Tokens in a store: made, found, expired, revoked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sequential.core.bounds import TokenLimits
from sequential.core.model import Limits
from sequential.errors import InvalidInputError, InvalidNameError, TokenNotFoundError
from sequential.runner.clock import SystemClock
from sequential.runner.tokens import COLLECTION, FRESH, Tokens
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter
from sequential.testing.clock import FakeClock


@pytest.fixture
async def storage() -> AsyncIterator[StorageAdapter]:
    adapter = await create_adapter("memory:")
    yield adapter
    await adapter.close()


@pytest.fixture
def tokens(storage: StorageAdapter) -> Tokens:
    return Tokens(storage, SystemClock())


async def test_a_token_is_found_by_what_is_shown_once(tokens: Tokens) -> None:
    record, text = await tokens.create("ci", "operate", limits=TokenLimits(runs=3))

    assert text.startswith("seq_")
    assert await tokens.find(text) == record
    assert await tokens.list() == [record]
    assert (record.name, record.role) == ("ci", "operate")
    assert record.limits == TokenLimits(runs=3)


async def test_the_store_has_no_token_only_digests(tokens: Tokens, storage: StorageAdapter) -> None:
    made = [await tokens.create(name) for name in ("a", "b")]
    kept = msgspec.json.encode(await storage.list_documents(COLLECTION)).decode()

    for record, text in made:
        assert record.id in kept
        assert text not in kept
        assert text.rpartition("_")[2] not in kept
    assert made[0][1] != made[1][1]


async def test_what_is_not_a_token_is_not_found(tokens: Tokens) -> None:
    _, text = await tokens.create("a")
    other = ("A" if text[-1] != "A" else "B").join((text[:-1], ""))

    for wrong in ("", "seq_", text[:-1], text + "a", other, text.upper(), f" {text}", "x" * 10_000):
        assert await tokens.find(wrong) is None
    assert await tokens.find(text) is not None


async def test_a_request_does_not_cost_a_read(
    tokens: Tokens, storage: StorageAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await tokens.create("a")
    read = storage.get_document
    reads = 0

    async def counted(collection: str, key: str) -> object:
        nonlocal reads
        reads += 1
        return await read(collection, key)

    monkeypatch.setattr(storage, "get_document", counted)
    for _ in range(20):
        assert await tokens.find(text)
        assert await tokens.find("seq_not-of-this-form") is None

    assert reads <= 2


async def test_a_revoked_token_is_refused_within_two_seconds_elsewhere(
    storage: StorageAdapter,
) -> None:
    here, elsewhere = Tokens(storage, SystemClock()), Tokens(storage, SystemClock())
    record, text = await here.create("a")
    assert await elsewhere.find(text)
    assert await here.find(text)

    assert await here.revoke("a") == [record]

    assert await here.find(text) is None
    async with asyncio.timeout(2):
        while await elsewhere.find(text):
            await asyncio.sleep(FRESH / 10)
    assert await here.list() == []


async def test_a_token_ends_when_it_expires(storage: StorageAdapter) -> None:
    clock = FakeClock()
    tokens = Tokens(storage, clock)
    record, text = await tokens.create("a", expires_in=60)
    assert await tokens.find(text) == record

    clock.advance(59)
    assert await tokens.find(text)
    clock.advance(1)
    assert await tokens.find(text) is None
    assert await tokens.list() == [record]


async def test_whether_there_are_any(storage: StorageAdapter) -> None:
    tokens = Tokens(storage, SystemClock())
    assert not await tokens.exist()

    await tokens.create("a")
    assert await tokens.exist()

    await tokens.revoke("a")
    assert not await tokens.exist()


async def test_all_that_are_named_are_revoked_or_none(tokens: Tokens) -> None:
    await tokens.create("a")
    first, _ = await tokens.create("twin")
    await tokens.create("twin")

    with pytest.raises(TokenNotFoundError, match="no token 'b'"):
        await tokens.revoke("a", "b")
    with pytest.raises(TokenNotFoundError, match=f"have this name, say which: .*{first.id}"):
        await tokens.revoke("a", "twin")
    assert len(await tokens.list()) == 3
    assert await tokens.revoke(first.id) == [first]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101])
async def test_a_name_that_cannot_be(tokens: Tokens, name: str) -> None:
    with pytest.raises(InvalidNameError, match="token's name"):
        await tokens.create(name)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (TokenLimits(timeout=-1), "timeout must be more than 0"),
        (TokenLimits(limits=Limits(memory_mb=0)), "limits.memory_mb"),
        (TokenLimits(secrets=("a b",)), "allow.secrets"),
    ],
)
async def test_limits_that_cannot_be(tokens: Tokens, limits: TokenLimits, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        await tokens.create("a", "operate", limits=limits)
    assert await tokens.list() == []


async def test_who_only_reads_has_no_limits(tokens: Tokens) -> None:
    with pytest.raises(InvalidInputError, match="limits are for tokens of the role operate"):
        await tokens.create("a", "read", limits=TokenLimits(runs=1))
    with pytest.raises(InvalidInputError, match="expires"):
        await tokens.create("a", expires_in=0)


async def test_a_token_of_a_later_version_is_not_accepted(
    tokens: Tokens, storage: StorageAdapter
) -> None:
    record, text = await tokens.create("a", "operate")
    kept = await storage.get_document(COLLECTION, record.id)
    assert kept is not None
    await storage.put_document(COLLECTION, record.id, {**kept.value, "role": "root"})

    assert await tokens.find(text) is None
    assert await tokens.list() == []
    assert await tokens.exist()


@pytest.mark.parametrize("place", ["folder:{}/tasks", "sqlite:{}/t.db"])
async def test_other_processes_know_it(place: str, tmp_path: Path) -> None:
    async with asyncio.timeout(20):
        first = await create_adapter(place.format(tmp_path))
        record, text = await Tokens(first, SystemClock()).create("a")
        await first.close()

        second = await create_adapter(place.format(tmp_path))
        assert await Tokens(second, SystemClock()).find(text) == record
        await second.close()
