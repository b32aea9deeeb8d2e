"""What the server costs: requests a second, how soon a run begins, memory for those who follow.

The requests come from `wrk`; where it is not installed, from a client in Python, which is what is
measured then. Beside them is a handler that does nothing, in the same framework and on the same
server, and what the store does for an engine without a server. All on one machine: the client, the
server and the store share its processors.
"""

import asyncio
import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from bench.table import milliseconds, show
from sequential.config import load_settings
from sequential.runner.engine import Engine
from sequential.web.processes import allow_many_files
from support.postgres_server import postgres_server
from support.server_process import SCRIPT, ServerProcess, memory_of, new_project

SECONDS = 3
CONNECTIONS = 32
LISTENERS = 500
IDLE = 1000
STARTS = 200

TASKS = {
    "first": "async def first():\n    return await services.tool.now()\n",
    "waits": "async def waits():\n    return await wait_for_event('word')\n",
}
TOOL = """
import time
from sequential import LocalService

service = LocalService("tool")

@service.method("now")
async def now():
    return time.monotonic()
"""
BARE = """
import socket, uvicorn
from litestar import Litestar, get

@get("/")
async def nothing() -> dict[str, str]:
    return {"id": "x"}

listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
listener.listen(2048)
print(listener.getsockname()[1], flush=True)
app = Litestar([nothing], openapi_config=None, logging_config=None)
config = uvicorn.Config(app, http="h11", log_config=None, access_log=False, lifespan="off")
uvicorn.Server(config).run([listener])
"""
SCRIPT_OF_WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '%s'
"""
SUBMIT = '{"task": "waits", "delay": 86400}'  # nobody is to drive it


@contextlib.contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    with postgres_server(durable=True) as server:
        sqlite = f"sqlite:{folder / 'runs.db'}"
        yield {"folder": "folder", "SQLite": sqlite, "PostgreSQL": server.url}


@contextlib.contextmanager
def serving(folder: Path, store: str, *arguments: str) -> Iterator[ServerProcess]:
    server = ServerProcess(folder, *arguments, storage=store)
    try:
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def bare() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        try:
            yield f"http://127.0.0.1:{made.stdout.readline().strip()}/"
        finally:
            made.kill()


def requests_a_second(url: str, body: str = "") -> float:
    """How many requests are answered in a second."""
    if not shutil.which("wrk"):
        return asyncio.run(in_python(url, body))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body:
            script.write(SCRIPT_OF_WRK % body)
            script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", script.name, url]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


async def in_python(url: str, body: str) -> float:
    place, _, path = url.removeprefix("http://").partition("/")
    host, _, port = place.partition(":")
    head = f"{'POST' if body else 'GET'} /{path} HTTP/1.1\r\nHost: {place}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    data = f"{head}\r\n{body}".encode()
    end = time.perf_counter() + SECONDS

    async def one() -> int:
        reader, writer = await asyncio.open_connection(host, int(port))
        for count in range(10**9):
            if time.perf_counter() > end:
                writer.close()
                return count
            writer.write(data)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split()[1] in (b"200", b"201"), answer
            size = re.search(rb"content-length: (\d+)", answer.lower())
            await reader.readexactly(int(size[1]) if size else 0)
        return 0

    return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS)))) / SECONDS


async def without_server(folder: Path, store: str) -> tuple[float, float]:
    """What an engine in this process does in a second: submitting and reading."""
    settings = load_settings(folder, environment={}, adaptor=store)
    async with Engine(settings=settings) as engine:
        run = await engine.create_run("waits", delay=86400)

        async def a_second(work: Callable[[], Awaitable[Any]]) -> float:
            end, count = time.perf_counter() + SECONDS, 0

            async def on() -> None:
                nonlocal count
                while time.perf_counter() < end:
                    await work()
                    count += 1

            await asyncio.gather(*(on() for _ in range(CONNECTIONS)))
            return count / SECONDS

        submitted = await a_second(lambda: engine.create_run("waits", delay=86400))
        return submitted, await a_second(lambda: engine.get_run(run.id))


async def begins(server: ServerProcess) -> list[float]:
    """Seconds from a request that starts a run to the moment its first call is performed."""
    found = []
    async with server.client() as client:
        for _ in range(STARTS):
            begun = time.monotonic()
            run = (await client.post("/api/v1/runs", json={"task": "first"})).json()
            ended = (await client.get(f"/api/v1/runs/{run['id']}/wait")).json()
            found.append(ended["result"] - begun)
    return sorted(found[STARTS // 10 :])  # the first ones start the sandbox


async def memory(server: ServerProcess) -> tuple[float, float]:
    """KiB of the server for each who follows a run, and for each connection that does nothing."""
    async with server.client() as client, contextlib.AsyncExitStack() as stack:
        run = (await client.post("/api/v1/runs", json={"task": "waits"})).json()
        follow = f"GET /api/v1/runs/{run['id']}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        first = await stack.enter_async_context(connected(server, follow.encode()))
        await first.readuntil(b'"suspended"')
        before = memory_of(server.popen.pid)
        for _ in range(LISTENERS):
            reader = await stack.enter_async_context(connected(server, follow.encode()))
            await reader.readuntil(b"event: run")
        listening = memory_of(server.popen.pid)
        for _ in range(IDLE):
            await stack.enter_async_context(connected(server, b""))
        await client.get("/health")
        idle = memory_of(server.popen.pid)
    return (listening - before) / LISTENERS / 1024, (idle - listening) / IDLE / 1024


@contextlib.asynccontextmanager
async def connected(server: ServerProcess, data: bytes) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    try:
        yield reader
    finally:
        writer.close()


def measure(folder: Path, store: str) -> tuple[list[float], list[float], list[float]]:
    if store != "folder":
        command = [str(SCRIPT), "--project", str(folder), "--storage", store, "sync-tasks"]
        subprocess.run(command, check=True, capture_output=True)
    with serving(folder, store) as server:
        soon = asyncio.run(begins(server))
        kib = asyncio.run(memory(server))
    with serving(folder, store, "--no-worker") as server, bare() as nothing:
        api = f"{server.url}/api/v1/runs"
        run_id = asyncio.run(submitted(server))
        rates = [
            requests_a_second(nothing),
            requests_a_second(f"{api}/{run_id}"),
            requests_a_second(api, SUBMIT),
        ]
    submits, reads = asyncio.run(without_server(folder, store))
    return soon, [*rates, reads, submits], list(kib)


async def submitted(server: ServerProcess) -> str:
    async with server.client() as client:
        sent = {"task": "waits", "delay": 86400}
        run_id: str = (await client.post("/api/v1/runs", json=sent)).json()["id"]
        return run_id


def main() -> None:
    allow_many_files()
    soon, rates, memories = [], [], []
    with tempfile.TemporaryDirectory() as name, stores(Path(name)) as places:
        folder = new_project(Path(name), TASKS)
        (folder / "services" / "tool.py").write_text(TOOL)
        for label, store in places.items():
            seconds, (nothing, status, submit, reads, submits), kib = measure(folder, store)
            p99 = seconds[int(len(seconds) * 0.99) - 1]
            soon.append([label, milliseconds(statistics.median(seconds)), milliseconds(p99)])
            rows = [("a handler that does nothing", nothing, 0.0), ("GET a run", status, reads)]
            for what, rate, floor in [*rows, ("POST a run", submit, submits)]:
                beside = [f"{floor:,.0f}", f"{rate / floor:.2f}x"] if floor else ["", ""]
                line = [f"{label}: {what}", f"{rate:,.0f}", f"{rate / nothing:.2f}x", *beside]
                rates.append(line)
            memories.append([label, *(f"{one:,.0f}" for one in kib)])
    show("From the request to the first call of the run, ms", ["store", "p50", "p99"], soon)
    head = ["", "requests/s", "to the handler", "engine alone/s", "to the engine"]
    show(f"Requests a second, {CONNECTIONS} connections", head, rates)
    show("Memory of the server, KiB", ["store", "a listener", "an idle connection"], memories)


if __name__ == "__main__":
    main()
