"""The servers that storages of flows need, and a new place on them for each test."""

import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.firestore_server import FirestoreServer
from support.postgres_server import PostgresServer, postgres_server
from support.valkey_server import ValkeyServer

_numbers = itertools.count()


@pytest.fixture(scope="session")
def flow_postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def flow_firestore() -> Iterator[FirestoreServer]:
    server = FirestoreServer()
    yield server
    server.close()


@pytest.fixture
def place_of(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Makes the place of a new storage of a kind, on the server that it needs."""

    def place(kind: str) -> str:
        number = next(_numbers)
        if kind in ("redis", "redis-client"):
            valkey: ValkeyServer = request.getfixturevalue("shared_valkey")
            return f"{kind} unix://{valkey.socket} {number}:"
        if kind in ("postgres", "query"):
            server: PostgresServer = request.getfixturevalue("flow_postgres")
            name = f"flow{secrets.token_hex(6)}"
            create_schema(server.url, name)
            return f"{kind} {server.url}&options=-csearch_path%3D{name}"
        if kind == "firestore":
            firestore: FirestoreServer = request.getfixturevalue("flow_firestore")
            return f"firestore flows{secrets.token_hex(6)} {firestore.address}"
        if kind == "adapter postgres":
            server = request.getfixturevalue("flow_postgres")
            return f"adapter {server.url}&schema=flow{secrets.token_hex(6)}"
        if kind == "adapter redis":
            valkey = request.getfixturevalue("shared_valkey")
            return f"adapter redis:unix://{valkey.socket}?prefix=flow{number}"
        if kind == "adapter firestore":
            firestore = request.getfixturevalue("flow_firestore")
            return f"adapter firestore://demo/flow{number} {firestore.address}"
        if kind == "adapter memory":
            return "adapter memory:"
        if kind == "adapter folder":
            return f"adapter folder:{tmp_path / f'tasks{number}'}"
        if kind == "adapter sqlite":
            return f"adapter sqlite:{tmp_path / f'{number}.db'}"
        return f"{kind} {tmp_path / f'{number}.db'}"

    return place


def create_schema(url: str, name: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
