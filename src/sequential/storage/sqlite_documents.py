"""The documents of the SQLite store: rows, each changed by the transaction that looked at it."""

import sqlite3

from sequential.storage.documents import Page, Stored, next_version

_PUT = """
    INSERT INTO documents VALUES (?, ?, ?, ?)
        ON CONFLICT (collection, key)
        DO UPDATE SET value = excluded.value, version = excluded.version
"""


def put(
    connection: sqlite3.Connection, collection: str, key: str, text: str, if_version: int | None
) -> int:
    """Write a document if it may be written; returns its version."""
    query = "SELECT version FROM documents WHERE collection = ? AND key = ?"
    row = connection.execute(query, (collection, key)).fetchone()
    version = next_version(collection, key, row[0] if row else 0, if_version)
    connection.execute(_PUT, (collection, key, text, version))
    return version


def get(connection: sqlite3.Connection, collection: str, key: str) -> Stored | None:
    query = "SELECT key, value, version FROM documents WHERE collection = ? AND key = ?"
    row = connection.execute(query, (collection, key)).fetchone()
    return Stored(*row) if row else None


def delete(connection: sqlite3.Connection, collection: str, key: str) -> bool:
    """Remove a document; returns whether there was one."""
    statement = "DELETE FROM documents WHERE collection = ? AND key = ?"
    return connection.execute(statement, (collection, key)).rowcount == 1


def page_of(connection: sqlite3.Connection, collection: str, page: Page) -> list[Stored]:
    query = "SELECT key, value, version FROM documents WHERE collection = ?"
    parameters: list[str | int] = [collection]
    if page.after is not None:
        query += f" AND key {'<' if page.newest else '>'} ?"
        parameters.append(page.after)
    query += f" ORDER BY key {'DESC' if page.newest else 'ASC'}"
    if page.limit is not None:
        query += " LIMIT ?"
        parameters.append(page.limit)
    return [Stored(*row) for row in connection.execute(query, parameters)]


def prune(connection: sqlite3.Connection, collection: str, before: str) -> int:
    """Remove the documents with smaller keys; returns how many there were."""
    statement = "DELETE FROM documents WHERE collection = ? AND key < ?"
    return connection.execute(statement, (collection, before)).rowcount
