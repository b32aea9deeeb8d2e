import asyncio
from pathlib import Path
from typing import Any

import pytest

from sequential.core.transitions import Event, Happening
from sequential.storage import files
from sequential.storage.folder import FolderAdapter
from sequential.testing.storage_contract import (
    NOW,
    StorageContract,
    delivered,
    new_call,
    new_run,
)


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


async def test_who_drives_a_new_run_at_once_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    creating, driving = FolderAdapter(tmp_path), FolderAdapter(tmp_path)
    run = new_run()
    create, claimed = files.create, False

    def create_and_lose_time(path: str, data: bytes, suffix: str, *, durable: bool = True) -> None:
        """Another process finds the run as soon as its journal is there."""
        nonlocal claimed
        create(path, data, suffix, durable=durable)
        if path.endswith(".journal") and not claimed:
            claimed = True
            asyncio.run(cancel(driving, run.id))

    monkeypatch.setattr(files, "create", create_and_lose_time)
    await creating.create_task_run(run)
    view = next(tmp_path.rglob("run-*.json")).read_bytes()

    assert claimed
    assert b'"status": "cancelled"' in view
    assert sorted(path.name for path in tmp_path.rglob("*.tmp")) == []
    found = await creating.get_task_run(run.id)
    assert found is not None
    assert found.status == "cancelled"
    await creating.close()
    await driving.close()


async def cancel(adapter: FolderAdapter, run_id: str) -> None:
    await adapter.change(run_id, Happening(Event.CANCEL), NOW)
