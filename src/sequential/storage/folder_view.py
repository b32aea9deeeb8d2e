"""The view of a run: `run-<id>.json`, for people and for quick starts.

It holds the run, the calls it waits for, and how far of the journal it covers; whoever reads it
folds the rest of the journal over it. It can always be made again from the journal, so it is
replaced without waiting for the disk, and an empty one (power failure) is as good as none.
"""

import contextlib
import zlib
from typing import Any

import msgspec

from sequential.core.model import StackRun, TaskRun
from sequential.errors import DamagedRunError
from sequential.storage import files, folder_snapshot
from sequential.storage.folder_journal import RUN_FIELDS, State, encode, read_lines, scan
from sequential.storage.folder_places import RunFiles
from sequential.storage.folder_snapshot import Position

_MARK = b',\n  "crc": "'


class View(TaskRun, frozen=True, omit_defaults=True, kw_only=True):
    """The content of `run-<id>.json`, but for the checksum at its end."""

    waiting_for: tuple[StackRun, ...] = ()
    journal: Position
    folded: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(View)


def write(
    run: RunFiles,
    record: TaskRun,
    waiting_for: tuple[StackRun, ...],
    at: Position,
    folded: tuple[str, ...] = (),
) -> None:
    values: dict[str, Any] = {name: getattr(record, name) for name in RUN_FIELDS}
    view = View(**values, waiting_for=waiting_for, journal=at, folded=folded)
    files.replace(run.view, _text(view), durable=False)


def write_first(run: RunFiles, record: TaskRun, at: Position, suffix: str) -> None:
    """Write the view of a new run, unless somebody drives it already and has written one."""
    values: dict[str, Any] = {name: getattr(record, name) for name in RUN_FIELDS}
    with contextlib.suppress(FileExistsError):
        files.create(run.view, _text(View(**values, journal=at)), suffix, durable=False)


def _text(view: View) -> bytes:
    body = msgspec.json.format(encode(view), indent=2)[:-2]
    return b'%b%b%08x"\n}\n' % (body, _MARK, zlib.crc32(body))


def load(run: RunFiles, after: int | None = None) -> State:
    """The state of a run as of now, with the calls not delivered up to turn `after`.

    Without `after`: those not delivered at all. It costs what was journaled since the view or the
    snapshot was written, unless `after` lies before both. Raises `DamagedRunError`, and
    `FileNotFoundError` when there is no such run.
    """
    view = read(run)
    if view is None:
        return scan(run, after)
    if after is not None and after < view.turn:
        head = folder_snapshot.read_head(run)
        if head is None or after < head.journal.turn:
            return scan(run, after)
        calls = {call.sequence: call for call in head.waiting_for}
        try:
            state = State(view.run, calls, head.journal.bytes, folded=view.folded)
            return _fold_rest(run, state, after)
        except DamagedRunError:  # either the snapshot does not fit, or the journal is damaged
            return scan(run, after)
    return _fold_rest(run, view, after)


def _fold_rest(run: RunFiles, state: State, after: int | None) -> State:
    for line, end in read_lines(run, state.end):
        state.fold(line, after)
        state.end = end
    return state


def read(run: RunFiles) -> State | None:
    """The state a view holds; None when there is no view."""
    try:
        text = files.read(run.view)
    except FileNotFoundError:
        return None
    if not text.strip(b"\0"):
        return None
    body, _, check = text.rpartition(_MARK)
    try:
        view = _decoder.decode(text)
    except files.BAD_JSON as error:
        raise _damage(run, files.explain_json(error, text)) from error
    if check != b'%08x"\n}\n' % zlib.crc32(body):
        raise _damage(run, f"its checksum (byte {len(body)}) does not fit: it was changed")
    if view.id != run.run_id:
        raise _damage(run, f"`$.id` is {view.id}: it belongs to another run")
    record = TaskRun(**{name: getattr(view, name) for name in RUN_FIELDS})
    waiting = {call.sequence: call for call in view.waiting_for}
    return State(record, waiting, view.journal.bytes, view.journal.turn, view.folded)


def _damage(run: RunFiles, reason: str) -> DamagedRunError:
    shown = run.folder.shown(run.view)
    try:
        scan(run)
    except DamagedRunError as error:
        return DamagedRunError(f"{shown} is damaged: {reason}; and so is its journal: {error}")
    return DamagedRunError(
        f"{shown} is damaged: {reason}; nothing was changed. The journal beside it is intact: move "
        "the damaged file away and it is made again from the journal"
    )
