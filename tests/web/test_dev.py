"""The page of `dev`, and what it is made of."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from sequential.config import Settings
from sequential.runner.engine import Engine
from sequential.web.dev import dev_app
from sequential.web.server import Server, address_of, listening
from sequential.web.workshop import Workshop
from support.live_server import PATIENCE, Follower

BROKEN = "async def hello():\n    return open('<script>')"


class Live(NamedTuple):
    client: httpx.AsyncClient
    workshop: Workshop
    server: Server
    folder: Path


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    """A server of `dev` on a socket, with a task that has a problem."""
    (tmp_path / "tasks/hello").mkdir(parents=True)
    (tmp_path / "tasks/hello/code.py").write_text(BROKEN)
    settings = Settings(project=tmp_path, adaptor="folder", tasks=tmp_path / "tasks")
    async with Engine(settings=settings) as engine:
        workshop = Workshop(engine, lambda: settings)
        listener = listening("127.0.0.1", 0)
        server = Server(dev_app(engine, settings.server, workshop), settings.server)
        tasks = [asyncio.create_task(one) for one in (server.run_on(listener), workshop.run())]
        async with httpx.AsyncClient(base_url=address_of(listener), timeout=PATIENCE) as client:
            yield Live(client, workshop, server, tmp_path)
            tasks[1].cancel()
            server.stop()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def following(live: Live) -> AsyncIterator[Follower]:
    async with live.client.stream("GET", "/dev/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Follower(answer.aiter_lines())


async def until_problem(follower: Follower, *, is_there: bool = True) -> Any:
    """The state as soon as the one task has a problem, or has none."""
    while (event := await follower.next()) is not None:
        tasks = event.data["tasks"]
        if event.name == "state" and tasks and bool(tasks[0]["problems"]) is is_there:
            return event.data
    raise AssertionError("the stream has ended")


async def test_the_page_loads_only_its_own_files(live: Live) -> None:
    page = await live.client.get("/dev")
    parts = re.findall(r'(?:href|src)="(/dev/dev\.\w+)"', page.text)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert parts == ["/dev/dev.css", "/dev/dev.js"]
    for part, kind in zip(parts, ("text/css", "text/javascript"), strict=True):
        answer = await live.client.get(part)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "://" not in answer.text
    assert "<script>" not in page.text
    assert "style=" not in page.text


async def test_the_script_puts_nothing_into_the_page_as_markup(live: Live) -> None:
    script = (await live.client.get("/dev/dev.js")).text

    for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert dangerous not in script


async def test_other_files_are_not_there(live: Live) -> None:
    for path in ("/dev/dev.py", "/dev/..%2fdev.py", "/dev/nothing.js"):
        assert (await live.client.get(path)).status_code == 404


async def test_problems_are_there_the_moment_a_file_is_saved(live: Live) -> None:
    code = live.folder / "tasks/hello/code.py"
    async with following(live) as follower:
        first = await until_problem(follower)
        code.write_text("async def hello():\n    return 1")
        await until_problem(follower, is_there=False)
        code.write_text(BROKEN)
        again = await until_problem(follower)
        asked = (await live.client.get("/dev/state")).json()

    [problem] = first["tasks"][0]["problems"]
    assert (problem["line"], problem["column"]) == (2, 12)
    assert problem["source"] == "    return open('<script>')"
    assert again["tasks"] == asked["tasks"] == first["tasks"]


async def test_the_stream_ends_with_the_workshop(live: Live) -> None:
    async with following(live) as follower:
        await until_problem(follower)
        live.workshop.channel.end()

        assert [event.name for event in await follower.rest() if event.name != "state"] == []


async def test_the_page_asks_for_a_token_where_there_is_one(live: Live) -> None:
    engine = await live.server._app.state.house.open()
    _, token = await engine.tokens.create("me", "read")

    for path in ("/dev", "/dev/dev.js", "/dev/state", "/dev/events"):
        assert (await live.client.get(path)).status_code == 401
    assert (await live.client.get("/dev", auth=("me", token))).status_code == 200
