"""Tasks in the folder store: `code.py`, `config.json` and `meta.json` in a folder of their name.

A folder with nothing but a `code.py` written by hand is a task, too.
"""

import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from typing import Any

import msgspec

from sequential.core import times
from sequential.core.model import Limits, TaskConfig, TaskFunction, evolve
from sequential.core.names import check_task_name
from sequential.errors import (
    ConfigError,
    InvalidNameError,
    InvalidTaskError,
    RunBusyError,
    TaskNotFoundError,
)
from sequential.storage import files
from sequential.storage.files import Folder
from sequential.storage.folder_lease import is_locked
from sequential.storage.folder_places import Places, RunFiles

_PROGRAMS = ("code.py", "code.js")
_PROGRAM = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,60}\.(py|js)\Z")
_OF_OTHER_FILES = ("graph", "handler")  # fields of a run's policy that config.json does not have
_config = msgspec.json.Decoder(TaskConfig)


class Meta(msgspec.Struct, frozen=True):
    """The content of `meta.json`. `program` is given when it is not `code.py`.

    `synced` is the digest of what was last exchanged with another store.
    """

    created: str = ""
    updated: str = ""
    version: int = 1
    program: str | msgspec.UnsetType = msgspec.UNSET
    synced: str | msgspec.UnsetType = msgspec.UNSET


_meta = msgspec.json.Decoder(Meta)


def read(folder: Folder, name: str) -> TaskFunction | None:
    """A task, or None. Raises `InvalidNameError`, and `ConfigError` naming file and place."""
    path = os.path.join(folder.path, check_task_name(name))
    if os.path.islink(path) and not folder.holds(path):
        return None
    meta = read_meta(folder, path)
    program = meta.program or next((p for p in _PROGRAMS if os.path.isfile(f"{path}/{p}")), "")
    try:
        code = _read_text(folder, f"{path}/{program}") if program else None
    except FileNotFoundError:
        return None
    if code is None:
        return None
    config = _read_config(folder, path, name)
    changed = os.stat(f"{path}/{program}").st_mtime
    written = times.to_text(datetime.fromtimestamp(changed, UTC))
    return TaskFunction(
        identifier=name,
        code=code,
        config=config,
        version=meta.version,
        created_at=meta.created or written,
        updated_at=meta.updated or written,
        filename=program,
    )


def store(folder: Folder, function: TaskFunction) -> TaskFunction:
    """Write a task; its version goes up when code or configuration changed."""
    name = check_task_name(function.identifier)
    if not _PROGRAM.match(function.filename):
        raise InvalidNameError(f"not the name of a program: {function.filename!r}; use code.py")
    path = os.path.join(folder.path, name)
    folder.make(path)
    if old := read(folder, name):
        same = (old.code, old.config, old.filename)
        if same == (function.code, function.config, function.filename):
            if os.path.exists(f"{path}/meta.json"):
                return old
            old = evolve(old, version=0)
        function = evolve(function, version=old.version + 1, created_at=old.created_at)
    write(path, function, read_meta(folder, path).synced)
    return function


def write(path: str, function: TaskFunction, synced: str | msgspec.UnsetType) -> None:
    """Write the files of a task, each of them as a whole, `meta.json` last."""
    _write(f"{path}/{function.filename}", _bytes(function.identifier, "code", function.code))
    _write(f"{path}/config.json", _pretty(_shown_config(function.config)))
    if (graph := function.config.graph) is not None:
        _write(f"{path}/graph.json", _bytes(function.identifier, "graph", graph))
    elif os.path.exists(f"{path}/graph.json"):
        os.unlink(f"{path}/graph.json")
    write_meta(path, function, synced)


def write_meta(path: str, function: TaskFunction, synced: str | msgspec.UnsetType) -> None:
    meta = Meta(
        created=function.created_at,
        updated=function.updated_at,
        version=function.version,
        program=msgspec.UNSET if function.filename == _PROGRAMS[0] else function.filename,
        synced=synced,
    )
    _write(f"{path}/meta.json", _pretty(meta))


def _shown_config(config: TaskConfig) -> dict[str, Any]:
    """What a person may want to change; limits only where they are not the usual ones."""
    shown: dict[str, Any] = msgspec.to_builtins(config)
    if not config.allow.within:
        del shown["allow"]["within"]
    for name in _OF_OTHER_FILES:
        del shown[name]
    if config.limits == Limits():
        del shown["limits"]
    return shown


def delete(places: Places, name: str) -> int:
    """Remove a task and its runs unless one of them is driven; returns how many there were."""
    folder = places.folder
    if read(folder, name) is None:
        raise TaskNotFoundError(f"there is no task {name}")
    path = os.path.join(folder.path, name)
    trash = os.path.join(folder.path, f".deleted-{name}-{secrets.token_hex(4)}")
    runs = list(places.runs(name))
    _refuse_busy(name, runs)
    os.rename(path, trash)
    try:
        # Whoever locked a run before the rename is seen now; whoever comes later finds no run.
        _refuse_busy(name, [run._replace(folder=Folder(trash), task=".") for run in runs])
    except RunBusyError:
        os.rename(trash, path)
        raise
    shutil.rmtree(trash)
    return len(runs)


def _refuse_busy(task: str, runs: list[RunFiles]) -> None:
    if any(is_locked(run) for run in runs):
        raise RunBusyError(f"a run of {task} is being driven: wait until it is done, or stop it")


def read_meta(folder: Folder, path: str) -> Meta:
    try:
        text = files.read(f"{path}/meta.json")
        meta = _meta.decode(text)
    except (FileNotFoundError, NotADirectoryError):
        return Meta()
    except files.BAD_JSON as error:
        raise ConfigError(
            f"{folder.shown(path)}/meta.json: {files.explain_json(error, text)}: correct it, or "
            "delete the file to begin with version 1 again"
        ) from error
    if meta.program and not _PROGRAM.match(meta.program):
        raise ConfigError(
            f"{folder.shown(path)}/meta.json: not the name of a program - at `$.program`: "
            'use "code.py" or "code.js"'
        )
    return meta


def _read_config(folder: Folder, path: str, name: str) -> TaskConfig:
    try:
        text = files.read(f"{path}/config.json")
        config = _config.decode(text)
    except FileNotFoundError:
        config = TaskConfig(name=name)
    except files.BAD_JSON as error:
        raise ConfigError(
            f"{folder.shown(path)}/config.json: {files.explain_json(error, text)}: correct it, or "
            "delete the file to run the task with the defaults"
        ) from error
    for field in _OF_OTHER_FILES:
        if getattr(config, field) is not None:
            raise ConfigError(
                f"{folder.shown(path)}/config.json: it has no field {field!r}: the graph of a "
                "task is in graph.json"
            )
    try:
        return evolve(config, graph=_read_text(folder, f"{path}/graph.json"))
    except FileNotFoundError:
        return config


def _read_text(folder: Folder, path: str) -> str:
    try:
        return files.read(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidTaskError(
            f"{folder.shown(path)} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error


def _bytes(name: str, what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidTaskError(
            f"the {what} of {name} holds half of a surrogate pair at position "
            f"{error.start}, which is not valid text: remove or replace it"
        ) from error


def _pretty(record: msgspec.Struct | dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _write(path: str, data: bytes) -> None:
    files.replace(path, data, durable=True, suffix=f".{secrets.token_hex(4)}.tmp")
