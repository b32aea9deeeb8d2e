"""The documents of the folder store: `.documents/<collection>/<key>.json`, a file for each.

A key that cannot name a file gives it the name `=<digest>.json`; the file holds the key. So most
lists read the files of one page only. What changes a collection holds its lock, which the operating
system takes back from a process that dies. Nobody but the owner of the files may read them.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator

import msgspec

from sequential.errors import StorageError
from sequential.storage import files
from sequential.storage.documents import Page, Stored, next_version
from sequential.storage.files import Folder
from sequential.storage.folder_journal import encode

NAME = ".documents"  # no name of a task begins with a dot
_PATIENCE = 30.0  # seconds to wait for others who change the same collection
_LOOK = 0.001  # seconds between two looks
# Without capital letters: some file systems do not tell them from small ones.
_PLAIN = re.compile(r"[0-9a-z][0-9a-z_.-]{0,99}\Z")
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(msgspec.Struct, frozen=True):
    """The content of one file."""

    key: str
    version: int
    value: msgspec.Raw


_decoder = msgspec.json.Decoder(Entry)


def put(folder: Folder, collection: str, key: str, text: str, if_version: int | None) -> int:
    """Write a document if it may be written; returns its version."""
    with _locked(folder, collection) as place:
        path = f"{place}/{_name(key)}"
        found = _read_if_there(folder, path)
        version = next_version(collection, key, found.version if found else 0, if_version)
        entry = Entry(key, version, msgspec.Raw(text.encode()))
        files.replace(path, encode(entry) + b"\n", durable=True, mode=0o600)
        return version


def get(folder: Folder, collection: str, key: str) -> Stored | None:
    return _read_if_there(folder, f"{_place(folder, collection)}/{_name(key)}")


def delete(folder: Folder, collection: str, key: str) -> bool:
    """Remove a document; returns whether there was one."""
    if not os.path.isdir(_place(folder, collection)):
        return False
    with _locked(folder, collection) as place:
        return _remove(place, [key]) == 1


def page_of(folder: Folder, collection: str, page: Page) -> list[Stored]:
    """The documents on a page. Raises `StorageError` naming a file that cannot be read."""
    place = _place(folder, collection)
    names = _names(folder, place)
    found = [_read_if_there(folder, f"{place}/{names[key]}") for key in page.of(names)]
    return [one for one in found if one]


def prune(folder: Folder, collection: str, before: str) -> int:
    """Remove the documents with smaller keys; returns how many there were."""
    if not os.path.isdir(_place(folder, collection)):
        return 0
    with _locked(folder, collection) as place:
        return _remove(place, [key for key in _names(folder, place) if key < before])


@contextlib.contextmanager
def _locked(folder: Folder, collection: str) -> Iterator[str]:
    """The place of a collection, which nobody else changes meanwhile, in any process."""
    place = _place(folder, collection)
    if not os.path.isdir(place):
        folder.make(os.path.dirname(place))
        os.chmod(os.path.dirname(place), 0o700)
        folder.make(place)
    descriptor = os.open(f"{place}/.lock", _OPEN, 0o600)
    try:
        _lock(descriptor, folder.shown(place))
        yield place
    finally:
        os.close(descriptor)


def _lock(descriptor: int, shown: str) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise StorageError(
                    f"another process has been changing {shown} for {_PATIENCE:.0f} seconds: end "
                    "it, then try again"
                ) from None
            time.sleep(_LOOK)
        else:
            return


def _names(folder: Folder, place: str) -> dict[str, str]:
    """The names of files by key."""
    try:
        names = [name for name in os.listdir(place) if name.endswith(".json")]
    except FileNotFoundError:
        return {}
    found: dict[str, str] = {}
    for name in names:
        if name.startswith("="):
            if entry := _read_if_there(folder, f"{place}/{name}"):
                found[entry.key] = name
        else:
            found[name.removesuffix(".json")] = name
    return found


def _remove(place: str, keys: list[str]) -> int:
    removed = 0
    for key in keys:
        try:
            os.unlink(f"{place}/{_name(key)}")
        except FileNotFoundError:
            continue
        removed += 1
    if removed:
        files.sync_folder(place)
    return removed


def _read_if_there(folder: Folder, path: str) -> Stored | None:
    try:
        text = files.read(path)
    except FileNotFoundError:
        return None
    try:
        entry = _decoder.decode(text)
    except files.BAD_JSON as error:
        raise _damage(folder, path, files.explain_json(error, text)) from error
    if _name(entry.key) != os.path.basename(path):
        raise _damage(folder, path, "it does not belong to the key in it")
    return Stored(entry.key, bytes(entry.value).decode(), entry.version)


def _damage(folder: Folder, path: str, why: str) -> StorageError:
    return StorageError(
        f"{folder.shown(path)} is damaged: {why}: bring it back from a backup, or delete the file"
    )


def _place(folder: Folder, collection: str) -> str:
    return os.path.join(folder.path, NAME, collection)


def _name(key: str) -> str:
    name = key if _PLAIN.match(key) else f"={hashlib.sha256(key.encode()).hexdigest()}"
    return f"{name}.json"
