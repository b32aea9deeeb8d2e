"""A Supabase project for tests: PostgreSQL with its roles, PostgREST, and the gateway."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sequential.storage.supabase_migration import migration_sql
from support.postgres_server import PostgresServer
from support.postgrest_server import PostgrestServer, postgrest_binary
from support.supabase_gateway import SupabaseGateway, token

__all__ = ["SupabaseProject", "shared_project", "supabase"]

# As in a project of Supabase: the owner is no superuser, and whatever he makes in the schema
# `public` may be executed by everybody.
_ROLES = """
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
alter role authenticator set statement_timeout = '8s';
create role project_owner login createrole bypassrls;
"""
_RIGHTS = """
grant all on schema public to project_owner;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges for role project_owner in schema public
    grant all on functions to anon, authenticated, service_role;
alter default privileges for role project_owner in schema public
    grant all on tables to anon, authenticated, service_role;
"""


class SupabaseProject:
    """`url` and `key` are what a user has; `schema` holds the store, which is empty."""

    def __init__(self, postgres: PostgresServer) -> None:
        binary = postgrest_binary()
        self.postgres = postgres
        self.base = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))  # sockets have short paths
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(_ROLES.encode())
            connection.execute("create database supabase owner project_owner")
        with self.connect("postgres") as connection:
            connection.execute(_RIGHTS.encode())
        self.schema = "sequential"
        self.apply(migration_sql())
        self.api = PostgrestServer(binary, self.database("authenticator"), self.base / "log")
        self.gateway = SupabaseGateway(self.api.port, self.base / "socket")
        self.key = token("service_role")
        self.gateway.keys |= {self.key, token("anon"), token("authenticated")}

    @property
    def url(self) -> str:
        return self.gateway.url

    def database(self, user: str) -> str:
        return self.postgres.url.replace("postgres@/postgres", f"{user}@/supabase")

    def connect(self, user: str = "project_owner") -> "psycopg.Connection[Any]":
        return psycopg.connect(self.database(user), autocommit=True)

    def apply(self, script: str) -> None:
        """As in the SQL editor."""
        with self.connect() as connection:
            connection.execute(script.encode())

    def empty(self) -> None:
        tables = ("task_runs", "programs", "task_functions", "keystore", "documents", "requests")
        self.apply(";".join(f"delete from sequential.{table}" for table in tables))

    def limit_role(self, limit: str) -> None:
        """How long a statement may take that nobody has set another limit for."""
        with self.connect("postgres") as connection:
            connection.execute(
                f"alter role authenticator set statement_timeout = '{limit}'".encode()
            )
        self._restart_api()

    def limit_function(self, limit: str) -> None:
        """How long a request may take."""
        function = "public.sequential_call(text, jsonb)"
        self.apply(f"alter function {function} set statement_timeout = '{limit}'")
        self._restart_api()

    def _restart_api(self) -> None:
        self.api.kill()
        self.api.start()

    def remove(self) -> None:
        self.api.stop()
        shutil.rmtree(self.base, ignore_errors=True)


@contextlib.contextmanager
def _running(postgres: PostgresServer) -> Iterator[SupabaseProject]:
    project = SupabaseProject(postgres)
    try:
        project.api.start()
        with project.gateway:
            yield project
    finally:
        project.remove()


@pytest.fixture(scope="session")
def shared_project(postgres: PostgresServer) -> Iterator[SupabaseProject]:
    try:
        with _running(postgres) as project:
            yield project
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def supabase(shared_project: SupabaseProject) -> SupabaseProject:
    """A project whose store is empty."""
    shared_project.empty()
    shared_project.gateway.refusals, shared_project.gateway.losses = [], []
    return shared_project
