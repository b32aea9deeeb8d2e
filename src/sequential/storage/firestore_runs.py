"""A run as one document: its record, its latest calls, its latest log lines, its small snapshot.

    status task parent due wake lease_until calls   what is searched for
    record input result program                     the run
    tail log snapshot                               its newest calls, lines and state
    book                                            where older ones and large ones are: parts
    changes                                         ids of the last changes: was mine written?

So a step is one write of one document, and whatever a step changes is changed at once. Text is
JSON; where a field holds bytes instead, it names a part that holds the text (`firestore_parts`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sequential.core.model import (
    CallStatus,
    LogLine,
    Snapshot,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.errors import DamagedRunError, StorageError
from sequential.storage.firestore_parts import Batch, Part, digest_of
from sequential.storage.firestore_search import queued, searched
from sequential.storage.firestore_values import Found, Value
from sequential.storage.sql_records import Program, json_text

TREES = ("input", "result")
SEARCHED = ("status", "task", "parent", "due", "wake", "lease_until", "calls")
RECORD = ("record", "input", "result", "program")
JOURNAL = ("tail", "book")
CHANGING = (*SEARCHED, *RECORD, *JOURNAL, "log", "changes")  # what a change has to know

_INLINE_TREE = 32 << 10  # bytes of JSON of a run's input or result that stay in its document
_INLINE_RECORD = 100 << 10
_INLINE_CALL = 16 << 10  # of a call's input or result
_INLINE_SNAPSHOT = 256 << 10
_LONG_TAIL, _KEPT_TAIL = 96 << 10, 16 << 10  # calls: when they are put on a page, and what stays
_PAGE = 64 << 10
_LONG_LOG = 32 << 10
_REMEMBERED_CHANGES = 8
_NO_CONFIG = TaskConfig("")
_FILENAME = TaskRun("", "", Status.PENDING, None).filename
_NEVER = 0


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A call in a document; its large values are parts."""

    call: StackRun
    input: Part | None = None
    result: Part | None = None


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Calls that are kept apart: those from number `first` on, up to the next page."""

    first: int
    part: Part
    newest: int  # the last turn in which one of them was delivered
    is_open: bool  # one of them was not
    waiting: tuple[str, ...]  # statuses of those that are not settled


class Book(msgspec.Struct, frozen=True, array_like=True):
    """Where the older and the larger things of a run are."""

    pages: tuple[Page, ...] = ()
    tail_from: int = 0  # calls of this number and above are in the tail
    logs: tuple[Part, ...] = ()
    snapshot_turn: int | None = None
    snapshot: Part | None = None


_encode = msgspec.json.encode
_tree = msgspec.json.Decoder()
_run = msgspec.json.Decoder(TaskRun)
_entries = msgspec.json.Decoder(list[Entry])
_book = msgspec.json.Decoder(Book)
_lines = msgspec.json.Decoder(list[LogLine])
_part = msgspec.json.Decoder(Part)
_program = msgspec.json.Decoder(Program)


class RunDocument(msgspec.Struct):
    """What is known of a run's document."""

    id: str
    run: TaskRun
    fields: dict[str, Value]
    version: Any
    book: Book
    pages: dict[int, list[Entry]] = {}  # those that have been read, by their first number

    @property
    def tail(self) -> list[Entry]:
        return read_entries(self.id, self.fields.get("tail"))

    def page_of(self, sequence: int) -> Page | None:
        """The page on which a call's place is; None when it is in the tail."""
        if sequence >= self.book.tail_from or not self.book.pages:
            return None
        before = [page for page in self.book.pages if page.first <= sequence]
        return before[-1] if before else self.book.pages[0]


def cell_part(value: Value) -> Part | None:
    """The part that a field names instead of holding its text."""
    return _part.decode(value) if isinstance(value, bytes) else None


def read_run(run_id: str, record: str | bytes, program: Program) -> TaskRun:
    """A run without its input and result."""
    try:
        run = _run.decode(record)
        config = msgspec.json.decode(program.config, type=TaskConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damage(run_id, "record", error) from error
    # Defaults stay the very objects that they are: encoding a record again leaves them out.
    filename = _FILENAME if program.filename == _FILENAME else program.filename
    return evolve(run, filename=filename, config=config, code=program.code)


def read_tree(run_id: str, text: str | bytes) -> Any:
    try:
        return _tree.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damage(run_id, "value", error) from error


def read_program(run_id: str, text: bytes) -> Program:
    try:
        return _program.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damage(run_id, "program", error) from error


def read_entries(run_id: str, text: Value) -> list[Entry]:
    return _decoded(run_id, "calls", _entries, text) if text else []


def read_book(run_id: str, text: Value) -> Book:
    book: Book = _decoded(run_id, "book", _book, text) if text else Book()
    return book


def read_lines(run_id: str, text: Value) -> list[LogLine]:
    return _decoded(run_id, "log", _lines, text) if text else []


def _decoded(run_id: str, what: str, decoder: Any, text: Value) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise damage(run_id, what, error) from error


def damage(run_id: str, what: str, why: object) -> DamagedRunError:
    return DamagedRunError(
        f"run {run_id} is damaged: its {what} cannot be read ({why}); nothing was changed: correct "
        "its document or bring the database back from a backup"
    )


def document(found: Found, run_id: str, run: TaskRun) -> RunDocument:
    return RunDocument(
        run_id, run, found.fields, found.version, read_book(run_id, found.fields.get("book"))
    )


# --- writing -------------------------------------------------------------------------------------


class Draft:
    """A run's document while it is changed: `fields` are those that get another value."""

    def __init__(self, old: RunDocument | None, run_id: str, batch: Batch) -> None:
        self.id = run_id
        self.batch = batch
        self.old = old
        self.fields: dict[str, Value] = {}
        self.token: str | None = None  # of the lease that is taken by this change
        self.is_asserted = False  # written even if nothing changes: it must still be the same
        self._run = old.run if old else None
        self._book = old.book if old else Book()
        self._tail: dict[int, Entry] | None = None
        self._pages: dict[int, dict[int, Entry]] = {}
        self._open_pages: dict[int, list[Entry]] = {}

    @property
    def run(self) -> TaskRun:
        assert self._run is not None
        return self._run

    def know(self, run: TaskRun) -> None:
        """Take this for the stored run: it is, with its large values."""
        self._run = run

    def set_run(self, run: TaskRun) -> None:
        """Give the run these fields; what is the same object as before is not written again."""
        old = self._run
        for name in TREES:
            value = getattr(run, name)
            if old is None or value is not getattr(old, name):
                self._set_tree(name, value)
        bare = evolve(run, input=None, result=None, filename=_FILENAME, config=_NO_CONFIG, code="")
        self._set_cell("record", json_text(bare), _INLINE_RECORD)
        for name, value in searched(run).items():
            self._set(name, value)
        before = dict.fromkeys(queued(old)) if old else {}
        self.fields |= {**before, **queued(run)}
        self._run = run

    def set_program(self, part: Part) -> None:
        self._set("program", _encode(part))

    def _set_tree(self, name: str, value: Any) -> None:
        self._set_cell(name, None if value is None else json_text(value), _INLINE_TREE)

    def _set(self, name: str, value: Value) -> None:
        if self.old is None or name in self.fields or self.old.fields.get(name) != value:
            self.fields[name] = value

    def _set_cell(self, name: str, text: str | None, most: int) -> None:
        old = self.old.fields.get(name) if self.old else None
        part, old_part = None, cell_part(old)
        if text is not None and len(data := text.encode()) > most:
            part = self._kept(data, old_part)
        if old_part is not None and part is not old_part:
            self.batch.drop(old_part)
        self._set(name, _encode(part) if part else text)

    def _kept(self, data: bytes, old: Part | None) -> Part:
        """The part that has this value already, or a new one."""
        if old is not None and old.size == len(data) and old.digest == digest_of(data):
            return old
        return self.batch.keep(data)

    # --- calls

    def put_call(self, call: StackRun, *, is_new: bool) -> None:
        """Write a call; its page must have been read. Raises `StorageError` if it is not there."""
        entries = self._entries_of(call.sequence)
        old = entries.get(call.sequence)
        if old is None and not is_new:
            raise StorageError(f"there is no call {call.id[:80]}")
        entries[call.sequence] = self._entry(call, old)

    def drop_call(self, sequence: int) -> None:
        if self.find_call(sequence) is None:
            return
        old = self._entries_of(sequence).pop(sequence)
        self.batch.drop(old.input)
        self.batch.drop(old.result)

    def find_call(self, sequence: int) -> Entry | None:
        page = self.old.page_of(sequence) if self.old else None
        if page is not None and self.old is not None and page.first not in self._pages:
            return next(
                (e for e in self.old.pages[page.first] if e.call.sequence == sequence), None
            )
        return self._entries_of(sequence).get(sequence)

    def _entries_of(self, sequence: int) -> dict[int, Entry]:
        page = self.old.page_of(sequence) if self.old else None
        if page is not None and self.old is not None:
            if page.first not in self._pages:
                self._pages[page.first] = _by_number(self.old.pages[page.first])
            return self._pages[page.first]
        if self._tail is None:
            self._tail = _by_number(self.old.tail) if self.old else {}
        return self._tail

    def _entry(self, call: StackRun, old: Entry | None) -> Entry:
        parts: dict[str, Part | None] = {}
        for name in TREES:
            tree = getattr(call, name)
            data = b"" if tree is None else json_text(tree).encode()
            old_part = getattr(old, name) if old else None
            parts[name] = self._kept(data, old_part) if len(data) > _INLINE_CALL else None
            if old_part is not None and parts[name] is not old_part:
                self.batch.drop(old_part)
        apart = {name: None for name, part in parts.items() if part}
        return Entry(evolve(call, **apart), **parts)

    # --- log and snapshot

    def add_line(self, line: LogLine) -> None:
        old = self.fields.get("log") or (self.old.fields.get("log") if self.old else None)
        lines = [*read_lines(self.id, old), line]
        text = json_text(lines)
        if len(data := text.encode()) > _LONG_LOG:
            part = self.batch.keep(data)
            self._book = msgspec.structs.replace(self._book, logs=(*self._book.logs, part))
            text = "[]"
        self._set("log", text)

    def set_snapshot(self, snapshot: Snapshot) -> None:
        self.batch.drop(self._book.snapshot)
        is_small = len(snapshot.data) <= _INLINE_SNAPSHOT
        part = None if is_small else self.batch.keep(snapshot.data)
        self.fields["snapshot"] = snapshot.data if is_small else None
        self._book = msgspec.structs.replace(self._book, snapshot_turn=snapshot.turn, snapshot=part)

    # --- the end

    def finish(self) -> dict[str, Value]:
        """The fields to be written; none when nothing has changed."""
        self._finish_pages()
        self._finish_tail()
        if self._book != (self.old.book if self.old else None):
            self.fields["book"] = json_text(self._book)
        if self._tail is not None or self._pages:
            self._set("calls", self._waiting())
        if self.fields or self.is_asserted:
            before = self.old.fields.get("changes") if self.old else None
            known = before if isinstance(before, list) else []
            self.fields["changes"] = [*known[1 - _REMEMBERED_CHANGES :], self.batch.change]
        return self.fields

    def _finish_pages(self) -> None:
        pages = []
        for page in self._book.pages:
            entries = self._pages.get(page.first)
            if entries is not None:
                self.batch.drop(page.part)
            pages.append(page if entries is None else self._page(page.first, entries.values()))
        self._book = msgspec.structs.replace(self._book, pages=tuple(pages))

    def _finish_tail(self) -> None:
        if self._tail is None:
            return
        text = json_text([self._tail[number] for number in sorted(self._tail)])
        if len(text.encode()) > _LONG_TAIL:
            self._put_on_pages()
            text = json_text([self._tail[number] for number in sorted(self._tail)])
        self._set("tail", text)

    def _put_on_pages(self) -> None:
        """Move the calls of the tail but for the last ones to pages."""
        assert self._tail is not None
        numbers = sorted(self._tail)
        sizes = {number: len(_encode(self._tail[number])) for number in numbers}
        kept = 0
        while numbers and kept + sizes[numbers[-1]] <= _KEPT_TAIL:
            kept += sizes[numbers.pop()]
        pages, group, size = [], [], 0
        for number in numbers:
            group.append(self._tail.pop(number))
            size += sizes[number]
            if size > _PAGE or number == numbers[-1]:
                pages.append(self._page(group[0].call.sequence, group))
                group, size = [], 0
        tail_from = numbers[-1] + 1
        self._book = msgspec.structs.replace(
            self._book, pages=(*self._book.pages, *pages), tail_from=tail_from
        )

    def _page(self, first: int, entries: Iterable[Entry]) -> Page:
        ordered = sorted(entries, key=lambda entry: entry.call.sequence)
        part = self.batch.keep(json_text(ordered).encode())
        turns = [entry.call.delivered_turn for entry in ordered]
        newest = max((turn for turn in turns if turn is not None), default=_NEVER)
        if None in turns:
            self._open_pages[first] = ordered
        return Page(first, part, newest, None in turns, _waiting(ordered))

    def _waiting(self) -> list[str]:
        statuses = {status for page in self._book.pages for status in page.waiting}
        tail = (
            self._tail if self._tail is not None else _by_number(self.old.tail if self.old else [])
        )
        return sorted({*statuses, *_waiting(tail.values())})

    def written(self, version: Any) -> RunDocument:
        """The document as it is after the write."""
        fields = {**(self.old.fields if self.old else {}), **self.fields}
        fields.pop("snapshot", None)
        pages = {**(self.old.pages if self.old else {}), **self._open_pages}
        for first in self._pages.keys() - self._open_pages.keys():
            pages.pop(first, None)
        return RunDocument(self.id, self.run, fields, version, self._book, pages)


def _by_number(entries: Sequence[Entry]) -> dict[int, Entry]:
    return {entry.call.sequence: entry for entry in entries}


def _waiting(entries: Iterable[Entry]) -> tuple[str, ...]:
    open_statuses = {CallStatus.PENDING, CallStatus.IN_PROGRESS}
    return tuple(sorted({str(e.call.status) for e in entries if e.call.status in open_statuses}))
