from typing import Any

import pytest

from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import StorageContract


class TestPostgresAdapter(StorageContract):
    tells_others = True

    @pytest.fixture
    def open_adapter(self, postgres_url: str) -> Any:
        async def open_adapter() -> Any:
            return await create_adapter(postgres_url)

        return open_adapter
