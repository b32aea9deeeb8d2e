"""Executes a workflow in a process that kills itself at a chosen boundary, and then without.

    python killing_flow.py <kind> <location> <folder for logs>

For n = 1, 2, 3, ... a forked child executes a fresh flow and kills itself with SIGKILL at the n-th
boundary: before and after each system call or command by which the storage writes or reads, each
method of the storage, each call of a tool, and the callback. A second child, to whose clock the
lease of the first is over, then executes the flow to its end. One line of JSON per n is printed;
the loop ends when a child has come to the end without reaching the boundary.
"""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import redis.asyncio

from sequential.flow.executor import create_flow_executor
from sequential.flow.executor_databases import RedisStepStorage, SQLStepStorage
from sequential.flow.executor_storage import StepStorage
from sequential.flow.executor_storages import AdapterStepStorage, FolderStepStorage
from sequential.storage.registry import create_adapter
from sequential.testing.clock import FakeClock

SYSTEM = ("write", "fsync", "replace", "rename", "unlink", "rmdir")
METHODS = ("get", "set", "delete", "get_result", "set_result", "swap", "_run")


class FiveMethods(FolderStepStorage):
    """A storage of one's own, whose operations are several: files, one after the other."""

    swap = StepStorage.swap

    async def delete(self, id: str) -> None:
        place = self._place(id)
        for file in sorted(place.glob("step-*")):
            os.unlink(file)
        for name in ("input.json", "state.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place / name)


class Countdown:
    """Kills this process at the n-th boundary."""

    def __init__(self, n: int) -> None:
        self.left = n

    def reach(self, boundary: str) -> None:
        self.left -= 1
        if self.left == 0:
            os.write(3, boundary.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def workflow(given: Any) -> Any:
    first = yield {"__tool": ["api", "first", {"id": given["id"]}]}
    yield {"__save": True}
    failed = yield {"__tool": ["api", "flaky", {"after": first}]}
    last = yield {"__tool": ["api", "last", {"after": failed["__error"]}]}
    return [first, failed, last]


@contextlib.asynccontextmanager
async def opened(kind: str, location: str) -> AsyncIterator[StepStorage]:
    async with contextlib.AsyncExitStack() as stack:
        match kind:
            case "folder":
                yield FolderStepStorage(location)
            case "five":
                yield FiveMethods(location)
            case "sqlite":
                connection = sqlite3.connect(location, timeout=30)
                stack.callback(connection.close)
                storage = SQLStepStorage(connection)
                await storage.init()
                yield storage
            case "postgres":
                asynchronous = await psycopg.AsyncConnection.connect(location)
                stack.push_async_callback(asynchronous.close)
                storage = SQLStepStorage(asynchronous)
                await storage.init()
                yield storage
            case "redis":
                client = redis.asyncio.Redis(unix_socket_path=location)
                stack.push_async_callback(client.aclose)
                yield RedisStepStorage(client)
            case _:
                adapter = await create_adapter(location)
                stack.push_async_callback(adapter.close)
                yield AdapterStepStorage(adapter)


def watch_system(countdown: Countdown) -> None:
    for name in SYSTEM:
        real: Callable[..., Any] = getattr(os, name)

        def wrapped(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            if _name == "write" and args[0] <= 3:
                return _real(*args, **kwargs)
            countdown.reach(f"before {_name}")
            result = _real(*args, **kwargs)
            countdown.reach(f"after {_name}")
            return result

        setattr(os, name, wrapped)


def watch_storage(storage: StepStorage, countdown: Countdown) -> None:
    for name in METHODS:
        if (real := getattr(storage, name, None)) is None:
            continue

        async def wrapped(*args: Any, _real: Any = real, _name: str = name) -> Any:
            countdown.reach(f"before storage.{_name}")
            result = await _real(*args)
            countdown.reach(f"after storage.{_name}")
            return result

        setattr(storage, name, wrapped)


async def execute(kind: str, location: str, id: str, log: Path, countdown: Countdown) -> Any:
    """Execute a flow to its end; every call of a tool is a line in the log."""

    def call(category: str, name: str, given: Any, key: str) -> Any:
        countdown.reach(f"before call {name}")
        with log.open("ab", buffering=0) as file:
            file.write(f"{name} {key}\n".encode())
        countdown.reach(f"after call {name}")
        if name == "flaky":
            raise ConnectionError("no route to host")
        return {name: given}

    def resume(id: str) -> None:
        countdown.reach("at the callback")

    late = datetime(2100, 1, 1, tzinfo=UTC) if countdown.left < 0 else datetime.now(UTC)
    clock = FakeClock(late, patience=3600)
    async with opened(kind, location) as storage:
        before = await storage.get(id)
        watch_storage(storage, countdown)
        flow = create_flow_executor(storage, call=call, resume=resume, clock=clock)
        result = await flow.execute(workflow, id, {"id": 7})
        while isinstance(result, dict) and "paused" in result:
            result = await flow.execute(workflow, id)
        return {"result": result, "over": before is None or "ended" in before}


def in_child(work: Callable[[], Any]) -> tuple[int, bytes]:
    """Run `work` in a forked child; returns its exit status and what it wrote to descriptor 3."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        if writer != 3:
            os.dup2(writer, 3)
            os.close(writer)
        code = 1
        try:
            os.write(3, json.dumps(work()).encode())
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        output = pipe.read()
    return os.waitpid(child, 0)[1], output


def main() -> None:
    kind, location, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    n = 0
    while True:
        n += 1
        flow_id, log = f"exec-{n}", folder / f"{n}.log"
        log.touch()
        countdown = Countdown(n)

        def crash(id: str = flow_id, log: Path = log, countdown: Countdown = countdown) -> Any:
            watch_system(countdown)
            return asyncio.run(execute(kind, location, id, log, countdown))

        def again(id: str = flow_id, log: Path = log) -> Any:
            return asyncio.run(execute(kind, location, id, log, Countdown(-1)))

        status, output = in_child(crash)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, (status, n)
        boundary = output.decode() if killed else ""
        calls = log.read_text().splitlines()
        report = {"n": n, "boundary": boundary, "before": calls, "over": False}
        if killed:
            status, output = in_child(again)
            assert status == 0, (status, n, boundary)
        report |= json.loads(output) | {"calls": log.read_text().splitlines()}
        if not killed:
            report["over"] = False
        print(json.dumps(report), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main()
