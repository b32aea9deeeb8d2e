"""Documents as files: what they are called, who may read them, and who may change them when."""

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sequential.errors import StorageError, StorageFullError
from sequential.storage import folder_documents
from sequential.storage.folder import FolderAdapter


@pytest.fixture
async def adapter(tmp_path: Path) -> AsyncIterator[FolderAdapter]:
    adapter = FolderAdapter(tmp_path / "tasks")
    yield adapter
    await adapter.close()


def place(folder: Path) -> Path:
    return folder / "tasks" / ".documents" / "tokens"


async def test_a_document_is_a_file_that_only_its_owner_may_read(
    tmp_path: Path, adapter: FolderAdapter
) -> None:
    old = os.umask(0)
    try:
        await adapter.put_document("tokens", "ci", {"role": "read"})
        await adapter.put_document("tokens", "ci", {"role": "operate"})
    finally:
        os.umask(old)
    file = place(tmp_path) / "ci.json"
    assert json.loads(file.read_bytes()) == {
        "key": "ci",
        "version": 2,
        "value": {"role": "operate"},
    }
    assert {path.name for path in file.parent.iterdir()} == {"ci.json", ".lock"}
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}
    assert file.parent.parent.stat().st_mode & 0o777 == 0o700
    assert await adapter.list_task_functions() == []
    assert await adapter.damaged() == []


@pytest.mark.parametrize(
    "key", ["A", "../../../etc/passwd", ".", ".lock", "=", "a/b", "é", "a" * 101]
)
async def test_a_key_that_names_no_file_is_in_a_file_named_after_its_digest(
    tmp_path: Path, adapter: FolderAdapter, key: str
) -> None:
    await adapter.put_document("tokens", key, 1)
    (file,) = place(tmp_path).glob("*.json")
    assert len(file.name) == len("=" + "0" * 64 + ".json")
    assert [one.key for one in await adapter.list_documents("tokens")] == [key]


async def test_a_page_reads_the_files_of_that_page(tmp_path: Path, adapter: FolderAdapter) -> None:
    for number in range(10):
        await adapter.put_document("tokens", f"{number}", number)
    (place(tmp_path) / "7.json").write_text("damaged")
    page = await adapter.list_documents("tokens", after="2", limit=4)
    assert [one.value for one in page] == [3, 4, 5, 6]
    assert await adapter.prune_documents("tokens", "9") == 9  # the damaged one, too


async def test_a_damaged_file_is_reported(tmp_path: Path, adapter: FolderAdapter) -> None:
    await adapter.put_document("tokens", "ci", {"role": "read"})
    file = place(tmp_path) / "ci.json"
    whole = file.read_bytes()
    for damaged in (whole[:-9], b"", whole.replace(b'"ci"', b'"cj"'), b'{"key": 1}', b"\xff"):
        file.write_bytes(damaged)
        for attempt in (
            adapter.get_document("tokens", "ci"),
            adapter.list_documents("tokens"),
            adapter.put_document("tokens", "ci", 1),
        ):
            with pytest.raises(StorageError, match=r"ci\.json is damaged: .*or delete the file"):
                await attempt
        assert file.read_bytes() == damaged
    assert await adapter.delete_document("tokens", "ci") is True
    assert await adapter.list_documents("tokens") == []


async def test_a_document_is_never_half_written(
    tmp_path: Path, adapter: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [letter * 50_000 for letter in "abc"]
    other = FolderAdapter(tmp_path / "tasks")
    before = await adapter.put_document("tokens", "ci", values[0])

    async def write() -> None:
        for number in range(30):
            await adapter.put_document("tokens", "ci", values[number % 3])

    writing = asyncio.create_task(write())
    while not writing.done():
        found = await other.get_document("tokens", "ci")
        assert found
        assert found.value == (values[0] if found == before else values[(found.version - 2) % 3])
    await writing

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    before_failure = await other.get_document("tokens", "ci")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFullError):
        await adapter.put_document("tokens", "ci", "lost")
    monkeypatch.undo()
    assert await other.get_document("tokens", "ci") == before_failure
    assert {path.name for path in place(tmp_path).iterdir()} == {"ci.json", ".lock"}
    await other.close()


async def test_links_are_not_followed(tmp_path: Path, adapter: FolderAdapter) -> None:
    await adapter.put_document("tokens", "ci", 1)
    file = place(tmp_path) / "ci.json"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a symbolic link"):
        await adapter.get_document("tokens", "ci")
    (tmp_path / "outside").mkdir()
    (tmp_path / "tasks" / ".documents" / "jobs").symlink_to(tmp_path / "gone")
    with pytest.raises(StorageError, match="leads out of"):
        await adapter.put_document("jobs", "a", 1)


async def test_who_changes_a_collection_waits_for_another_process(
    tmp_path: Path, adapter: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await adapter.put_document("tokens", "a", 1)
    with (place(tmp_path) / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(folder_documents, "_PATIENCE", 0.05)
        with pytest.raises(StorageError, match=r"tokens for 0 seconds: end it, then try again"):
            await adapter.put_document("tokens", "a", 2)
        assert [one.value for one in await adapter.list_documents("tokens")] == [1]  # readers go on
        monkeypatch.undo()
        waiting = asyncio.create_task(adapter.put_document("tokens", "a", 3))
        await adapter.put_document("jobs", "a", 1)  # another collection
        assert not waiting.done()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert (await waiting).version == 2


COUNT = """
import asyncio, sys
from sequential.errors import DocumentChangedError
from sequential.storage.folder import FolderAdapter

async def main(path):
    adapter = FolderAdapter(path)
    left = 50
    while left:
        found = await adapter.get_document("tokens", "count")
        try:
            await adapter.put_document(
                "tokens", "count", found.value + 1, if_version=found.version
            )
            left -= 1
        except DocumentChangedError:
            pass
    await adapter.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_a_number_that_processes_count_up_loses_none(
    tmp_path: Path, adapter: FolderAdapter
) -> None:
    await adapter.put_document("tokens", "count", 0)
    command = [sys.executable, "-c", COUNT, str(tmp_path / "tasks")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [await asyncio.to_thread(one.wait, 60) for one in processes] == [0, 0, 0]
    found = await adapter.get_document("tokens", "count")
    assert found
    assert (found.value, found.version) == (150, 151)
