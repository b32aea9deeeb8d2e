"""What the parts of the storage contract have in common: two adapters on one store, and waiting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from sequential.storage.base import StorageAdapter

OpenAdapter = Callable[[], Awaitable[StorageAdapter]]


class Contract:
    """A part of the contract; what an adapter may say about itself is in `storage_contract`."""

    leases_expire = True
    amends_driven = True
    tells_others = False
    crowd = 100

    @pytest.fixture
    def open_adapter(self) -> OpenAdapter:
        raise NotImplementedError(
            "provide the fixture open_adapter: see sequential.testing.storage_contract"
        )

    @pytest_asyncio.fixture
    async def adapter(self, open_adapter: OpenAdapter) -> AsyncIterator[StorageAdapter]:
        adapter = await open_adapter()
        yield adapter
        await adapter.close()

    @pytest_asyncio.fixture
    async def other(
        self, adapter: StorageAdapter, open_adapter: OpenAdapter
    ) -> AsyncIterator[StorageAdapter]:
        other = await open_adapter()
        yield other
        await other.close()


async def until(is_true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as it is true; raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not is_true():  # noqa: ASYNC110 - it may be true because of another process
            await asyncio.sleep(0.005)
