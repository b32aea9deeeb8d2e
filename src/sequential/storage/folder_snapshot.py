"""The snapshot of a run in the folder store: a line of JSON, then the program's state.

The line says which calls the run was waiting for and how far the journal went. With it, going on
from the snapshot costs what was journaled since, although the view may be younger than the snapshot
and know nothing any more of the calls delivered in between. All of it is a cache: whatever cannot
be read is as if it were not there.
"""

import msgspec

from sequential.core.model import Snapshot, StackRun
from sequential.storage import files
from sequential.storage.folder_journal import encode_line, line_of
from sequential.storage.folder_places import RunFiles


class Position(msgspec.Struct, frozen=True):
    """How far of a journal something covers. `turn` is the last one that took part in it."""

    bytes: int
    turn: int


class Head(msgspec.Struct, frozen=True):
    """The first line of a snapshot's file."""

    turn: int
    journal: Position
    waiting_for: tuple[StackRun, ...]


_decoder = msgspec.json.Decoder(Head)


def write(run: RunFiles, snapshot: Snapshot, at: Position, waiting: tuple[StackRun, ...]) -> None:
    head = encode_line(Head(snapshot.turn, at, waiting))
    files.replace(run.snapshot, head + snapshot.data, durable=False)


def read(run: RunFiles) -> Snapshot | None:
    try:
        text = files.read(run.snapshot)
    except OSError:
        return None
    end = text.find(b"\n") + 1
    head = _head(text[:end])
    return Snapshot(run.run_id, head.turn, text[end:]) if head else None


def read_head(run: RunFiles) -> Head | None:
    """What a snapshot's file says of the journal, without reading the snapshot."""
    try:
        with open(run.snapshot, "rb", opener=files.open_to_read) as file:
            return _head(file.readline())
    except OSError:
        return None


def _head(text: bytes) -> Head | None:
    if (whole := line_of(text)) is None:
        return None
    try:
        return _decoder.decode(whole)
    except files.BAD_JSON:
        return None
