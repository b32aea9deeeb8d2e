"""The SQL of the SQLite store: records from rows, and the statements that write them.

Statements are made from records before the transaction begins, so that it is short. Names of
columns come from the records' definitions, never from outside; values are always parameters.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sequential.core.model import StackRun, TaskRun
from sequential.errors import DamagedRunError, RunNotFoundError, StorageError
from sequential.storage import sql_records
from sequential.storage.sql_records import CALL_COLUMNS, JSON, PROGRAM, RUN_COLUMNS, TREES

_MANY = 1000  # values that a list in a statement may have; longer lists are matched here
_REMEMBERED = 1000  # programs, most of which many runs share


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


_RUN = f"SELECT {_names(RUN_COLUMNS)}, program FROM task_runs"  # noqa: S608
_CALL = f"SELECT {_names(CALL_COLUMNS)} FROM stack_runs"  # noqa: S608
_INSERT_PROGRAM = "INSERT INTO programs VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_OVERWRITE = ", ".join(f'"{name}" = excluded."{name}"' for name in CALL_COLUMNS)
_PUT_CALL = (
    f"INSERT INTO stack_runs ({_names(CALL_COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join('?' * len(CALL_COLUMNS))}) "
    f"ON CONFLICT (task_run_id, sequence) DO UPDATE SET {_OVERWRITE}"
)
_PUT_PAYLOAD = "INSERT OR REPLACE INTO payloads VALUES (?, ?, ?, ?)"
_DROP_PAYLOAD = "DELETE FROM payloads WHERE task_run_id = ? AND record = ? AND field = ?"

# The indexes are named, because without statistics SQLite takes others, whose cost grows.
LOAD_CALLS = f"""
    {_CALL} INDEXED BY stack_runs_delivered
        WHERE task_run_id = :run AND delivered_turn IS NULL
    UNION ALL
    {_CALL} INDEXED BY stack_runs_delivered
        WHERE task_run_id = :run AND delivered_turn > :after
    ORDER BY sequence
"""
_DUE = """
    SELECT * FROM (SELECT id, priority, updated_at AS since
        FROM task_runs INDEXED BY task_runs_ready
        WHERE status = 'pending' AND wake_at IS NULL {tasks}
        ORDER BY priority DESC, updated_at LIMIT :limit)
    UNION ALL
    SELECT id, priority, wake_at AS since FROM task_runs INDEXED BY task_runs_timed
        WHERE status IN ('pending', 'suspended') AND wake_at <= :now {tasks}
    UNION ALL
    SELECT id, priority, coalesce(wake_at, updated_at) AS since
        FROM task_runs INDEXED BY task_runs_leased
        WHERE status = 'running' AND lease_until <= :now {tasks}
    UNION ALL
    SELECT id, priority, coalesce(wake_at, updated_at) AS since
        FROM task_runs INDEXED BY task_runs_leased
        WHERE status = 'running' AND lease_until IS NULL {tasks}
    ORDER BY priority DESC, since LIMIT :limit
"""
_NEXT = """
    SELECT wake_at FROM task_runs INDEXED BY task_runs_timed
        WHERE status IN ('pending', 'suspended') AND wake_at > :now {tasks}
        ORDER BY wake_at LIMIT 1
"""
DRIVEN = """
    SELECT count(*) FROM task_runs INDEXED BY task_runs_driven
        WHERE status = 'running' AND task_identifier = ? AND lease_until > ? AND id != ?
"""

Query = tuple[str, dict[str, str | int]]


def wakeups_query(
    now: str, limit: int, tasks: Sequence[str] | None = None, without: Collection[str] = ()
) -> Query:
    """The ids of runs that are due: the highest priority first, then the longest waiting."""
    condition, parameters = _of_tasks(tasks, without)
    return _DUE.format(tasks=condition), {"now": now, "limit": limit, **parameters}


def next_wakeup_query(now: str, tasks: Sequence[str] | None = None) -> Query:
    """The time at which the next run that waits for one is due."""
    condition, parameters = _of_tasks(tasks, ())
    return _NEXT.format(tasks=condition), {"now": now, **parameters}


def _of_tasks(tasks: Sequence[str] | None, without: Collection[str]) -> Query:
    condition = ""
    parameters: dict[str, str | int] = {}
    if tasks is not None:
        wanted = list(tasks) or [""]  # no task; an empty list does not go with the named indexes
        parameters |= {f"task{number}": name for number, name in enumerate(wanted)}
        condition += f" AND task_identifier IN ({_parameters('task', len(wanted))})"
    if without:
        parameters |= {f"other{number}": name for number, name in enumerate(without)}
        condition += f" AND task_identifier NOT IN ({_parameters('other', len(without))})"
    return condition, parameters


def _parameters(name: str, count: int) -> str:
    return ", ".join(f":{name}{number}" for number in range(count))


class Statement(NamedTuple):
    """SQL with its parameters; `missing` is the complaint if it changes no row, where one must."""

    sql: str
    parameters: Sequence[Any]
    missing: str = ""


def perform(connection: sqlite3.Connection, statements: Iterable[Statement]) -> None:
    for sql, parameters, missing in statements:
        if connection.execute(sql, parameters).rowcount != 1 and missing:
            raise StorageError(missing)


# --- writing -------------------------------------------------------------------------------------


def insert_run(run: TaskRun) -> list[Statement]:
    program = sql_records.program(run)
    cells, payloads = sql_records.columns(
        {name: getattr(run, name) for name in RUN_COLUMNS} | {"program": program.digest}
    )
    marks = ", ".join("?" * len(cells))
    return [
        Statement(_INSERT_PROGRAM, program),
        Statement(
            f"INSERT INTO task_runs ({_names(cells)}) VALUES ({marks})",  # noqa: S608
            tuple(cells.values()),
        ),
        *_put_payloads(run.id, run.id, payloads),
    ]


def update_run(run: TaskRun, changed: Mapping[str, Any], token: str | None) -> list[Statement]:
    """Write these fields of a run; with a token, only while it holds the lease.

    The statement that tells whether there was such a run is the last one but for the payloads.
    """
    before: list[Statement] = []
    cells, payloads = sql_records.columns(changed)
    if not changed.keys().isdisjoint(PROGRAM):
        program = sql_records.program(run)
        before = [Statement(_INSERT_PROGRAM, program)]
        cells["program"] = program.digest
    sets = ", ".join(f'"{name}" = ?' for name in cells) or "turn = turn"
    fence, fenced = (" AND lease_token = ?", (token,)) if token is not None else ("", ())
    update = Statement(
        f"UPDATE task_runs SET {sets} WHERE id = ?{fence}",  # noqa: S608
        (*cells.values(), run.id, *fenced),
        "the lease is lost",
    )
    return [*before, update, *_put_payloads(run.id, run.id, payloads)]


def put_call(call: StackRun) -> list[Statement]:
    """Write a whole call, new or not."""
    cells, payloads = sql_records.columns({name: getattr(call, name) for name in CALL_COLUMNS})
    return [
        Statement(_PUT_CALL, tuple(cells.values())),
        *_put_payloads(call.task_run_id, call.id, payloads),
    ]


def update_call(call: StackRun, changed: Mapping[str, Any]) -> list[Statement]:
    """Write these fields of a call that is there."""
    cells, payloads = sql_records.columns(changed)
    sets = ", ".join(f'"{name}" = ?' for name in cells) or "sequence = sequence"
    return [
        Statement(
            f"UPDATE stack_runs SET {sets} WHERE task_run_id = ? AND sequence = ?",  # noqa: S608
            (*cells.values(), call.task_run_id, call.sequence),
            f"there is no call {call.id}",
        ),
        *_put_payloads(call.task_run_id, call.id, payloads),
    ]


def drop_call(run_id: str, number: int) -> list[Statement]:
    """Remove a call that may be there."""
    return [
        Statement(
            "DELETE FROM stack_runs WHERE task_run_id = ? AND sequence = ?", (run_id, number)
        ),
        *drop_payloads(run_id, f"{run_id}:{number}", TREES),
    ]


def drop_payloads(run_id: str, record: str, changed: Iterable[str]) -> list[Statement]:
    """Remove what was kept apart for these fields, before they get other values."""
    return [
        Statement(_DROP_PAYLOAD, (run_id, record, name)) for name in TREES if name in set(changed)
    ]


def _put_payloads(run_id: str, record: str, payloads: Mapping[str, str]) -> list[Statement]:
    return [
        Statement(_PUT_PAYLOAD, (run_id, record, field, text)) for field, text in payloads.items()
    ]


# --- reading -------------------------------------------------------------------------------------


class Rows:
    """Makes records from rows, remembering the programs, which never change."""

    def __init__(self) -> None:
        self._programs: dict[str, dict[str, Any]] = {}

    def run(self, connection: sqlite3.Connection, run_id: str) -> TaskRun | None:
        """A run with all of its values."""
        row = connection.execute(f"{_RUN} WHERE id = ?", (run_id,)).fetchone()
        return self._run(connection, row, whole=True) if row else None

    def existing_run(self, connection: sqlite3.Connection, run_id: str) -> TaskRun:
        run = self.run(connection, run_id)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id[:80]}")
        return run

    def runs(
        self,
        connection: sqlite3.Connection,
        filters: Mapping[str, Any],
        before: str | None = None,
    ) -> Iterator[TaskRun | DamagedRunError]:
        """Runs, newest first, with notes for their large values."""
        for row in connection.execute(*runs_query(filters, before)):
            try:
                yield self._run(connection, row, whole=False)
            except DamagedRunError as error:
                yield error

    def call(self, connection: sqlite3.Connection, run_id: str, number: int) -> StackRun | None:
        query = f"{_CALL} WHERE task_run_id = ? AND sequence = ?"
        row = connection.execute(query, (run_id, number)).fetchone()
        return self._call(connection, row) if row else None

    def calls(
        self, connection: sqlite3.Connection, filters: Mapping[str, Any]
    ) -> Iterator[StackRun]:
        """Calls in order, with all of their values."""
        where, parameters = _where(filters, CALL_COLUMNS)
        query = f"{_CALL} {where} ORDER BY task_run_id, sequence"
        for row in connection.execute(query, parameters):
            yield self._call(connection, row)

    def undelivered(
        self, connection: sqlite3.Connection, run_id: str, after: int
    ) -> list[StackRun]:
        parameters = {"run": run_id, "after": after}
        return [self._call(connection, row) for row in connection.execute(LOAD_CALLS, parameters)]

    def _run(self, connection: sqlite3.Connection, row: Sequence[Any], *, whole: bool) -> TaskRun:
        run_id, program = row[0], row[-1]
        fields = self._programs.get(program)
        if fields is None:
            query = "SELECT digest, filename, config, code FROM programs WHERE digest = ?"
            found = connection.execute(query, (program,)).fetchone()
            if found is None:
                raise _missing(run_id, "program")
            fields = sql_records.program_fields(found)
            if len(self._programs) >= _REMEMBERED:
                self._programs.clear()
            self._programs[program] = fields
        payloads = _payloads(connection, RUN_COLUMNS, row, run_id) if whole else {}
        return sql_records.run_of(row, payloads, fields)

    def _call(self, connection: sqlite3.Connection, row: Sequence[Any]) -> StackRun:
        return sql_records.call_of(row, _payloads(connection, CALL_COLUMNS, row, row[1]))


def _payloads(
    connection: sqlite3.Connection, columns: Sequence[str], row: Sequence[Any], run_id: str
) -> dict[str, str]:
    """The values that a row only has notes of."""
    wanted = [name for name in TREES if sql_records.is_apart(row[columns.index(name)])]
    if not wanted:
        return {}
    query = "SELECT field, value FROM payloads WHERE task_run_id = ? AND record = ?"
    found = dict(connection.execute(query, (run_id, row[0])).fetchall())
    for name in wanted:
        if name not in found:
            raise _missing(row[0], name)
    return {name: found[name] for name in wanted}  # others may be left of what was there before


def _missing(record: str, what: str) -> DamagedRunError:
    return DamagedRunError(
        f"run {record} is damaged: its {what} is missing; nothing was changed: bring the database "
        "back from a backup"
    )


def runs_query(filters: Mapping[str, Any], before: str | None) -> tuple[str, list[Any]]:
    """The rows of runs that SQL can find, newest first, from behind an id on."""
    where, parameters = _where(filters, RUN_COLUMNS)
    if before is not None:
        where += " AND id < ?" if where else "WHERE id < ?"
        parameters.append(before)
    return f"{_RUN} {where} ORDER BY id DESC", parameters


# --- filters -------------------------------------------------------------------------------------


def split_filters(
    kind: type[TaskRun] | type[StackRun], filters: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The filters that SQL can answer, and those to be matched against the records."""
    sql_records.known(kind, filters)
    columns: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, wanted in filters.items():
        items = _items(wanted)
        is_plain = all(item is None or isinstance(item, str | int | float) for item in items)
        is_column = name not in (*PROGRAM, *JSON)
        fits = is_plain and is_column and len(items) <= _MANY
        (columns if fits else others)[name] = wanted
    return columns, others


def _items(wanted: Any) -> Sequence[Any]:
    is_list = isinstance(wanted, Sequence) and not isinstance(wanted, str)
    return wanted if is_list else [wanted]


def _where(filters: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    parameters: list[Any] = []
    for name in columns:
        if name not in filters:
            continue
        items = [str(i) if isinstance(i, str) else i for i in _items(filters[name])]
        given = [item for item in items if item is not None]
        condition = f'"{name}" = ?' if len(given) == 1 else f'"{name}" IN ({_marks(given)})'
        if len(given) < len(items):
            condition = f'({condition} OR "{name}" IS NULL)' if given else f'"{name}" IS NULL'
        conditions.append(condition)
        parameters += given
    return f"WHERE {' AND '.join(conditions)}" if conditions else "", parameters


def _marks(items: Sequence[Any]) -> str:
    return ", ".join("?" * len(items))
