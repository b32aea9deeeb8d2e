"""Records as rows of SQL tables: the columns are those of the original, extended.

Values are JSON text, times are text, and what a run has in common with others - its program - is a
row of its own, found by its digest. A value over 64 KiB is kept apart, so that lists never read it;
its column then holds a note that begins like `MARK`. Nothing here knows a database.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from sequential.core.model import (
    CallStatus,
    Failure,
    Frame,
    RunEvent,
    StackRun,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
)
from sequential.errors import DamagedRunError, StorageError, ValueNotSupportedError

INLINE = 64 << 10  # bytes of JSON that stay in the row
MARK = '{"$payload":'
TREES = ("input", "result")  # values of any size
PROGRAM = ("filename", "config", "code")  # what runs share
EVENTS = "events"  # NULL when there are none
_STRUCTS: dict[str, Any] = {"error": Failure, "where": Frame, EVENTS: tuple[RunEvent, ...]}
JSON = (*TREES, *_STRUCTS)

RUN_COLUMNS = tuple(name for name in TaskRun.__struct_fields__ if name not in PROGRAM)
CALL_COLUMNS = StackRun.__struct_fields__

_encoder = msgspec.json.Encoder()
_tree = msgspec.json.Decoder()
_config = msgspec.json.Decoder(TaskConfig)
_structs = {name: msgspec.json.Decoder(kind) for name, kind in _STRUCTS.items()}
_statuses: dict[type, Any] = {TaskRun: Status, StackRun: CallStatus}

Cell = str | int | float | None


class Program(NamedTuple):
    """What a run executes, and the digest it is found by."""

    digest: str
    filename: str
    config: str
    code: str


class Columns(NamedTuple):
    """Cells by column, and the values that are kept apart, by column."""

    cells: dict[str, Cell]
    payloads: dict[str, str]


def json_text(value: Any) -> str:
    """JSON of a value; raises `ValueNotSupportedError` for text that is not Unicode."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError as error:
        raise not_unicode(error) from error


def not_unicode(error: UnicodeEncodeError) -> ValueNotSupportedError:
    """The error for a text that no store can keep."""
    return ValueNotSupportedError(
        f"a text holds half of a surrogate pair at position {error.start}, "
        "which is not valid text: remove or replace it"
    )


def columns(fields: Mapping[str, Any]) -> Columns:
    """The cells of these fields, without those of the program."""
    cells: dict[str, Cell] = {}
    payloads: dict[str, str] = {}
    for name, value in fields.items():
        if name in PROGRAM:
            continue
        if value is None or (name == EVENTS and not value):
            cells[name] = None
        elif name in TREES:
            text = json_text(value)
            if len(text) > INLINE or not text.isascii() or text.startswith(MARK):
                text = _apart(name, text, payloads)
            cells[name] = text
        elif name in _STRUCTS:
            cells[name] = json_text(value)
        else:
            cells[name] = str(value) if isinstance(value, str) else value
    return Columns(cells, payloads)


def _apart(name: str, text: str, payloads: dict[str, str]) -> str:
    size = len(text.encode())
    if size <= INLINE and not text.startswith(MARK):
        return text
    payloads[name] = text
    return f'{MARK}{{"size":{size}}}}}'


def changes(old: TaskRun | StackRun | None, new: TaskRun | StackRun) -> dict[str, Any]:
    """The fields of `new` that are not the very same objects in `old`; all but the id without."""
    return {
        name: value
        for name in new.__struct_fields__
        if name != "id"
        and ((value := getattr(new, name)) is not getattr(old, name, None) or old is None)
    }


def known(kind: type[msgspec.Struct], fields: Mapping[str, Any]) -> None:
    """Raise `StorageError` unless these are all fields of the record; names end up in SQL."""
    for name in fields:
        if name not in kind.__struct_fields__:
            raise StorageError(
                f"a {kind.__name__} has no field {ascii(name)[:80]}: there are "
                f"{', '.join(kind.__struct_fields__)}"
            )


def program(run: TaskRun) -> Program:
    """The row of a run's program."""
    config = json_text(run.config)
    try:
        text = f"{run.filename}\0{config}\0{run.code}".encode()
    except UnicodeEncodeError as error:
        raise not_unicode(error) from error
    return Program(hashlib.sha256(text).hexdigest(), run.filename, config, run.code)


def program_fields(row: Sequence[Any]) -> dict[str, Any]:
    """The fields of a run that its program's row holds; `row` is that of `Program`."""
    try:
        config = _config.decode(row[2])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damage(f"program {row[0]}", "config", error) from error
    return {"filename": row[1], "config": config, "code": row[3]}


def run_of(row: Sequence[Any], payloads: Mapping[str, str], fields: dict[str, Any]) -> TaskRun:
    """The run of a row of `RUN_COLUMNS`; raises `DamagedRunError`.

    `payloads` stand in for the notes in the row, `fields` are those of the run's program.
    """
    return TaskRun(**_decoded(TaskRun, RUN_COLUMNS, row, payloads), **fields)


def call_of(row: Sequence[Any], payloads: Mapping[str, str]) -> StackRun:
    """The call of a row of `CALL_COLUMNS`; raises `DamagedRunError`."""
    return StackRun(**_decoded(StackRun, CALL_COLUMNS, row, payloads))


def _decoded(
    kind: type, names: Sequence[str], row: Sequence[Any], payloads: Mapping[str, str]
) -> dict[str, Any]:
    found = dict(zip(names, row, strict=False))
    for name in JSON:
        text = found.get(name)
        if text is not None:
            decoder = _structs.get(name, _tree)
            try:
                found[name] = decoder.decode(payloads.get(name, text))
            except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
                raise _damage(f"run {found['id']}", name, error) from error
    try:
        found["status"] = _statuses[kind](found["status"])
    except ValueError as error:
        raise _damage(f"run {found['id']}", "status", error) from error
    if EVENTS in found and found[EVENTS] is None:
        found[EVENTS] = ()
    return found


def events_of(run_id: str, text: str | None) -> tuple[RunEvent, ...]:
    """The events of a cell; raises `DamagedRunError`."""
    try:
        events: tuple[RunEvent, ...] = _structs[EVENTS].decode(text) if text is not None else ()
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise _damage(f"run {run_id}", EVENTS, error) from error
    return events


def is_apart(text: Any) -> bool:
    """Whether a cell is the note of a value that is kept apart."""
    return isinstance(text, str) and text.startswith(MARK)


def function_of(row: Sequence[Any]) -> TaskFunction:
    """The task of a row `identifier, code, metadata, version, created_at, updated_at, filename`."""
    try:
        config = _config.decode(row[2])
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise _damage(f"task {row[0]}", "metadata", error) from error
    return TaskFunction(row[0], row[1], config, *row[3:])


def _damage(what: str, column: str, error: Exception) -> DamagedRunError:
    return DamagedRunError(
        f"{what} is damaged: its column {column} cannot be read ({error}); nothing was changed: "
        "correct the column or bring the database back from a backup"
    )
