"""A server that is killed in the middle of requests, and comes back."""

import asyncio
import signal
from pathlib import Path

from sequential import InputField, RetryPolicy, TaskConfig, TaskRun
from sequential.client import Client
from support.server_process import ServerProcess, new_project

ASK = "async def ask(n):\n    return [n, await wait_for_event('word')]\n"
STUBBORN = RetryPolicy(retries=1000, delay=0.02, max_delay=0.1)
RUNS = 20


async def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    new_project(tmp_path, {})
    storage = f"sqlite:{tmp_path / 'x.db'}"
    server = ServerProcess(tmp_path, storage=storage)
    try:
        async with Client(server.url, retry=STUBBORN) as client:
            await client.store_task("ask", ASK, TaskConfig("ask", inputs=(InputField("n", "any"),)))
            first = await client.start("ask", {"n": -1})
            waiting = asyncio.create_task(client.wait(first.id))
            following = asyncio.create_task(followed(client, first.id))
            starting = [asyncio.create_task(client.start("ask", {"n": n})) for n in range(RUNS)]
            await starting[0]
            server.signal(signal.SIGKILL)
            server.end()
            port = ("--port", str(server.port))
            server = await asyncio.to_thread(ServerProcess, tmp_path, *port, storage=storage)
            runs = await asyncio.gather(*starting)
            await asyncio.gather(*(run.answer("word", "up") for run in (first, *runs)))
            done = await asyncio.gather(*(run.wait(timeout=30) for run in runs))
            assert [run.result for run in done] == [[n, "up"] for n in range(RUNS)]
            assert (await waiting).value == (await following).value == [-1, "up"]
            assert len(await client.list_runs()) == RUNS + 1
    finally:
        server.end()


async def followed(client: Client, run_id: str) -> TaskRun:
    news = [one async for one in client.follow(run_id)]
    assert isinstance(news[-1], TaskRun)
    return news[-1]
