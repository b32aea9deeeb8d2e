"""The database of the SQLite store: its tables, its versions, and how a connection is opened."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from sequential.errors import (
    ConfigError,
    DamagedRunError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)

APPLICATION_ID = 0x53455131  # "SEQ1" in the file's header: this database is ours
PATIENCE = 60.0  # seconds to wait for other processes before it counts as trouble
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

# One list of statements for each version; a step is never changed once it has been released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE programs (
            digest TEXT NOT NULL PRIMARY KEY,
            filename TEXT NOT NULL,
            config TEXT NOT NULL,
            code TEXT NOT NULL
        )""",
        """CREATE TABLE task_runs (
            id TEXT NOT NULL PRIMARY KEY,
            task_identifier TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'pending',
            input TEXT,
            result TEXT,
            error TEXT,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            started_at TEXT,
            ended_at TEXT,
            turn INTEGER NOT NULL DEFAULT 0,
            "where" TEXT,
            wake_at TEXT,
            deadline TEXT,
            crashes INTEGER NOT NULL DEFAULT 0,
            lease_token TEXT,
            lease_until TEXT,
            program TEXT NOT NULL REFERENCES programs (digest)
        )""",
        "CREATE INDEX task_runs_task ON task_runs (task_identifier, id)",
        "CREATE INDEX task_runs_status ON task_runs (status, id)",
        "CREATE INDEX task_runs_program ON task_runs (program)",
        # What looks for work finds it at the beginning of these, whatever else there is.
        """CREATE INDEX task_runs_pending ON task_runs (coalesce(wake_at, updated_at))
            WHERE status = 'pending'""",
        "CREATE INDEX task_runs_waking ON task_runs (wake_at) WHERE status = 'suspended'",
        "CREATE INDEX task_runs_leased ON task_runs (lease_until) WHERE status = 'running'",
        """CREATE TABLE stack_runs (
            id TEXT NOT NULL,
            task_run_id TEXT NOT NULL REFERENCES task_runs (id) ON DELETE CASCADE,
            operation TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'pending',
            input TEXT,
            result TEXT,
            error TEXT,
            parent_stack_run_id TEXT,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            sequence INTEGER NOT NULL,
            fingerprint TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            due_at TEXT,
            duration REAL,
            size INTEGER,
            "where" TEXT,
            requested_turn INTEGER NOT NULL DEFAULT 0,
            delivered_turn INTEGER,
            delivered_order INTEGER,
            delivered_at TEXT,
            PRIMARY KEY (task_run_id, sequence)
        )""",
        "CREATE INDEX stack_runs_delivered ON stack_runs (task_run_id, delivered_turn)",
        """CREATE INDEX stack_runs_pending ON stack_runs (created_at, sequence)
            WHERE status = 'pending'""",
        """CREATE TABLE payloads (
            task_run_id TEXT NOT NULL REFERENCES task_runs (id) ON DELETE CASCADE,
            record TEXT NOT NULL,
            field TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (task_run_id, record, field)
        )""",
        """CREATE TABLE snapshots (
            task_run_id TEXT NOT NULL PRIMARY KEY REFERENCES task_runs (id) ON DELETE CASCADE,
            turn INTEGER NOT NULL,
            data BLOB NOT NULL
        )""",
        """CREATE TABLE logs (
            id INTEGER PRIMARY KEY,
            task_run_id TEXT NOT NULL REFERENCES task_runs (id) ON DELETE CASCADE,
            at TEXT NOT NULL,
            text TEXT NOT NULL
        )""",
        "CREATE INDEX logs_run ON logs (task_run_id)",
        """CREATE TABLE task_functions (
            identifier TEXT NOT NULL PRIMARY KEY,
            code TEXT NOT NULL,
            metadata TEXT NOT NULL,
            version INTEGER NOT NULL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            filename TEXT NOT NULL
        )""",
        """CREATE TABLE keystore (
            key TEXT NOT NULL PRIMARY KEY,
            value TEXT NOT NULL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL
        )""",
    ),
    (
        "ALTER TABLE task_runs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE task_runs ADD COLUMN parent_run_id TEXT",
        "ALTER TABLE task_runs ADD COLUMN expires_at TEXT",
        "ALTER TABLE task_runs ADD COLUMN failed_turn INTEGER",
        "ALTER TABLE task_runs ADD COLUMN answers INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE task_runs ADD COLUMN events TEXT",
        """CREATE INDEX task_runs_parent ON task_runs (parent_run_id, id)
            WHERE parent_run_id IS NOT NULL""",
        # What can be driven at once, in the order of driving it; what waits for a time, in the
        # order of the times; what is driven, to be counted for each task.
        """CREATE INDEX task_runs_ready ON task_runs (priority DESC, updated_at, task_identifier)
            WHERE status = 'pending' AND wake_at IS NULL""",
        """CREATE INDEX task_runs_timed ON task_runs (wake_at, task_identifier)
            WHERE status IN ('pending', 'suspended') AND wake_at IS NOT NULL""",
        """CREATE INDEX task_runs_driven ON task_runs (task_identifier, lease_until)
            WHERE status = 'running'""",
        "DROP INDEX task_runs_pending",
        "DROP INDEX task_runs_waking",
    ),
    (
        """CREATE TABLE documents (
            collection TEXT NOT NULL,
            key TEXT NOT NULL,
            value TEXT NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (collection, key)
        )""",
    ),
)


def connect(path: Path, *, for_reading: bool = False) -> sqlite3.Connection:
    """A connection that commits safely; any thread may use it, one at a time."""
    # A reader never makes a file: one that was moved away must not come back empty.
    name = path.as_uri() + "?mode=rw" if for_reading else path
    connection = sqlite3.connect(
        name, isolation_level=None, check_same_thread=False, uri=for_reading
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {round(PATIENCE * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        # A commit counts when it has reached the disk: the next call is performed on its word.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        if for_reading:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def open_database(path: Path, shown: str) -> sqlite3.Connection:
    """A connection for writing, to a database that has the newest tables.

    Any number of processes may do this at once. A file that is damaged, that belongs to another
    program or that a newer version has written is refused, and left as it is.
    """
    _refuse_half(path, shown)
    connection = connect(path)
    try:
        with _at_one_moment(connection):
            _refuse_foreign(connection, shown)
        _use_wal(connection, shown)
        _migrate(connection, shown)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _at_one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Read several things while another process cannot make the tables in between."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _refuse_half(path: Path, shown: str) -> None:
    """SQLite throws away the log of a database that is empty, and with it what was committed."""
    if not path.parent.is_dir():
        above = Path(shown).parent
        raise StorageError(f"{shown} cannot be made: there is no folder {above}, make it first")
    if path.is_dir():
        raise StorageError(f"{shown} is a folder: name a file for the database")
    log = _size(
        path.with_name(path.name + "-wal")
    )  # looked at first: who makes a database fills the file before it
    if log and not _size(path):
        raise DamagedRunError(
            f"{shown} is {'empty' if path.exists() else 'missing'}, but its log {shown}-wal "
            "holds commits; nothing was changed: bring the file back from a backup, or move the "
            "log away to begin anew"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _refuse_foreign(connection: sqlite3.Connection, shown: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema LIMIT 3")]
    if application != APPLICATION_ID and (application or tables):
        listed = f" (it has {', '.join(tables)})" if tables else ""
        raise ConfigError(
            f"{shown} is the database of another program{listed}: name a file of its own in "
            "--storage sqlite:<file>, DATABASE_URL or SQLITE_DB_PATH"
        )


def _use_wal(connection: sqlite3.Connection, shown: str) -> None:
    """Have readers and the writer not wait for each other; it stays on in the file."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:  # SQLite itself does not wait here
            if not is_busy(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StorageError(
            f"{shown} is on a file system without the locks and shared memory that SQLite needs: "
            "put it on a local disk"
        )


def _migrate(connection: sqlite3.Connection, shown: str) -> None:
    """Bring the tables to the newest version, all or nothing; the second of two finds it done."""
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _refuse_foreign(connection, shown)
        version = _version(connection)
        if version > len(MIGRATIONS):
            raise StorageError(
                f"{shown} was written by a newer version of this program (its tables are version "
                f"{version}, this program knows {len(MIGRATIONS)}): update it"
            )
        for step in MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process was in the way."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in BUSY


def explain(error: sqlite3.Error, path: Path, shown: str) -> StorageError:
    """The error to show for one of SQLite's: what is the matter, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return StorageFullError(
            f"{shown}: {error}: make room, then go on with `sequential-ecosystem resume`"
        )
    is_refused = code == sqlite3.SQLITE_CANTOPEN and not _is_writable(path)
    if is_refused or code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StorageReadOnlyError(
            f"{shown}: {error}: give this user permission to write the file and its folder, or "
            "choose another one with --storage"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedRunError(
            f"{shown} is damaged: {error}; nothing was changed: bring it back from a backup, or "
            "save what can be read with `sqlite3 <file> .recover`"
        )
    if is_busy(error):
        return StorageError(
            f"{shown} is locked: another process has been writing for more than {PATIENCE:.0f} "
            "seconds; end it, then try again"
        )
    return StorageError(f"{shown}: {error}")


def _is_full(path: Path) -> bool:
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except (OSError, AttributeError):
        return False


def _is_writable(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))
