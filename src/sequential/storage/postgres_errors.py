"""What goes wrong with a PostgreSQL server, in one line that says what to do.

No message holds a password: neither the address nor what the server says is shown with one.
"""

import psycopg

from sequential.errors import (
    ConfigError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from sequential.storage.sql_refusals import Refused

# The server goes away, comes up, or has no room for a connection: worth trying again.
_PASSING = (
    "57P01",
    "57P02",
    "57P03",
    "57P05",
    "08000",
    "08003",
    "08006",
    "53300",
    "40001",
    "40P01",
)

# What the server says to a connection it refuses (libpq gives no code): it is of no use to repeat.
_REFUSALS = {
    "password authentication failed": "correct the user or the password in the database URL",
    "no password supplied": "the server wants a password: put it into the database URL",
    "pg_hba.conf": "the server does not let this user in from here: change its pg_hba.conf",
    "does not exist": "correct the name in the database URL, or create what is missing",
    "permission denied": "ask the owner of the database to grant the right to connect",
    "certificate": "correct sslmode or sslrootcert in the database URL",
    "does not support SSL": "the server has no SSL: leave out sslmode, or turn SSL on there",
}
_ABSENCES = {
    "could not translate host name": "correct the host in the database URL",
    "failed to resolve host": "correct the host in the database URL",
    "Connection refused": "start the server, or correct host and port in the database URL",
    "No such file or directory": "start the server, or correct the host in the database URL",
    "timeout": "check host, port and firewall",
    "starting up": "it is starting: try again in a moment",
    "shutting down": "it is being stopped: try again when it is back",
    "too many clients": "raise its max_connections, lower `pool`, or put a pooler in front of it",
    "too many connections": "raise the limit, lower `pool`, or put a pooler in front of it",
    "connection slots": "raise its max_connections, lower `pool`, or put a pooler in front of it",
}


def of_connecting(error: psycopg.Error, shown: str) -> StorageError:
    """The error for a connection that could not be made."""
    text = _line(error)
    for sign, remedy in _REFUSALS.items():
        if sign in text and "failed to resolve" not in text:
            return StorageError(f"cannot connect to {shown}: {text}: {remedy}")
    for sign, remedy in _ABSENCES.items():
        if sign in text:
            return StorageUnreachableError(f"cannot connect to {shown}: {text}: {remedy}")
    return StorageUnreachableError(f"cannot connect to {shown}: {text}")


def of_calling(error: psycopg.Error, shown: str, *, is_lost: bool) -> StorageError | Refused:
    """The error for a call that failed; `is_lost`: the connection is gone with it."""
    state = error.sqlstate or ""
    text = _line(error)
    if state.startswith("PT"):
        return Refused(error.diag.message_primary or "", error.diag.message_detail or "")
    if is_lost or state in _PASSING:
        return StorageUnreachableError(f"the connection to {shown} was lost: {text}")
    if state == "53100":
        return StorageFullError(
            f"{shown}: {text}: make room on the server, then go on with "
            "`sequential-ecosystem resume`"
        )
    if state == "25006":
        return StorageReadOnlyError(
            f"{shown} is read-only: {text}: connect to the primary server, or turn "
            "default_transaction_read_only off"
        )
    if state in ("42501", "42883", "3F000"):
        return StorageError(
            f"{shown}: {text}: grant this user USAGE on the schema and EXECUTE on its functions, "
            "see docs/postgres.md"
        )
    if state == "57014":
        return StorageError(
            f"{shown}: {text}: raise statement_timeout for this user, or find out what the server "
            "is waiting for"
        )
    if state == "22003":
        return StorageError(f"a number does not fit into a column: {text}")
    if state == "54000":
        return StorageError(f"a value is too large for the database: {text}")
    return StorageError(f"{shown}: {text}")


def of_silence(shown: str, seconds: float) -> StorageError:
    """The error for a server that does not answer; whether it did its work is unknown."""
    return StorageError(
        f"{shown} did not answer within {seconds:g} seconds: see what it is doing, or raise "
        "`timeout` in the database URL"
    )


def of_address() -> ConfigError:
    """The error for a location that cannot be read; it is not shown, for it holds a password."""
    return ConfigError(
        "the database URL cannot be read: write postgresql://user:password@host:5432/database, "
        "with special characters of the password as %XX"
    )


def _line(error: psycopg.Error) -> str:
    """The first line of what was said, without the address in front of it."""
    text = error.diag.message_primary or str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    return first.rpartition("FATAL:")[2].strip() or first
