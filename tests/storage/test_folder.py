from pathlib import Path
from typing import Any

import pytest

from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import StorageContract


class TestFolderAdapter(StorageContract):
    leases_expire = False

    @pytest.fixture
    def open_adapter(self, tmp_path: Path) -> Any:
        async def open_adapter() -> Any:
            return FolderAdapter(tmp_path / "tasks")

        return open_adapter
