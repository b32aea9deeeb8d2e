"""The journal of a run in the folder store: what its lines mean and how they become a state.

One line is one commit. The first holds the whole run with its code, every later one only what
changed. Folding the lines in order gives the run and its calls; folding some of them once more
changes nothing, because a line holds values and never differences of values.

A line ends in the CRC-32 of everything before it. The last line without its newline is a write
that was interrupted: nobody was told that it succeeded, so it never happened. Anything else that
does not fit is damage, which is reported and never repaired by guessing.
"""

import os
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from sequential.core.model import LogLine, StackRun, TaskRun, evolve
from sequential.errors import DamagedRunError, StorageError, ValueNotSupportedError
from sequential.storage import files
from sequential.storage.folder_places import RunFiles

FORMAT = 2
_SINCE_2 = {"answers", "events"}  # fields of a run that programs of format 1 would lose
_MARK = b',"crc":"'
_encoder = msgspec.json.Encoder()


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One commit. `requested` are whole calls, `updated` changed fields with their `sequence`.

    `dropped` are numbers of calls that were removed. `folded` are the requests from the inbox that
    this line carries out (`folder_inbox`).
    """

    at: str
    turn: int
    format: int = 0
    created: TaskRun | None = None
    run: dict[str, Any] = {}
    requested: tuple[StackRun, ...] = ()
    updated: tuple[dict[str, Any], ...] = ()
    log: str = ""
    dropped: tuple[int, ...] = ()
    folded: tuple[str, ...] = ()

    @property
    def needs(self) -> int:
        """The format that whoever reads this line must know: 0 if any will do."""
        new = self.dropped or self.folded or not _SINCE_2.isdisjoint(self.run)
        return FORMAT if new else 0


_decoder = msgspec.json.Decoder(Line)
RUN_FIELDS = {field.name: field.type for field in msgspec.structs.fields(TaskRun)}
CALL_FIELDS = {field.name: field.type for field in msgspec.structs.fields(StackRun)}


class State:
    """A run and calls of it, as of byte `end` of its journal.

    `turn` is the highest turn that was committed or that an outcome was delivered in. Values that
    are kept in files of their own are still references (`folder_payloads`).
    """

    def __init__(
        self,
        run: TaskRun,
        calls: dict[int, StackRun] | None = None,
        end: int = 0,
        turn: int = 0,
        folded: tuple[str, ...] = (),
    ) -> None:
        self.run = run
        self.calls = {} if calls is None else calls
        self.folded = folded  # the last requests from the inbox that were carried out
        self.end = end
        self.view_end = end  # where the view ended, if it began with one
        self.turn = max(turn, run.turn)

    def fold(self, line: Line, after: int | None = None) -> None:
        """Apply a line. Calls delivered in a turn up to `after` are dropped: nobody will ask.

        Without `after`, all calls that were delivered are dropped.
        """
        if line.run:
            self.run = evolve(self.run, **_typed(line.run, RUN_FIELDS))
            self.turn = max(self.turn, self.run.turn)
        for number in line.dropped:
            self.calls.pop(number, None)
        self.folded = line.folded or self.folded
        for call in line.requested:
            self._keep(call, after)
        for changes in line.updated:
            if old := self.calls.get(changes["sequence"]):
                self._keep(evolve(old, **_typed(changes, CALL_FIELDS)), after)

    def _keep(self, call: StackRun, after: int | None) -> None:
        if call.delivered_turn is None:
            self.calls[call.sequence] = call
            return
        self.turn = max(self.turn, call.delivered_turn)
        if after is not None and call.delivered_turn > after:
            self.calls[call.sequence] = call
        else:
            self.calls.pop(call.sequence, None)


def _typed(changes: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    return {
        name: msgspec.convert(value, types[name])
        for name, value in changes.items()
        if name in types
    }


def encode(record: Any) -> bytes:
    """JSON of a record; raises `ValueNotSupportedError` for text that is not Unicode."""
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError as error:
        raise ValueNotSupportedError(
            f"a text holds half of a surrogate pair at position {error.start}, "
            "which is not valid text: remove or replace it"
        ) from error


def encode_line(record: msgspec.Struct) -> bytes:
    """A record as one line that ends in its checksum."""
    body = encode(record)[:-1]
    return b'%b%b%08x"}\n' % (body, _MARK, zlib.crc32(body))


def line_of(text: bytes) -> bytes | None:
    """The JSON of a line made by `encode_line`; None if its checksum does not fit."""
    body, _, check = text.rpartition(_MARK)
    return body + b"}" if check == b'%08x"}\n' % zlib.crc32(body) else None


def read_lines(run: RunFiles, start: int = 0) -> Iterator[tuple[Line, int]]:
    """The lines from byte `start` on, each with the position of its end.

    Raises `DamagedRunError` at the first line that is not what was once written.
    """
    end = start
    with open(run.journal, "rb", opener=files.open_to_read) as file:
        if start:
            file.seek(start - 1)
            if file.read(1) != b"\n":
                raise DamagedRunError(_misplaced(run, start))
        for text in file:
            if not text.endswith(b"\n"):
                if _is_whole(text):
                    raise _damage(run, end, "something else follows where the line should end")
                return
            yield _decode(run, text, end), end + len(text)
            end += len(text)


def _decode(run: RunFiles, text: bytes, start: int) -> Line:
    if (whole := line_of(text)) is None:
        raise _damage(run, start, "the checksum does not fit the line")
    try:
        line = _decoder.decode(whole)
    except files.BAD_JSON as error:
        raise _damage(run, start, files.explain_json(error, whole)) from error
    if line.format > FORMAT:
        raise StorageError(
            f"{run.folder.shown(run.journal)} was written by a newer version of "
            "sequential-ecosystem: upgrade this one"
        )
    return line


def _is_whole(tail: bytes) -> bool:
    """Whether a tail without a newline is a whole line with more behind it.

    A write that was interrupted leaves the beginning of a line and nothing else, so this one was
    complete once, and its newline has been changed since.
    """
    body, mark, rest = tail.rpartition(_MARK)
    check = b'%08x"}' % zlib.crc32(body)
    return bool(mark) and rest.startswith(check) and len(rest) > len(check)


def _misplaced(run: RunFiles, start: int) -> str:
    size = os.stat(run.journal, follow_symlinks=False).st_size
    journal, view = run.folder.shown(run.journal), run.folder.shown(run.view)
    if size < start:
        return (
            f"{journal} ends at byte {size}, but {view} was made from {start} bytes of it; nothing "
            "was changed: bring the journal back from a backup, or move the .json file away to go "
            "on from what the journal still holds"
        )
    return (
        f"{view} does not belong to the journal beside it, which has no line that ends at byte "
        f"{start}; nothing was changed: move the .json file away and it is made again from the "
        "journal"
    )


def _damage(run: RunFiles, start: int, reason: str) -> DamagedRunError:
    with open(run.journal, "rb", opener=files.open_to_read) as file:
        number = file.read(start).count(b"\n") + 1
    return DamagedRunError(
        f"{run.folder.shown(run.journal)} is damaged in line {number} (byte {start}): {reason}; "
        "nothing was changed: bring the file back from a backup, or move the run's files away"
    )


def scan(run: RunFiles, after: int | None = None) -> State:
    """The state from the whole journal: needed when there is no view of it."""
    state: State | None = None
    for line, end in read_lines(run):
        if line.created is not None and line.created.id == run.run_id:
            state = State(line.created)  # no view: it covers nothing
        if state is None:
            raise _damage(run, 0, f"this is not the beginning of the journal of {run.run_id}")
        state.fold(line, after)
        state.end = end
    if state is None:
        raise _damage(run, 0, "the first line is missing")
    return state


def read_log(run: RunFiles) -> list[LogLine]:
    return [LogLine(line.at, line.log) for line, _ in read_lines(run) if line.log]
