"""The audit log in a store."""

import logging

import pytest

from sequential.runner.audit import LONGEST, Audit
from sequential.runner.engine import Engine
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter
from sequential.testing.clock import FakeClock

DAY = 86400.0


@pytest.fixture
async def storage() -> StorageAdapter:
    return await create_adapter("memory:")


async def test_entries_come_newest_first_in_pages(storage: StorageAdapter) -> None:
    clock = FakeClock()
    audit = Audit(storage, clock, 90)
    for number in range(5):
        await audit.record("me", "runs.cancel", str(number), address="127.0.0.1", outcome="200")
        clock.advance(1)

    first = await audit.list(limit=2)
    rest = await audit.list(before=first[-1].id)

    assert [entry.subject for entry in (*first, *rest)] == ["4", "3", "2", "1", "0"]
    assert (first[0].actor, first[0].action, first[0].outcome) == ("me", "runs.cancel", "200")
    assert first[0].address == "127.0.0.1"
    assert first[0].at > first[1].at


async def test_what_is_too_old_is_removed(storage: StorageAdapter) -> None:
    clock = FakeClock()
    audit = Audit(storage, clock, 90)
    await audit.record("me", "old")
    clock.advance(89 * DAY)
    await audit.record("me", "new")
    assert await audit.prune() == 0

    clock.advance(2 * DAY)

    assert await audit.prune() == 1
    assert [entry.action for entry in await audit.list()] == ["new"]


async def test_prune_of_the_engine_does_it() -> None:
    clock = FakeClock()
    async with Engine("memory:", clock=clock) as engine:
        await engine.audit.record("me", "old")
        clock.advance(91 * DAY)

        await engine.prune(0, dry_run=True)
        assert len(await engine.audit.list()) == 1
        await engine.prune(0)
        assert await engine.audit.list() == []


async def test_a_store_that_fails_fails_nobody(
    storage: StorageAdapter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(storage, "put_document", fail)
    with caplog.at_level(logging.ERROR, "sequential.audit"):
        await Audit(storage, FakeClock(), 90).record("me", "runs.cancel", "run-7")

    assert "runs.cancel" in caplog.text
    assert "run-7" in caplog.text


async def test_what_was_sent_is_cut_and_cannot_break_an_entry(storage: StorageAdapter) -> None:
    clock = FakeClock()
    audit = Audit(storage, clock, 90)
    await audit.record("me", "keys.set", "x" * 5000 + "\ud800")
    clock.advance(0.001)
    await audit.record("me", "keys.set", "\ud800")

    last, first = await audit.list()
    assert first.subject == "x" * LONGEST
    assert last.subject == "?"
