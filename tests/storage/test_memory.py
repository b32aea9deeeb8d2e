from typing import Any

import pytest

from sequential.storage.memory import MemoryAdapter
from sequential.testing.storage_contract import StorageContract


class TestMemoryAdapter(StorageContract):
    tells_others = True  # those in this process: there are no others

    @pytest.fixture
    def open_adapter(self) -> Any:
        store = MemoryAdapter()

        async def open_adapter() -> Any:
            return store

        return open_adapter
