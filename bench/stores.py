"""The stores that are measured, each on a server of its own, with the least its means can cost.

A floor writes as many bytes as the commit of a step, durably, one at a time, with nothing around
it: an append and a sync, a transaction of two statements on one connection, one command.
"""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg

from support.postgres_server import postgres_server
from support.valkey_server import valkey

COMMITS = 400
STATE, RESULT = "x" * 500, "x" * 3500


class Store(NamedTuple):
    """A store that was started: how to open it, and how to measure its floor (seconds)."""

    url: str
    floor: Callable[[], float]


def append_and_sync(folder: Path) -> float:
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    begun = time.perf_counter()
    for _ in range(COMMITS):
        os.write(descriptor, (STATE + RESULT).encode())
        os.fdatasync(descriptor)
    seconds = time.perf_counter() - begun
    os.close(descriptor)
    return seconds / COMMITS


def bare_sqlite(folder: Path) -> float:
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, turn, state)")
    connection.execute("CREATE TABLE IF NOT EXISTS calls (run, sequence, result)")
    connection.execute("INSERT OR REPLACE INTO runs VALUES ('run', 0, ?)", (STATE,))
    begun = time.perf_counter()
    for number in range(COMMITS):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE runs SET turn = ? WHERE id = 'run'", (number,))
        connection.execute("INSERT INTO calls VALUES ('run', ?, ?)", (number, RESULT))
        connection.execute("COMMIT")
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds / COMMITS


def bare_postgres(url: str) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS floor_runs (id text PRIMARY KEY, turn int)")
        connection.execute("CREATE TABLE IF NOT EXISTS floor_calls (run text, n int, result text)")
        connection.execute("INSERT INTO floor_runs VALUES ('run', 0) ON CONFLICT DO NOTHING")
        both = (
            "WITH run AS (UPDATE floor_runs SET turn = %s WHERE id = 'run' RETURNING id) "
            "INSERT INTO floor_calls SELECT id, %s, %s FROM run"
        )
        begun = time.perf_counter()
        for number in range(COMMITS):
            connection.execute(both, (number, number, RESULT))
        return (time.perf_counter() - begun) / COMMITS


def bare_redis(path: str) -> float:
    """HSET on a socket, without a client library."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        value = STATE + RESULT
        begun = time.perf_counter()
        for number in range(COMMITS):
            parts = ("HSET", "floor", str(number), value)
            text = "".join(f"${len(part)}\r\n{part}\r\n" for part in parts)
            connection.sendall(f"*{len(parts)}\r\n{text}".encode())
            assert connection.recv(100).startswith(b":")
        return (time.perf_counter() - begun) / COMMITS


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[dict[str, Store]]:
    """All of them, with new files below `folder`."""
    (folder / "floor").mkdir()
    files = folder / "floor"
    with postgres_server(durable=True) as postgres, valkey(appendfsync="always") as redis:
        yield {
            "memory": Store("memory:", lambda: 0.0),
            "folder": Store(f"folder:{folder}/tasks", lambda: append_and_sync(files)),
            "sqlite": Store(f"sqlite:{folder}/workflow.db", lambda: bare_sqlite(files)),
            "postgres": Store(postgres.url, lambda: bare_postgres(postgres.url)),
            "redis": Store(redis.url, lambda: bare_redis(str(redis.socket))),
        }


def slow_disk() -> list[str]:
    """A command before another one that lets every sync take 4 ms longer; empty without strace."""
    if not shutil.which("strace"):
        return []
    calls = "fsync,fdatasync"
    delay = f"inject={calls}:delay_exit=4000"
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", delay]


def figures(text: str) -> dict[str, list[float]]:
    """What a measurement in another process printed."""
    found: dict[str, list[float]] = json.loads(text.splitlines()[-1])
    return found
