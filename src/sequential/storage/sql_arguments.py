"""Records as arguments of SQL functions, and records from their answers.

Arguments and answers are JSON. Records travel as the cells of `sql_records`, so a value is JSON
text within JSON: the server keeps it as it is, and never looks into it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from sequential.core.model import StackRun, TaskRun
from sequential.errors import DamagedRunError
from sequential.storage import sql_records
from sequential.storage.sql_records import CALL_COLUMNS, JSON, PROGRAM, RUN_COLUMNS, TREES

Arguments = dict[str, Any]

_REMEMBERED = 1000  # programs, most of which many runs share
_ESCAPE = "\x1a"  # the control character "substitute", which hardly any text has
_ESCAPED = {"\0": _ESCAPE + "0", _ESCAPE: _ESCAPE + "1"}
_PLAIN = {escaped: plain for plain, escaped in _ESCAPED.items()}
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


# --- JSON ----------------------------------------------------------------------------------------


def encode(arguments: Arguments) -> bytes:
    """The JSON of arguments, without the character NUL, which no PostgreSQL text may hold.

    In its place is an escape; text without NUL stays as it is. Raises `ValueNotSupportedError` for
    text that is not Unicode.
    """
    try:
        data = _encoder.encode(arguments)
    except UnicodeEncodeError as error:
        raise sql_records.not_unicode(error) from error
    if b"\\u0000" in data or b"\\u001a" in data:
        data = _encoder.encode(_escaped(arguments))
    return data


def decode(data: bytes | str) -> Any:
    """What the JSON of an answer says."""
    answer = _decoder.decode(data)
    mark = "\\u001a" if isinstance(data, str) else b"\\u001a"
    return _unescaped(answer) if mark in data else answer  # type: ignore[operator]


def unescape(text: str) -> str:
    """The text that was escaped for the server."""
    return re.sub(f"{_ESCAPE}[01]", lambda match: _PLAIN[match[0]], text)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(f"[\0{_ESCAPE}]", lambda match: _ESCAPED[match[0]], value)
    return _each(value, _escaped)


def _unescaped(value: Any) -> Any:
    return unescape(value) if isinstance(value, str) else _each(value, _unescaped)


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {name: change(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [change(item) for item in value]
    return value


# --- records as arguments ------------------------------------------------------------------------


class Written:
    """Cells of records, with the large values of all of them."""

    def __init__(self) -> None:
        self.payloads: list[tuple[str, str, str]] = []  # record, column, JSON text

    def cells(self, record: str, fields: Mapping[str, Any]) -> Arguments:
        """The cells of these fields of the record with this id."""
        cells, payloads = sql_records.columns(fields)
        self.payloads += [(record, name, text) for name, text in payloads.items()]
        return dict(cells)

    def run(self, run: TaskRun) -> Arguments:
        """All cells of a run."""
        fields = {name: getattr(run, name) for name in RUN_COLUMNS}
        return self.cells(run.id, fields) | {"program": sql_records.program(run).digest}

    def change(self, run: TaskRun, changed: Mapping[str, Any]) -> Arguments:
        """The arguments `changes` and, when it is another one, `program` for fields of a run."""
        cells = self.cells(run.id, changed)
        if changed.keys().isdisjoint(PROGRAM):
            return {"changes": cells}
        row = program(run)
        return {"changes": cells | {"program": row[0]}, "program": row}

    def call(self, call: StackRun) -> Arguments:
        """All cells of a call."""
        return self.cells(call.id, {name: getattr(call, name) for name in CALL_COLUMNS})

    def changed_call(self, call: StackRun, changed: Mapping[str, Any]) -> Arguments:
        """The cells of fields of a call, with the number it is found by."""
        return self.cells(call.id, changed) | {"sequence": call.sequence}

    def rest(self) -> Arguments:
        """The argument for the large values, if there are any."""
        return {"payloads": self.payloads} if self.payloads else {}


def program(run: TaskRun) -> tuple[Any, ...]:
    """The row of a run's program, with its limit, which a claim looks at."""
    return (*sql_records.program(run), run.config.concurrency)


def split_filters(
    kind: type[TaskRun] | type[StackRun], filters: Mapping[str, Any]
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The filters that SQL can answer, as lists, and those to be matched against the records."""
    sql_records.known(kind, filters)
    columns: dict[str, list[Any]] = {}
    others: dict[str, Any] = {}
    for name, wanted in filters.items():
        is_list = isinstance(wanted, Sequence) and not isinstance(wanted, str)
        items = list(wanted) if is_list else [wanted]
        if name in (*PROGRAM, *JSON) or not all(map(_is_plain, items)):
            others[name] = wanted
        else:
            columns[name] = [int(item) if isinstance(item, bool) else item for item in items]
    return columns, others


def _is_plain(item: Any) -> bool:
    is_number = isinstance(item, int | float) and math.isfinite(item)
    return item is None or isinstance(item, str) or is_number


# --- records from answers ------------------------------------------------------------------------


class Records:
    """Makes records from answers, remembering the programs, which never change."""

    def __init__(self) -> None:
        self._programs: dict[str, dict[str, Any]] = {}

    def runs(self, answer: Mapping[str, Any]) -> Iterator[TaskRun | DamagedRunError]:
        """The runs of an answer; in place of one that cannot be read, what is the matter.

        Large values are left out (`$payload`) if the answer leaves them out.
        """
        self._remember(answer["programs"] or ())
        payloads = None if answer["payloads"] is None else _by_record(answer["payloads"])
        for row in answer["runs"] or ():
            try:
                yield self._run(row, payloads)
            except DamagedRunError as error:
                yield error

    def run(self, answer: Mapping[str, Any]) -> TaskRun | None:
        """The one run of an answer; raises `DamagedRunError`."""
        for run in self.runs(answer):
            if isinstance(run, DamagedRunError):
                raise run
            return run
        return None

    def _run(self, row: Mapping[str, Any], payloads: dict[str, dict[str, str]] | None) -> TaskRun:
        if row["program"] not in self._programs:
            raise _missing(row["id"], "program")
        values = _values(row, payloads) if payloads is not None else {}
        cells = [row[name] for name in RUN_COLUMNS]
        return sql_records.run_of(cells, values, self._programs[row["program"]])

    def _remember(self, programs: Iterable[Mapping[str, Any]]) -> None:
        if len(self._programs) >= _REMEMBERED:
            self._programs.clear()
        for row in programs:
            if row["digest"] not in self._programs:
                cells = [row[name] for name in ("digest", "filename", "config", "code")]
                self._programs[row["digest"]] = sql_records.program_fields(cells)


def calls(answer: Mapping[str, Any]) -> list[StackRun]:
    """The calls of an answer; raises `DamagedRunError`."""
    payloads = _by_record(answer["payloads"] or ())
    return [
        sql_records.call_of([row[name] for name in CALL_COLUMNS], _values(row, payloads))
        for row in answer["calls"]
    ]


def _by_record(payloads: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    """Large values by the id of their record and by column."""
    found: dict[str, dict[str, str]] = {}
    for record, name, text in payloads:
        found.setdefault(record, {})[name] = text
    return found


def _values(row: Mapping[str, Any], payloads: dict[str, dict[str, str]]) -> dict[str, str]:
    """The values that a row only has notes of."""
    found = payloads.get(row["id"], {})
    wanted = [name for name in TREES if sql_records.is_apart(row[name])]
    for name in wanted:
        if name not in found:
            raise _missing(row["id"], name)
    return {name: found[name] for name in wanted}


def _missing(record: str, what: str) -> DamagedRunError:
    return DamagedRunError(
        f"run {record} is damaged: its {what} is missing; nothing was changed: bring the database "
        "back from a backup"
    )
