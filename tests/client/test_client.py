"""What a client does that an engine has no need of: it knows where the server is, and that networks
lose things. Everything else is in test_equivalence."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sequential import Status, TaskConfig
from sequential.client import BadAnswerError, Client, NoAnswerError, RemoteError
from sequential.errors import (
    ConfigError,
    InvalidTaskError,
    InvalidTransitionError,
    RunNotFoundError,
    SecretNotFoundError,
    TaskNotFoundError,
)
from sequential.task import task
from support.fault_proxy import FaultProxy
from support.scripted_server import ScriptedServer, cut, refused, told
from support.server_thread import QUICK, ServerThread, live

TWICE = """async def twice():
    return [await wait_for_event("word"), await wait_for_event("word")]
"""
QUICKLY = "async def quickly():\n    return 1"


@contextlib.asynccontextmanager
async def losing(server: ServerThread) -> AsyncIterator[tuple[Client, FaultProxy]]:
    """A client of the server behind a proxy that can lose what is sent."""
    async with (
        FaultProxy(server.port) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}", retry=QUICK) as made,
    ):
        await made.store_task("twice", TWICE, TaskConfig("twice"))
        await made.store_task("quickly", QUICKLY, TaskConfig("quickly"))
        yield made, proxy


async def test_requests_and_answers_may_get_lost(client: Client, server: ServerThread) -> None:
    async with losing(server) as (made, proxy):
        for what in ("lose_requests", "lose_answers"):
            setattr(proxy, what, 2)
            run = await made.start("twice")
            assert [one.id for one in await client.list_runs(unfinished=True)] == [run.id]
            setattr(proxy, what, 2)
            await run.answer("word", 1)
            assert not (await client.wait(run.id, timeout=0.1)).status.is_final
            setattr(proxy, what, 2)
            await run.answer("word", 2)
            assert (await run.wait()).result == [1, 2]


async def test_what_was_done_before_its_answer_got_lost_is_done(
    client: Client, server: ServerThread
) -> None:
    async with losing(server) as (made, proxy):

        async def losing_its_answer(work: Any) -> Any:
            proxy.lose_answers = 1
            done = await work
            assert proxy.lose_answers == 0
            return done

        run = await losing_its_answer(made.create_run("twice"))
        assert (await losing_its_answer(made.pause(run.id))).status is Status.PAUSED
        assert (await losing_its_answer(made.unpause(run.id))).status is not Status.PAUSED
        assert (await losing_its_answer(made.cancel(run.id))).status is Status.CANCELLED
        assert (await losing_its_answer(made.retry(run.id))).status is not Status.CANCELLED
        await made.cancel(run.id)
        await losing_its_answer(made.delete_run(run.id))
        with pytest.raises(RunNotFoundError):
            await made.get_run(run.id)
        await made.keys.set("crm", "x")
        await losing_its_answer(made.keys.delete("crm"))
        assert await made.keys.list() == []
        assert await losing_its_answer(made.delete_task("quickly")) == 0
        with pytest.raises(TaskNotFoundError):
            await made.get_task("quickly")


async def test_a_refusal_after_a_lost_request_is_still_one(
    client: Client, server: ServerThread
) -> None:
    async with losing(server) as (made, proxy):
        done = await made.run("quickly")
        proxy.lose_answers = 1
        with pytest.raises(InvalidTransitionError, match="completed"):
            await made.cancel(done.id)
        proxy.lose_requests = 1
        with pytest.raises(InvalidTransitionError, match="completed"):
            await made.pause(done.id)


async def test_waiting_goes_on_while_the_server_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with live("sqlite:./x.db") as server:
        async with Client(server.url, retry=QUICK) as made:
            await made.store_task("twice", TWICE, TaskConfig("twice"))
            run = await made.start("twice")
            await run.answer("word", 1)
            waiting = asyncio.create_task(made.wait(run.id))
            following = asyncio.create_task(last_of(made, run.id))
            await asyncio.to_thread(server.stop)
            await until(lambda: not is_reached(server))
            await asyncio.sleep(0.2)  # longer than the usual three attempts take
            await asyncio.to_thread(server.again)
            await run.answer("word", 2)
            assert (await waiting).value == [1, 2]
            assert (await following).value == [1, 2]


async def last_of(made: Client, run_id: str) -> Any:
    return [one async for one in made.follow(run_id)][-1]


def is_reached(server: ServerThread) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port)):
        return True
    return False


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_waiting_for_a_server_that_stays_away_has_an_end() -> None:
    with ScriptedServer(cut) as server:
        async with Client(server.url, retry=QUICK, deadline=0.3) as made:
            begun = time.monotonic()
            with pytest.raises(NoAnswerError):
                await made.wait("019cab0e-97eb-7000-8000-000000000001")
            with pytest.raises(NoAnswerError):
                await made.wait("019cab0e-97eb-7000-8000-000000000001", timeout=0.1)
    assert 0.2 < time.monotonic() - begun < 5


async def test_a_wrong_token_is_told() -> None:
    refusal = refused(401, "unauthorized", "the token is not known", "see `tokens list`")
    with ScriptedServer(refusal) as server:
        async with Client(server.url, "wrong") as made:
            with pytest.raises(RemoteError, match="is not known: see `tokens list`") as raised:
                await made.list_runs()
    assert (raised.value.code, raised.value.status) == ("unauthorized", 401)
    assert server.requests[0].headers["Authorization"] == "Bearer wrong"
    assert server.requests[0].path == "/api/v1/runs?limit=500"


async def test_address_and_token_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ScriptedServer(told(200, {"items": [], "next": None})) as server:
        monkeypatch.setenv("SEQUENTIAL_URL", server.url + "/behind/")
        monkeypatch.setenv("SEQUENTIAL_TOKEN", "abc")
        async with Client() as made:
            assert await made.list_tasks() == []
        async with Client(server.url, "other") as made:
            assert await made.keys.list() == []
    assert [(one.path, one.headers["Authorization"]) for one in server.requests] == [
        ("/behind/api/v1/tasks", "Bearer abc"),
        ("/api/v1/keys", "Bearer other"),
    ]


def test_without_an_address_it_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match="or set SEQUENTIAL_URL"):
        Client()


async def test_a_client_that_is_not_open_says_so(server: ServerThread) -> None:
    made = Client(server.url)
    with pytest.raises(ConfigError, match=r"use `async with Client\(...\) as client:`"):
        await made.list_runs()
    async with made:
        await made.list_runs()
    with pytest.raises(ConfigError, match="not open"):
        await made.list_runs()


async def test_pages_are_read_as_far_as_one_goes() -> None:
    def page(number: int, after: str | None) -> Any:
        run = {"id": f"r{number}", "task_identifier": "t", "status": "pending", "input": None}
        return told(200, {"items": [run, {**run, "id": f"r{number}b"}], "next": after})

    with ScriptedServer(page(3, "r3b"), page(2, "r2b"), page(1, None)) as server:
        async with Client(server.url) as made:
            assert len(await made.list_runs()) == 6
            assert [one.id for one in await made.list_runs(limit=1)] == ["r1"]
            assert await made.list_runs(limit=0) == []
    assert [one.path.partition("?")[2] for one in server.requests] == [
        *("limit=500", "before=r3b&limit=500", "before=r2b&limit=500"),
        "limit=1",
    ]


async def test_a_server_of_another_version_is_told() -> None:
    with ScriptedServer(told(200, {"items": [{"id": 1}], "next": None})) as server:
        async with Client(server.url) as made:
            with pytest.raises(BadAnswerError, match="use the same version here and there"):
                await made.list_runs()


async def test_functions_are_started_by_the_name_of_their_task(client: Client) -> None:
    @task(name="quickly")
    def some_function() -> int:
        return 2

    await client.store_task("quickly", QUICKLY, TaskConfig("quickly"))
    assert (await (await client.start(some_function)).wait()).result == 1
    with pytest.raises(InvalidTaskError, match="print is no task"):
        await client.start(print)


async def test_native_tasks_are_refused(client: Client) -> None:
    with pytest.raises(RemoteError, match="native tasks cannot be sent over HTTP") as raised:
        await client.store_task("x", QUICKLY, TaskConfig("x", runtime="native"))
    assert raised.value.code == "forbidden"
    with pytest.raises(ConfigError, match="the graph is no valid JSON"):
        await client.store_task("x", "", TaskConfig("x", graph="{"))
    with pytest.raises(TaskNotFoundError):
        await client.get_task("x")


async def test_a_secret_that_is_not_there_removes_none(client: Client) -> None:
    await client.keys.set("one", "x")
    with pytest.raises(SecretNotFoundError, match="there is no secret two"):
        await client.keys.delete("one", "two")
    await client.keys.delete("one")


async def test_many_wait_and_others_are_not_held_up(client: Client) -> None:
    await client.store_task("twice", TWICE, TaskConfig("twice"))
    runs = [await client.start("twice") for _ in range(120)]  # more than aiohttp's usual 100
    waiting = [asyncio.create_task(run.wait(timeout=20)) for run in runs]
    await asyncio.sleep(0)
    async with asyncio.timeout(15):
        await asyncio.gather(*(run.cancel() for run in runs))
        done = await asyncio.gather(*waiting)
    assert {run.status for run in done} == {Status.CANCELLED}


async def test_small_answers_come_at_once(client: Client) -> None:
    times = []
    for _ in range(30):
        begun = time.monotonic()
        await client.keys.list()
        times.append(time.monotonic() - begun)
    assert sorted(times)[10] < 0.03, "is TCP_NODELAY set? An answer takes 2 ms, else 40"


def test_importing_it_imports_neither_engine_nor_storage_nor_sandbox() -> None:
    code = "import sys, sequential.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, stdout=subprocess.PIPE, timeout=60
    )
    loaded = done.stdout.split()
    ours = {".".join(name.split(".")[:3]) for name in loaded if name.startswith("sequential.")}
    parts = {name.split(".")[1] for name in ours}
    assert parts == {"client", "core", "errors", "runner"}
    assert {name for name in ours if name.startswith("sequential.runner.")} == {
        "sequential.runner.loop_thread",
        "sequential.runner.run_handle",
    }
    assert not {"pydantic_monty", "litestar", "cryptography"} & set(loaded)
