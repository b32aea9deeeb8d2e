"""The keystore as files: who may read them, and what they are called."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sequential.errors import StorageError, StorageFullError, ValueNotSupportedError
from sequential.storage.folder import FolderAdapter


@pytest.fixture
async def adapter(tmp_path: Path) -> AsyncIterator[FolderAdapter]:
    adapter = FolderAdapter(tmp_path / "tasks")
    yield adapter
    await adapter.close()


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("tasks/.keystore/*")
    return file


async def test_only_the_owner_may_read_a_key(tmp_path: Path, adapter: FolderAdapter) -> None:
    old = os.umask(0)
    try:
        await adapter.set_keystore("token", "secret")
        await adapter.set_keystore("token", "another")
    finally:
        os.umask(old)
    file = only_file(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(file.read_bytes()) == {"key": "token", "value": "another"}
    assert await adapter.list_task_functions() == []
    assert await adapter.damaged() == []


@pytest.mark.parametrize("key", ["../../../etc/passwd", "/etc/passwd", "", ".", "a\0b", "é" * 9000])
async def test_no_key_leads_out_of_its_folder(
    tmp_path: Path, adapter: FolderAdapter, key: str
) -> None:
    await adapter.set_keystore(key, "value")
    assert re.fullmatch(r"[0-9a-f]{64}\.json", only_file(tmp_path).name)
    assert await adapter.get_keystore(key) == "value"
    assert await adapter.list_keystore() == [key]


async def test_a_key_that_is_no_text_is_refused(adapter: FolderAdapter) -> None:
    with pytest.raises(ValueNotSupportedError, match="half of a surrogate pair"):
        await adapter.set_keystore("\ud800", "value")
    with pytest.raises(ValueNotSupportedError, match="half of a surrogate pair"):
        await adapter.set_keystore("key", "\ud800")
    assert await adapter.list_keystore() == []


async def test_a_damaged_key_is_reported(tmp_path: Path, adapter: FolderAdapter) -> None:
    await adapter.set_keystore("token", "secret")
    file = only_file(tmp_path)
    whole = file.read_bytes()
    for damaged in (whole[:-9], b"", whole.replace(b"token", b"tokem"), b'{"key": 1}'):
        file.write_bytes(damaged)
        for attempt in (adapter.get_keystore("token"), adapter.list_keystore()):
            with pytest.raises(StorageError, match=r"\.json is damaged: .*set the key again"):
                await attempt
    await adapter.set_keystore("token", "again")
    assert await adapter.get_keystore("token") == "again"


async def test_a_key_is_never_half_written(
    tmp_path: Path, adapter: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [letter * 50_000 for letter in "abc"]
    other = FolderAdapter(tmp_path / "tasks")
    await adapter.set_keystore("key", values[0])

    async def write() -> None:
        for number in range(30):
            await adapter.set_keystore("key", values[number % 3])

    writing = asyncio.create_task(write())
    while not writing.done():
        assert await other.get_keystore("key") in values
    await writing

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = await other.get_keystore("key")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFullError):
        await adapter.set_keystore("key", "lost")
    monkeypatch.undo()
    assert await other.get_keystore("key") == before
    assert only_file(tmp_path).suffix == ".json"
    await other.close()


async def test_a_link_in_place_of_a_key_is_not_followed(
    tmp_path: Path, adapter: FolderAdapter
) -> None:
    await adapter.set_keystore("token", "secret")
    file = only_file(tmp_path)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a symbolic link"):
        await adapter.get_keystore("token")
