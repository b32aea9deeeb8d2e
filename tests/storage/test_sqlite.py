from pathlib import Path
from typing import Any

import pytest

from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import StorageContract


class TestSqliteAdapter(StorageContract):
    tells_others = True

    @pytest.fixture
    def open_adapter(self, tmp_path: Path) -> Any:
        async def open_adapter() -> Any:
            return await create_adapter(f"sqlite:{tmp_path}/workflow.db")

        return open_adapter
