"""The schema of the PostgreSQL store: its tables and functions, their versions, installing them.

The SQL is in files: `sql/postgres/<number>_<what>.sql` are the steps from version to version, and
`sql/postgres/functions/` holds the functions, which are replaced whenever they have changed.
"""

import hashlib
import sys
from importlib.resources import files
from typing import NamedTuple

import msgspec
import psycopg
from psycopg import sql

from sequential.errors import ConfigError, StorageError
from sequential.storage import postgres_errors
from sequential.storage.postgres_line import Line
from sequential.storage.sql_refusals import Refused

_DIRECTORY = files("sequential.storage") / "sql" / "postgres"
_LOCK = "select pg_advisory_xact_lock(hashtextextended('sequential.' || %s, 0))"
_RECORD = (
    "insert into installation (version, functions) values (%s, %s) on conflict (single) "
    "do update set version = excluded.version, functions = excluded.functions"
)


class Installed(msgspec.Struct):
    """What a database says about itself."""

    version: int
    functions: str
    isolation: str


class Step(NamedTuple):
    """The SQL that leads to a version."""

    version: int
    text: str


def steps() -> list[Step]:
    """The steps from nothing to the newest tables."""
    names = sorted(item.name for item in _DIRECTORY.iterdir() if item.name.endswith(".sql"))
    return [Step(int(name[:4]), (_DIRECTORY / name).read_text("utf-8")) for name in names]


def functions() -> str:
    """The functions, all of them."""
    directory = _DIRECTORY / "functions"
    names = sorted(item.name for item in directory.iterdir() if item.name.endswith(".sql"))
    return "\n".join((directory / name).read_text("utf-8") for name in names)


def script(schema: str, since: int = 0) -> str:
    """SQL that brings a schema of version `since` to the newest; 0 is a new one.

    It is one transaction, and the same as `install` does: for those who let nobody but themselves
    change a database, and for services that take SQL only.
    """
    known = steps()
    parts = [step.text for step in known if step.version > since]
    values = f"{known[-1].version}, '{_digest(functions())}'"
    record = f"{_RECORD.replace('%s, %s', values)};"
    begin = f"create schema if not exists {schema};\nset local search_path = {schema}, pg_temp;"
    return "\n".join(["begin;", begin, *parts, functions(), record, "commit;\n"])


async def install(connection: Line, schema: str, shown: str) -> None:
    """Bring the schema to the newest version, unless it has it; any number may do so at once.

    Raises `StorageError` when the database is newer, or when this user may not change it.
    """
    if _is_current(await _installed(connection, schema, shown), shown):
        return
    try:
        async with connection.transaction():
            await connection.execute(_LOCK, [schema])
            await _bring(connection, schema, shown)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StorageError(
            f"{shown}: the schema {schema} has to be installed or updated, which this user may not "
            f"do ({error.diag.message_primary}): connect once as its owner, see docs/postgres.md"
        ) from None
    except psycopg.errors.DuplicateTable as error:
        raise ConfigError(
            f"{shown}: the schema {schema} holds something else ({error.diag.message_primary}): "
            "choose another name with ?schema="
        ) from None


async def _bring(connection: Line, schema: str, shown: str) -> None:
    name = sql.Identifier(schema)
    found = await connection.execute("select to_regnamespace(%s) is not null", [schema])
    if (await found.fetchone()) != (True,):
        await connection.execute(sql.SQL("create schema {}").format(name))
    await connection.execute(sql.SQL("set local search_path = {}, pg_temp").format(name))
    version, digest = 0, ""
    found = await connection.execute("select to_regclass('installation') is not null")
    if (await found.fetchone()) == (True,):
        row = await (
            await connection.execute("select version, functions from installation")
        ).fetchone()
        version, digest = row or (0, "")
    newest = steps()
    _refuse_newer(version, shown)
    for step in newest:
        if step.version > version:
            await connection.execute(step.text.encode())
    text = functions()
    if digest != _digest(text):
        await connection.execute(text.encode())
    await connection.execute(_RECORD, [newest[-1].version, _digest(text)])
    # A PostgREST in front of this database learns of the functions.
    await connection.execute("notify pgrst, 'reload schema'")


async def _installed(connection: Line, schema: str, shown: str) -> Installed | None:
    """What is there; None if there is nothing."""
    call = sql.SQL("select {}.about('{{}}')::text").format(sql.Identifier(schema))
    try:
        row = await (await connection.execute(call)).fetchone()
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
        return None
    except psycopg.Error as error:
        explained = postgres_errors.of_calling(error, shown, is_lost=connection.closed)
        raise (
            StorageError(str(explained)) if isinstance(explained, Refused) else explained
        ) from None
    return msgspec.json.decode(row[0], type=Installed) if row and row[0] else None


def _is_current(installed: Installed | None, shown: str) -> bool:
    if installed is None:
        return False
    _refuse_newer(installed.version, shown)
    if installed.isolation != "read committed":
        raise ConfigError(
            f"{shown}: transactions are {installed.isolation!r} here, but limits of tasks need "
            "'read committed': set default_transaction_isolation for this user"
        )
    is_newest = installed.version == steps()[-1].version
    return is_newest and installed.functions == _digest(functions())


def _refuse_newer(version: int, shown: str) -> None:
    newest = steps()[-1].version
    if version > newest:
        raise StorageError(
            f"{shown} was written by a newer version of this program (its tables are version "
            f"{version}, this program knows {newest}): update it"
        )


def main(arguments: list[str]) -> None:
    """Print the script: `python -m sequential.storage.postgres_schema [schema] [since]`."""
    schema, since, *_ = [*arguments, *("sequential", "0")[len(arguments) :]]
    sys.stdout.write(script(schema, int(since)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main(sys.argv[1:])
