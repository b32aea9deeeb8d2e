"""Servers that tests of storage share. Each is started when the first test needs it."""

import secrets
from collections.abc import Iterator

import pytest

from support.postgres_server import PostgresServer, postgres_server
from support.supabase_project import shared_project, supabase

__all__ = ["shared_project", "supabase"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    try:
        with postgres_server() as server:
            yield server
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """A store of its own: a schema that does not exist yet."""
    return f"{postgres.url}&schema=t{secrets.token_hex(6)}"
