"""The commit of an ordinary turn as parameters of the SQL function `commit_turn`.

An ordinary turn delivers one answer, asks for one call, or both; the run goes on. Nearly every
commit is one. They are told from the others by what is known of the rows, and what they write is
prepared without a detour over JSON.
"""

import math
import operator
from typing import Any

import msgspec

from sequential.core.model import Commit, StackRun, Status, TaskRun
from sequential.storage import sql_records
from sequential.storage.sql_steps import Known

_TEXT, _NUMBER, _NUMERIC, _BYTES = 25, 20, 1700, 17  # the object ids of types
_RUN = (*(_TEXT,) * 4, _NUMBER, *(_TEXT,) * 3, _NUMBER, _BYTES)
_OLD = (_NUMBER, *(_TEXT,) * 4, _NUMBER, _TEXT, _NUMERIC, _NUMBER, _NUMBER, _NUMBER, _TEXT)
_NEW = (_NUMBER, *(_TEXT,) * 9, _NUMBER)
TYPES = _RUN + _OLD + _NEW

Cells = tuple[bytes | None, ...]

# What a turn writes of a run, and what others may write while it is driven.
_MOVING = ("updated_at", "turn", "where", "wake_at", "answers", "events", "lease_until")
_fixed_of_run = operator.attrgetter(*(n for n in TaskRun.__struct_fields__ if n not in _MOVING))
_fixed_of_call = operator.attrgetter(
    *("id", "task_run_id", "operation", "input", "parent_stack_run_id", "created_at"),
    *("sequence", "fingerprint", "where", "requested_turn"),
)
_empty_of_call = operator.attrgetter(
    *("result", "error", "parent_stack_run_id", "duration", "size"),
    *("delivered_turn", "delivered_order", "delivered_at"),
)
_EMPTY = (None,) * 8
_encode = msgspec.json.Encoder().encode
_MARK = sql_records.MARK.encode()


class _Unusual(Exception):  # noqa: N818 - it never leaves this module
    """Something that `commit_turn` cannot write, or that has to be refused in words."""


def cells(commit: Commit, known: Known, request: str) -> Cells | None:
    """The parameters for an ordinary turn; None for any other commit."""
    run = commit.run
    if (
        known.run is None
        or commit.taken
        or len(commit.requested) > 1
        or len(commit.updated) > 1
        or run.status is not Status.RUNNING
        or run.lease_token != commit.token
        or not _are_same(_fixed_of_run(run), _fixed_of_run(known.run))
    ):
        return None
    try:
        return (
            _text(run.id),
            _text(commit.token),
            _text(request),
            _text(run.updated_at),
            b"%d" % run.turn,
            _json(run.where),
            _optional(run.wake_at),
            _optional(commit.log or None),
            *_snapshot(commit),
            *_old(commit, known),
            *_new(commit),
        )
    except (_Unusual, UnicodeEncodeError):
        return None


def _snapshot(commit: Commit) -> Cells:
    if commit.snapshot is None:
        return (None, None)
    return (b"%d" % commit.snapshot.turn, b"\\x" + commit.snapshot.data.hex().encode())


def _old(commit: Commit, known: Known) -> Cells:
    """The call whose answer is delivered."""
    if not commit.updated:
        return (None,) * len(_OLD)
    call = commit.updated[0]
    last = known.calls.get(call.sequence)
    if last is None or not _are_same(_fixed_of_call(call), _fixed_of_call(last)):
        raise _Unusual
    return (
        b"%d" % call.sequence,
        _text(call.status),
        _json(call.result),
        _json(call.error),
        _text(call.updated_at),
        b"%d" % call.attempts,
        _optional(call.due_at),
        _seconds(call.duration),
        _number(call.size),
        _number(call.delivered_turn),
        _number(call.delivered_order),
        _optional(call.delivered_at),
    )


def _new(commit: Commit) -> Cells:
    """The call that is asked for."""
    if not commit.requested:
        return (None,) * len(_NEW)
    call: StackRun = commit.requested[0]
    if call.task_run_id != commit.run.id or call.attempts or _empty_of_call(call) != _EMPTY:
        raise _Unusual
    return (
        b"%d" % call.sequence,
        _text(call.id),
        _text(call.operation),
        _text(call.status),
        _json(call.input),
        _text(call.created_at),
        _text(call.updated_at),
        _text(call.fingerprint),
        _optional(call.due_at),
        _json(call.where),
        b"%d" % call.requested_turn,
    )


def _are_same(new: tuple[Any, ...], old: tuple[Any, ...]) -> bool:
    """Whether these are the very same objects, so that there is nothing to write."""
    return all(map(operator.is_, new, old))


def _text(value: str) -> bytes:
    data = value.encode()
    if b"\0" in data or b"\x1a" in data:  # to be escaped
        raise _Unusual
    return data


def _optional(value: str | None) -> bytes | None:
    return None if value is None else _text(value)


def _number(value: int | None) -> bytes | None:
    return None if value is None else b"%d" % value


def _seconds(value: float | None) -> bytes | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise _Unusual
    return repr(value).encode()


def _json(value: Any) -> bytes | None:
    """The JSON text of a value that stays in its row."""
    if value is None:
        return None
    data = _encode(value)
    if len(data) > sql_records.INLINE or data.startswith(_MARK):  # to be kept apart
        raise _Unusual
    return data
