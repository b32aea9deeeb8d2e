"""`serve` as processes: signals, several of them on one port, SIGKILL, and crowds of clients."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sequential.cli.app import run as run_command
from sequential.web.processes import allow_many_files
from support.server_process import (
    PATIENCE,
    ServerProcess,
    children_of,
    is_alive,
    memory_of,
    new_project,
)

API = "/api/v1"
TASKS = {
    "approval": "async def approval():\n    return await wait_for_event('word')\n",
    "steps": (
        "async def steps(number):\n"
        "    for step in range(3):\n"
        "        await services.tool.echo(step)\n"
        "    return number\n"
    ),
}
LARGEST_LISTENER = 150 << 10  # bytes of the server's memory for each who listens
LARGEST_IDLE = 50 << 10  # and for each connection that is only there

Start = Callable[..., ServerProcess]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    inputs = [{"name": "number", "type": "integer"}]
    return new_project(tmp_path, TASKS, steps={"inputs": inputs})


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Start a server on the project; what still runs at the end is killed."""
    started: list[ServerProcess] = []

    def begin(*arguments: str, **options: Any) -> ServerProcess:
        started.append(ServerProcess(project, *arguments, **options))
        return started[-1]

    yield begin
    for server in started:
        server.end()


async def submit(client: httpx.AsyncClient, task: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"{API}/runs", json={"task": task, **body})
    assert answer.status_code in (200, 201), answer.text
    run: dict[str, Any] = answer.json()
    return run


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_good_order(start: Start, number: signal.Signals) -> None:
    server = start()
    async with server.client() as client:
        run = await submit(client, "approval")
        wait = client.get(f"{API}/runs/{run['id']}/wait", params={"timeout": 60})
        waiting = asyncio.create_task(wait)
        async with client.stream("GET", f"{API}/runs/{run['id']}/events") as live:
            lines = live.aiter_lines()
            async for line in lines:
                if '"suspended"' in line:
                    break
            server.signal(number)
            told = [line async for line in lines]
            answer = await waiting
    code = await asyncio.to_thread(server.wait)

    assert code == 128 + number
    assert "event: bye" in told
    assert (answer.status_code, answer.json()["status"]) == (200, "suspended")
    assert "Requests in progress end" in server.told
    assert "Traceback" not in server.told


async def test_the_second_signal_ends_it_at_once(start: Start) -> None:
    server = start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /tasks/approval HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
    await writer.drain()
    async with server.client() as client:  # it has seen what was sent before
        assert (await client.get("/health")).status_code == 200
    server.signal()
    await asyncio.to_thread(server.until, "Requests in progress end")
    begun = asyncio.get_running_loop().time()
    server.signal()

    assert await asyncio.to_thread(server.wait) == 128 + signal.SIGTERM
    assert asyncio.get_running_loop().time() - begun < 5
    writer.close()
    assert await reader.read() == b""


async def test_what_it_says_first_can_be_pasted(start: Start) -> None:
    server = start()
    command = await asyncio.to_thread(server.until, r"^  (curl .*)$")
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()

    assert b'"identifier":"approval"' in out


async def test_several_processes_share_the_port(start: Start) -> None:
    server = start("--workers", "2")
    await server.is_up()
    parent = server.popen.pid
    await until(lambda: len(children_of(parent)) == 2)
    children = children_of(parent)
    async with server.client() as client:
        ids = [(await submit(client, "steps", input={"number": n}))["id"] for n in range(6)]
        ended = [(await client.get(f"{API}/runs/{run_id}/wait")).json() for run_id in ids]
    os.kill(min(children), signal.SIGKILL)
    told = await asyncio.to_thread(server.until, "A server process ended")
    await until(lambda: len(children_of(parent) - children) == 1)
    async with server.client() as client:
        assert (await client.get(f"{API}/runs/{ids[0]}")).status_code == 200
    server.signal()

    assert await asyncio.to_thread(server.wait) == 128 + signal.SIGTERM
    assert [run.get("result", run) for run in ended] == list(range(6))
    assert "SIGKILL" in told
    assert not any(is_alive(pid) for pid in children)


async def test_no_process_is_left_when_the_parent_is_killed(start: Start) -> None:
    server = start("--workers", "2")
    await server.is_up()
    await until(lambda: len(children_of(server.popen.pid)) == 2)
    children = children_of(server.popen.pid)
    server.signal(signal.SIGKILL)

    await until(lambda: not any(is_alive(pid) for pid in children))


def test_memory_cannot_be_shared(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(
        ["--project", str(project), "--storage", "memory:", "serve", "--workers", "2"]
    )

    assert code == 2
    assert "several processes cannot share memory" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "sqlite"])
async def test_nothing_is_half_written_when_it_is_killed(
    start: Start, project: Path, kind: str
) -> None:
    storage = "folder" if kind == "folder" else f"sqlite:{project / 'runs.db'}"
    arguments = ["--project", str(project), "--storage", storage]
    if kind == "sqlite":
        assert await asyncio.to_thread(run_command, [*arguments, "sync-tasks"]) == 0
    acknowledged: dict[int, str] = {}
    number = 0
    for _ in range(2):
        server = start(storage=storage)
        async with server.client() as client, asyncio.TaskGroup() as group:

            async def submit_on(client: httpx.AsyncClient = client) -> None:
                nonlocal number
                with contextlib.suppress(httpx.TransportError):
                    while True:
                        number += 1
                        mine = number
                        run = await submit(
                            client, "steps", input={"number": mine}, id=f"order-{mine}"
                        )
                        acknowledged[mine] = run["id"]

            for _ in range(4):
                group.create_task(submit_on())
            enough = len(acknowledged) + 4
            await until(lambda: len(acknowledged) >= enough)
            await asyncio.sleep(random.uniform(0, 0.05))
            server.signal(signal.SIGKILL)
        await asyncio.to_thread(server.wait)

    server = start(storage=storage)
    async with server.client() as client:
        for mine in range(1, number + 1):
            again = await submit(client, "steps", input={"number": mine}, id=f"order-{mine}")
            assert again["id"] == acknowledged.setdefault(mine, again["id"])
        for mine, run_id in acknowledged.items():
            ended = (await client.get(f"{API}/runs/{run_id}/wait")).json()
            assert (ended["status"], ended.get("result")) == ("completed", mine), ended
        listed = (await client.get(f"{API}/runs", params={"limit": 500})).json()["items"]
    assert sorted(run["id"] for run in listed) == sorted(acknowledged.values())


async def test_500_listeners_all_hear_of_the_end(start: Start) -> None:
    allow_many_files()
    server = start(storage="folder")
    async with server.client() as client, contextlib.AsyncExitStack() as stack:
        run = await submit(client, "approval")
        path = f"{API}/runs/{run['id']}/events"
        await client.get(path.removesuffix("/events"))
        before = memory_of(server.popen.pid)
        readers = [await stack.enter_async_context(listening_to(server, path)) for _ in range(500)]
        await asyncio.gather(*(heard(reader, b"event: run") for reader in readers))
        each = (memory_of(server.popen.pid) - before) / len(readers)
        await client.post(f"{API}/runs/{run['id']}/answer", json={"name": "word", "data": 1})
        await asyncio.gather(*(heard(reader, b"event: end") for reader in readers))

    assert each < LARGEST_LISTENER


async def test_1000_idle_connections_hurt_nobody(start: Start) -> None:
    allow_many_files()
    server = start()
    async with server.client() as client, contextlib.AsyncExitStack() as stack:
        assert (await client.get("/health")).status_code == 200
        before = memory_of(server.popen.pid)
        for _ in range(1000):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            writer.write(b"GET /health HTTP/1.1\r\n")
        begun = asyncio.get_running_loop().time()
        answers = [await client.get("/health") for _ in range(20)]
        seconds = asyncio.get_running_loop().time() - begun
        each = (memory_of(server.popen.pid) - before) / 1000

    assert {answer.status_code for answer in answers} == {200}
    assert seconds < 5
    assert each < LARGEST_IDLE


@contextlib.asynccontextmanager
async def listening_to(server: ServerProcess, path: str) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    try:
        yield reader
    finally:
        writer.close()


async def heard(reader: asyncio.StreamReader, words: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(words)
