"""The keystore of the folder store: `.keystore/<digest of the key>.json`, one file for each key.

What is kept is encrypted by the caller; nobody but the owner of the files may read it all the same.
A key is any text, so it is no name of a file: the file is named after its digest and holds the key.
"""

import hashlib
import os
import secrets

import msgspec

from sequential.errors import StorageError
from sequential.storage import files
from sequential.storage.files import Folder
from sequential.storage.folder_journal import encode

NAME = ".keystore"  # no name of a task begins with a dot


class Entry(msgspec.Struct, frozen=True):
    """The content of one file."""

    key: str
    value: str


_decoder = msgspec.json.Decoder(Entry)


def store(folder: Folder, key: str, value: str) -> None:
    text = encode(Entry(key, value)) + b"\n"
    place = _place(folder)
    if not os.path.isdir(place):
        folder.make(place)
        os.chmod(place, 0o700)
    suffix = f".{secrets.token_hex(4)}.tmp"
    files.replace(_path(folder, key), text, durable=True, suffix=suffix, mode=0o600)


def read(folder: Folder, key: str) -> str | None:
    try:
        return _read(folder, _path(folder, key)).value
    except FileNotFoundError:
        return None


def delete(folder: Folder, key: str) -> bool:
    try:
        os.unlink(_path(folder, key))
    except FileNotFoundError:
        return False
    files.sync_folder(_place(folder))
    return True


def keys(folder: Folder) -> list[str]:
    """All keys, sorted. Raises `StorageError` naming a file that cannot be read."""
    place = _place(folder)
    try:
        names = [name for name in os.listdir(place) if name.endswith(".json")]
    except FileNotFoundError:
        return []
    found: list[str] = []
    for name in names:
        try:
            found.append(_read(folder, f"{place}/{name}").key)
        except FileNotFoundError:
            continue  # deleted since
    return sorted(found)


def _read(folder: Folder, path: str) -> Entry:
    text = files.read(path)
    try:
        entry = _decoder.decode(text)
    except files.BAD_JSON as error:
        raise StorageError(
            f"{folder.shown(path)} is damaged: {files.explain_json(error, text)}: bring it back "
            "from a backup, or delete the file and set the key again"
        ) from error
    if _path(folder, entry.key) != path:
        raise StorageError(
            f"{folder.shown(path)} is damaged: it does not belong to the key in it: bring it back "
            "from a backup, or delete the file and set the key again"
        )
    return entry


def _place(folder: Folder) -> str:
    return os.path.join(folder.path, NAME)


def _path(folder: Folder, key: str) -> str:
    digest = hashlib.sha256(encode(key)).hexdigest()
    return f"{_place(folder)}/{digest}.json"
