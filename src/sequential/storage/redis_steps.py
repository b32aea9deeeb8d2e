"""What the scripts that write runs are told: arguments, in the order in which they take them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sequential.core.model import Amendment, Commit, LogLine, Status, TaskRun
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import RunBusyError, SequentialError, TaskLimitError
from sequential.storage import redis_records
from sequential.storage.base import fields
from sequential.storage.redis_records import Fields, Item, counted, utf8
from sequential.storage.sql_records import PROGRAM

# What may be large, and is not written again when it has not changed.
_LARGE = ("input", "result", *PROGRAM)


def created(run: TaskRun, ttl: int) -> list[Item]:
    return changed(run, fields(run), ttl)


def changed(run: TaskRun, changes: Mapping[str, Any], ttl: int) -> list[Item]:
    """These fields of the run as it shall be; `ttl` is in milliseconds."""
    written, text = redis_records.run_fields(changes), b""
    if not changes.keys().isdisjoint(PROGRAM):
        program, text = redis_records.program_fields(run)
        written = Fields(written.values | program.values, written.unset + program.unset)
    return [*written.items(), text, ttl]


def committed(commit: Commit, known: TaskRun | None, ttl: int) -> list[Item]:
    """A step. `known` is the run as it is stored, if that is certain."""
    run = commit.run
    changes = fields(run)
    for name in ("answers", "events", "lease_until"):  # for the script to see to
        del changes[name]
    for name in _LARGE:
        if known is not None and changes[name] is getattr(known, name):
            del changes[name]
    line = redis_records.json(LogLine(run.updated_at, commit.log)) if commit.log else b""
    snapshot = commit.snapshot
    return [
        utf8(commit.token),
        run.answers,
        *changed(run, changes, ttl),
        *redis_records.call_items(commit.requested),
        *redis_records.call_items(commit.updated),
        line,
        *((snapshot.turn, snapshot.data) if snapshot else ("", "")),
        *counted([redis_records.event_key(event_id) for event_id in commit.taken]),
    ]


def amended(old: TaskRun, amendment: Amendment, ttl: int) -> list[Item]:
    new = fields(amendment.run)
    changes = {name: value for name, value in new.items() if value is not getattr(old, name)}
    return [
        str(old.status),
        old.turn,
        0 if old.lease_token is None else 1,
        utf8(old.lease_token or ""),
        old.answers,
        *changed(amendment.run, changes, ttl),
        *redis_records.call_items(amendment.updated),
        *counted(amendment.dropped),
    ]


def tasks(wanted: Sequence[str] | None, unwanted: Collection[str]) -> list[Item]:
    """Names of tasks: whether only some are wanted, those, and those that are not."""
    names = [utf8(name) for name in wanted or ()]
    return [0 if wanted is None else 1, *counted(names), *counted([utf8(n) for n in unwanted])]


def refusal(run_id: str, now: str, answer: Sequence[bytes]) -> SequentialError:
    """Why a run could not be claimed, from what the script says."""
    why, status, task, until = (part.decode(errors="replace") for part in answer)
    if why == "busy":
        return RunBusyError(
            f"run {run_id} is being driven: its worker has it until {until}, and longer if it goes "
            "on; wait for it, or stop that process first"
        )
    if why == "limit":
        return TaskLimitError(
            f"as many runs of {task} are being driven as its concurrency allows: try again later"
        )
    try:
        apply(TaskRun(run_id, task, Status(status), None), Happening(Event.CLAIM), now)
    except SequentialError as error:
        return error
    raise AssertionError(f"the claim of a {status} run was refused")
