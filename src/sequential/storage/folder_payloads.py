"""Large values of the folder store: kept in files beside the journal.

A journal line stays small, so it can be read quickly and looked at; a value over 64 KiB goes to
`run-<id>.data/` under a name made from its content, and the record holds a reference with its size
and digest. The file is safe on disk before the line that refers to it is written, and no later
value ever takes its name.
"""

import hashlib
import os
import re
from typing import Any, TypeVar

import msgspec

from sequential.core.model import StackRun, TaskRun, evolve
from sequential.errors import DamagedRunError
from sequential.storage import files
from sequential.storage.folder_journal import encode
from sequential.storage.folder_places import RunFiles

Record = TypeVar("Record", TaskRun, StackRun)
INLINE = 64 << 10  # bytes of JSON that stay in the record
TREES = ("input", "result")  # the fields of runs and calls that hold values of any size
_KEY = "$payload"
_NAME = re.compile(r"[a-z0-9-]{1,100}\.json\Z")
_decoder = msgspec.json.Decoder()


def pack(run: RunFiles, name: str, value: Any) -> Any:
    """What a record holds for `value`: its JSON, or a reference to the file it was written to."""
    if value is None:
        return None
    text = encode(value)
    if len(text) <= INLINE and not _is_reference(value):
        return msgspec.Raw(text)
    digest = hashlib.sha256(text).hexdigest()
    file = f"{name}-{digest[:16]}.json"
    run.folder.make(run.data)
    files.replace(f"{run.data}/{file}", text, durable=True)
    return {_KEY: {"file": file, "size": len(text), "sha256": digest}}


def resolve(run: RunFiles, record: Record) -> Record:
    """The record with the values in place of their references."""
    if _is_packed(record.input) or _is_packed(record.result):
        return evolve(
            record, input=_resolve(run, record.input), result=_resolve(run, record.result)
        )
    return record


def _is_packed(value: Any) -> bool:
    return type(value) is msgspec.Raw or _is_reference(value)


def _is_reference(value: Any) -> bool:
    return type(value) is dict and len(value) == 1 and _KEY in value


def _resolve(run: RunFiles, value: Any) -> Any:
    if type(value) is msgspec.Raw:
        return _decoder.decode(value)
    if not _is_reference(value):
        return value
    reference = value[_KEY]
    file = reference["file"]
    path = f"{run.data}/{file}"
    if not _NAME.match(file) or not run.folder.holds(path):
        raise _damage(run, path, "this is not the name of a value's file")
    try:
        text = files.read(path)
    except FileNotFoundError:
        raise _damage(run, path, "the file is missing") from None
    if hashlib.sha256(text).hexdigest() != reference["sha256"]:
        raise _damage(run, path, f"its {len(text)} bytes are not those that were written")
    return _decoder.decode(text)


def _damage(run: RunFiles, path: str, reason: str) -> DamagedRunError:
    return DamagedRunError(
        f"{run.folder.shown(os.path.normpath(path))} is damaged: {reason}; run {run.run_id} needs "
        "it and nothing was changed: bring the file back from a backup"
    )
