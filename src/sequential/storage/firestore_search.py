"""What runs are found by, and which queries find them.

Documents have the run's id turned round (`turned`), so that the natural order is newest first. A
query of equalities comes in that order without an index of its own; those for runs that are due
have one field, `due`, which the automatic index of each field serves. Only workers that take care
of some tasks need indexes that must be declared: docs/firestore.indexes.json.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from sequential.core.model import CallStatus, Status, TaskRun
from sequential.storage import firestore_values
from sequential.storage.base import CLAIMABLE
from sequential.storage.firestore_connection import Connection
from sequential.storage.firestore_values import Condition, Found, Value

RUNS = "runs"
_MANY = 30  # alternatives that a query may have
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_PREFIX = re.compile(r"[0-9a-f-]{0,36}\Z")
_TURN = str.maketrans("0123456789abcdef", "fedcba9876543210")
_AT_ONCE, _TIMED = "0", "1"  # what `due` begins with; a time begins with 1 or 2
_MOST_PRIORITY = 10**15
_RANKED = ("record", "program")  # what a run's place among others depends on
_FIELDS = {"status": "status", "task_identifier": "task", "parent_run_id": "parent"}


def turned(run_id: str) -> str:
    """The name of a run's document, or the id of a document's run."""
    return run_id.translate(_TURN)


def is_run_id(text: str) -> bool:
    return _ID.match(text) is not None


def searched(run: TaskRun) -> dict[str, Value]:
    """The fields of its document that a run is found by."""
    return {
        "status": str(run.status),
        "task": run.task_identifier,
        "parent": run.parent_run_id,
        "lease_until": run.lease_until,
        "due": _due(run) if run.config.concurrency is None else None,
        "wake": run.wake_at if run.status in CLAIMABLE else None,
    }


def queued(run: TaskRun) -> dict[str, Value]:
    """The field that a run of a task with a limit is found by when it is due, instead of `due`.

    It is one of the task's own, so that what waits for room stands in nobody's way.
    """
    return {} if run.config.concurrency is None else {_queue(run.task_identifier): _due(run)}


def _queue(task: str) -> str:
    return f"due_{task}"


def marker(connection: Connection, run: TaskRun) -> Any:
    """The write of a document that is always due: it says that this task has runs of its own."""
    fields: dict[str, Value] = {
        "due": _AT_ONCE,
        "task": run.task_identifier,
        "most": str(run.config.concurrency),
    }
    return firestore_values.put(connection.place.name(RUNS, f"task-{run.task_identifier}"), fields)


def is_run(found: Found) -> bool:
    """Whether a document is one of a run: some say other things."""
    return is_run_id(turned(found.id))


def _due(run: TaskRun) -> str | None:
    """When the run is to be claimed: a time, or for what need not wait, its rank; None: never."""
    match run.status:
        case Status.RUNNING:
            at = run.lease_until or ""
        case Status.PENDING:
            at = run.wake_at or ""
        case Status.SUSPENDED if run.wake_at is not None:
            at = run.wake_at
        case _:
            return None
    if at > run.updated_at:
        return at
    rank = _MOST_PRIORITY - max(-_MOST_PRIORITY, min(_MOST_PRIORITY, run.priority))
    return f"{_AT_ONCE}{rank:016d} {run.wake_at or run.updated_at}"


# --- lists ---------------------------------------------------------------------------------------


def conditions(filters: Mapping[str, Any]) -> list[Condition]:
    """What of these filters the service can answer; the rest is for the caller to look at."""
    found: list[Condition] = []
    room = _MANY
    for name, field in _FIELDS.items():
        if name not in filters:
            continue
        wanted = filters[name]
        items = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
            continue
        items = list(dict.fromkeys(str(item) for item in items))
        if len(items) == 1:
            found.append(Condition(field, "==", items[0]))
        elif 1 < len(items) <= room:
            room //= len(items)
            found.append(Condition(field, "in", items))
    return found


def prefix_conditions(connection: Connection, prefix: str) -> list[Condition] | None:
    """Documents of runs whose ids begin like this; None when no id can."""
    if not _PREFIX.match(prefix):
        return None
    if not prefix:
        return []
    first, last = turned(prefix), turned(prefix) + "g"  # g is behind all digits
    name = connection.place.name
    return [
        Condition("__name__", ">=", name(RUNS, first)),
        Condition("__name__", "<", name(RUNS, last)),
    ]


def waiting_conditions(status: Any) -> list[list[Condition]]:
    """Queries for the runs that have calls of such a status; for settled ones that is any run."""
    items = [status] if isinstance(status, str) else status
    if not isinstance(items, Sequence):
        return [[]]
    if not all(item in (CallStatus.PENDING, CallStatus.IN_PROGRESS) for item in items):
        return [[]]
    return [[Condition("calls", "contains", str(item))] for item in items]


# --- what is due ---------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """Which runs a worker takes care of; `seen` are documents that it need not be shown again."""

    tasks: Sequence[str] | None
    without: Collection[str]
    seen: Collection[str] = ()

    def conditions(self) -> list[Condition]:
        if self.tasks is None or len(self.tasks) > _MANY:
            return []
        if len(self.tasks) == 1:
            return [Condition("task", "==", self.tasks[0])]
        return [Condition("task", "in", list(self.tasks))]

    def fits(self, found: Found) -> bool:
        task = found.fields["task"]
        is_ours = task not in self.without and (self.tasks is None or task in self.tasks)
        return is_ours and found.id not in self.seen


class Due:
    """Documents of runs that are due, and the limits of tasks that have runs of their own."""

    def __init__(self) -> None:
        self.rows: list[Found] = []
        self.limited: dict[str, int] = {}

    def __iadd__(self, rows: Iterable[Found]) -> Self:
        known = {row.name for row in self.rows}
        self.rows += [row for row in rows if row.name not in known]
        return self


async def due(
    connection: Connection, now: str, limit: int, wanted: Wanted, fields: Sequence[str]
) -> Due:
    """Documents of runs that are due, but for tasks with a limit: at least the `limit` best."""
    found = Due()
    if limit <= 0 or wanted.tasks == []:
        return found
    where = wanted.conditions()
    found += await _best(connection, "due", where, now, limit, wanted, fields, found.limited)
    return found


async def due_of(
    connection: Connection,
    task: str,
    now: str,
    limit: int,
    wanted: Wanted,
    fields: Sequence[str],
) -> list[Found]:
    """Documents of runs of a task with a limit that are due: at least the `limit` best."""
    if limit <= 0:
        return []
    return await _best(connection, _queue(task), [], now, limit, wanted, fields, {})


async def _best(
    connection: Connection,
    field: str,
    where: list[Condition],
    now: str,
    limit: int,
    wanted: Wanted,
    fields: Sequence[str],
    limited: dict[str, int],
) -> list[Found]:
    """The best that are due, and others among which better ones may be.

    Those that need not wait come best first, so `limit` of them are enough. Those whose time has
    come are ordered by that time; if there is no room for all, more are looked at, without
    `fields` but for the record.
    """
    due_by_now = [*where, Condition(field, "<=", now)]
    found = await _search(connection, field, due_by_now, limit, wanted, fields, limited)
    if len(found) < limit:
        return found
    timed = [Condition(field, ">=", _TIMED), *due_by_now]
    late = await _search(connection, field, timed, max(50, 2 * limit), wanted, _RANKED, limited)
    names = {one.name for one in found}
    return [*found, *(one for one in late if one.name not in names)]


async def _search(
    connection: Connection,
    field: str,
    where: list[Condition],
    limit: int,
    wanted: Wanted,
    fields: Sequence[str],
    limited: dict[str, int],
) -> list[Found]:
    found: list[Found] = []
    last: Found | None = None
    page = limit
    shown = (field, "task", "most", *fields)
    while True:
        rows = await connection.find(
            RUNS, where, order=field, limit=page, fields=shown, behind=last
        )
        for row in rows:
            if not wanted.fits(row):
                continue
            if is_run(row):
                found.append(row)
            else:
                limited[str(row.fields["task"])] = int(str(row.fields["most"]))
        if len(rows) < page or len(found) >= limit:
            return found[:limit]
        last, page = rows[-1], min(2 * page, 200)


async def next_wake(connection: Connection, now: str, wanted: Wanted) -> str | None:
    """The smallest time after now that a claimable run waits for."""
    where = [*wanted.conditions(), Condition("wake", ">", now)]
    if wanted.tasks == []:
        return None
    last: Found | None = None
    limit = 1
    while True:
        rows = await connection.find(
            RUNS, where, order="wake", limit=limit, fields=("wake", "task"), behind=last
        )
        for row in rows:
            if wanted.fits(row):
                return str(row.fields["wake"])
        if len(rows) < limit:
            return None
        last, limit = rows[-1], 100
