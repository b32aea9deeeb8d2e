from typing import Any

import pytest

from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import StorageContract
from support.supabase_project import SupabaseProject


class TestSupabaseAdapter(StorageContract):
    @pytest.fixture
    def open_adapter(self, supabase: SupabaseProject) -> Any:
        async def open_adapter() -> Any:
            return await create_adapter("supabase", url=supabase.url, key=supabase.key)

        return open_adapter
