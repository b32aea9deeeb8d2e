from pathlib import Path
from typing import Any

import pytest

from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import StorageContract, delivered, new_call, new_run


class TestFolderAdapter(StorageContract):
    leases_expire = False
    tells_others = True

    @pytest.fixture
    def open_adapter(self, tmp_path: Path) -> Any:
        async def open_adapter() -> Any:
            return FolderAdapter(tmp_path / "tasks")

        return open_adapter


async def test_a_value_that_looks_like_a_reference_is_none(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    lookalike = {"$payload": False}
    call = await adapter.create_stack_run(delivered(new_call(run, 0, input=lookalike), 1))
    changed = await adapter.update_stack_run(call.id, attempts=2)
    assert (changed.input, changed.attempts) == (lookalike, 2)
    await adapter.close()
