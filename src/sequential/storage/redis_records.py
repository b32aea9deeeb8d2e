"""Records as the Redis store keeps them.

A run is a hash with a field for each of its own, values as JSON; a field without a value is not
there. A call is one JSON text. What is waiting to be taken from outside is a text of lines, each an
event's id and the event, so that a script can drop some without reading the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from sequential.core.model import (
    Failure,
    Frame,
    LogLine,
    RunEvent,
    StackRun,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
)
from sequential.errors import DamagedRunError
from sequential.storage import sql_records
from sequential.storage.sql_records import PROGRAM

Item = bytes | str | int
T = TypeVar("T")

_NUMBERS = ("turn", "crashes", "priority", "failed_turn", "answers")
_STRUCTS = {"error": Failure, "where": Frame}
_TREES = ("input", "result")
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    **{name: msgspec.json.Decoder(kind) for name, kind in _STRUCTS.items()},
    **{name: msgspec.json.Decoder() for name in _TREES},
}


class Program(msgspec.Struct, frozen=True):
    """What runs execute, kept once for all that have the same."""

    filename: str
    config: TaskConfig
    code: str


_programs = msgspec.json.Decoder(Program)
_calls = msgspec.json.Decoder(StackRun)
_functions = msgspec.json.Decoder(TaskFunction)
_events = msgspec.json.Decoder(RunEvent)
_lines = msgspec.json.Decoder(LogLine)


class Fields(NamedTuple):
    """What a script writes of a run: fields with their values, and those that have none."""

    values: dict[str, bytes]
    unset: list[str]

    def items(self) -> list[Item]:
        flat = [item for pair in self.values.items() for item in pair]
        return [len(flat), *flat, len(self.unset), *self.unset]


def utf8(text: str) -> bytes:
    """Raises `ValueNotSupportedError` for what is not Unicode."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise sql_records.not_unicode(error) from error


def json(value: Any) -> bytes:
    """JSON of a value; raises `ValueNotSupportedError` for text that is not Unicode."""
    return sql_records.json_text(value).encode()


def counted(items: Sequence[Item]) -> list[Item]:
    """A list as a script takes it."""
    return [len(items), *items]


# --- runs ----------------------------------------------------------------------------------------


def run_fields(changes: Mapping[str, Any]) -> Fields:
    """These fields of a run, but for those of its program."""
    fields = Fields({}, [])
    for name, value in changes.items():
        if name in PROGRAM or name == "id":
            continue
        if value is None or (name == "events" and not value):
            fields.unset.append(name)
        else:
            fields.values[name] = _cell(name, value)
    return fields


def _cell(name: str, value: Any) -> bytes:
    if name == "events":
        return b"".join(event_key(event.id) + b"\t" + json(event) + b"\n" for event in value)
    if name in _decoders:
        return json(value)
    return utf8(str(value))


def event_key(event_id: str) -> bytes:
    """An event's id as its line begins: without tabs and newlines, which JSON escapes."""
    return json(event_id)


def program_fields(run: TaskRun) -> tuple[Fields, bytes]:
    """The fields of a run that come from its program, and the program's text."""
    digest = sql_records.program(run).digest
    fields = Fields({"program": digest.encode()}, [])
    if run.config.concurrency is None:
        fields.unset.append("concurrency")
    else:
        fields.values["concurrency"] = str(run.config.concurrency).encode()
    return fields, json(Program(run.filename, run.config, run.code))


def program_of(digest: str, text: bytes) -> Program:
    return _decoded(_programs, text, f"program {digest}")


def digest_of(cells: Mapping[bytes, bytes]) -> str:
    return cells.get(b"program", b"").decode(errors="replace")


def run_of(run_id: str, cells: Mapping[bytes, bytes], program: Program) -> TaskRun:
    """The run of a hash; raises `DamagedRunError`."""
    fields: dict[str, Any] = {}
    for name in sql_records.RUN_COLUMNS:
        cell = cells.get(name.encode())
        if cell is not None:
            fields[name] = _value(run_id, name, cell)
    fields |= {"id": run_id, "filename": program.filename, "code": program.code}
    fields.setdefault("input", None)
    try:
        return TaskRun(**fields, config=program.config)
    except TypeError as error:
        raise damage(f"run {run_id}", f"a field is missing: {error}") from error


def _value(run_id: str, name: str, cell: bytes) -> Any:
    try:
        if name == "events":
            lines = cell.split(b"\n")[:-1]
            return tuple(_events.decode(line.partition(b"\t")[2]) for line in lines)
        if name in _decoders:
            return _decoders[name].decode(cell)
        if name == "status":
            return Status(cell.decode())
        return int(cell) if name in _NUMBERS else cell.decode()
    except (msgspec.DecodeError, ValueError) as error:
        raise damage(f"run {run_id}", f"its field {name} cannot be read ({error})") from error


# --- calls and others ----------------------------------------------------------------------------


def call_items(calls: Iterable[StackRun]) -> list[Item]:
    """Calls as a script takes them: number, status, turn of delivery, text."""
    items: list[Item] = []
    for call in calls:
        turn = "" if call.delivered_turn is None else call.delivered_turn
        items += [call.sequence, str(call.status), turn, json(call)]
    return counted(items)


def call_of(text: bytes | None, run_id: str) -> StackRun:
    if text is None:
        raise damage(f"run {run_id}", "one of its calls is missing")
    return _decoded(_calls, text, f"run {run_id}")


def function_of(text: bytes, name: str) -> TaskFunction:
    return _decoded(_functions, text, f"task {name}")


def log_line_of(text: bytes, run_id: str) -> LogLine:
    return _decoded(_lines, text, f"run {run_id}")


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes, what: str) -> T:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, ValueError) as error:
        raise damage(what, f"a record cannot be read ({error})") from error


def damage(what: str, why: str) -> DamagedRunError:
    return DamagedRunError(
        f"{what} is damaged: {why}; nothing was changed: correct it or bring the data back from a "
        "backup"
    )
