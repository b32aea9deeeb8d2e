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
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg

from bench.table import microseconds, show
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


def on_slow_disk(module: str) -> dict[str, list[float]]:
    """What `python -m module --figures` prints when every sync takes 4 ms longer.

    Nothing, after a word about it, where there is no strace to slow the disk down with.
    """
    if not shutil.which("strace"):
        print("\nWithout strace there is no slow disk to measure on.")
        return {}
    calls = "fsync,fdatasync"
    delay = f"inject={calls}:delay_exit=4000"
    trace = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", delay)
    command = [*trace, sys.executable, "-m", module, "--figures"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(title: str, unit: str, found: dict[str, list[float]]) -> None:
    """Show medians, and of each the median of its ratios to the store's floor in its round."""
    rows = []
    for label, all_ in found.items():
        base = found.get(f"{label.partition(':')[0]}: floor", all_)
        ratio = statistics.median(a / b for a, b in zip(all_, base, strict=True))
        middle = statistics.median(all_)
        beside = "" if base is all_ else f"{ratio:.2f}x"
        rows.append([label, microseconds(middle), f"{1 / middle:,.0f}", beside])
    if rows:
        show(title, ["", "us", unit, "to the store's floor"], rows)
