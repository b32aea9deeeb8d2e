import secrets
from typing import Any

import pytest

from sequential.storage.registry import create_adapter
from sequential.testing.storage_contract import StorageContract
from support.valkey_server import ValkeyServer, shared_valkey

__all__ = ["shared_valkey"]


class TestRedisAdapter(StorageContract):
    tells_others = True

    @pytest.fixture
    def open_adapter(self, shared_valkey: ValkeyServer) -> Any:
        prefix = f"test-{secrets.token_hex(4)}:"

        async def open_adapter() -> Any:
            return await create_adapter(shared_valkey.url, prefix=prefix)

        return open_adapter
