"""Runs followed live: events are read as the standard has them, and breaks are mended."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sequential import StackRun, Status, SyncRun, TaskConfig, TaskRun
from sequential.client import BadAnswerError, Client, NoAnswerError, RemoteError, SyncClient
from sequential.client.connection import Connection
from sequential.client.errors import engine_error
from sequential.client.stream import Event, events, followed
from sequential.core.model import LogLine
from sequential.errors import InvalidNameError, RunNotFoundError
from support.fault_proxy import FaultProxy
from support.scripted_server import Handler, Reply, ScriptedServer, refused, reply, silent, told
from support.server_thread import QUICK, ServerThread

NOBODY = "019cab0e-97eb-7000-8000-000000000001"
TALK = """async def talk():
    for word in ['a', 'b']:
        print(await services.tool.echo(x=await wait_for_event(word)))
    return 'x' * 3000
"""


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([b"data: 1\n\n"], [Event("message", b"1")]),
        ([b"event: run\ndata: {}\nid: 7\n\n"], [Event("run", b"{}", "7")]),
        (
            [b"ev", b"ent: a\nda", b"ta: 1\n", b"\ndata: 2\n\n"],
            [Event("a", b"1"), Event("message", b"2")],
        ),
        (
            [b"data: 1\r\n\r", b"\ndata: 2\r\n\r\n"],
            [Event("message", b"1"), Event("message", b"2")],
        ),
        ([b": comment\n\nretry: 5\n\nid: 1\n\n"], []),
        ([b"data:1\ndata: 2\ndata\n\n"], [Event("message", b"1\n2\n")]),
        ([b"data: lost"], []),
    ],
)
async def test_events_in_bytes(given: list[bytes], read: list[Event]) -> None:
    assert [one async for one in events(pieces(*given))] == read


async def told_of(made: Any, run_id: str, words: str = "ab") -> list[Any]:
    """All news of a run that is answered as it goes on."""
    news = []
    async for one in made.follow(run_id):
        news.append(one)
        if isinstance(one, TaskRun) and one.status is Status.SUSPENDED and words:
            word, words = words[0], words[1:]
            await made.answer(run_id, word, word)
    return news


async def test_a_run_is_followed_to_its_end(client: Client) -> None:
    await client.store_task("talk", TALK, TaskConfig("talk"))
    run = await client.start("talk")
    news = await asyncio.wait_for(told_of(client, run.id), 20)
    assert isinstance(news[0], TaskRun)
    assert news[-1] == await client.get_run(run.id)
    assert news[-1].value == "x" * 3000
    assert {one.operation for one in news if isinstance(one, StackRun)} >= {"tool.echo"}
    assert "a\n" in [one.text for one in news if isinstance(one, LogLine)]
    again = [one async for one in client.follow(run.id)]
    assert again[-1] == news[-1]


async def test_breaks_are_mended(client: Client, server: ServerThread) -> None:
    await client.store_task("talk", TALK, TaskConfig("talk"))
    run = await client.start("talk")
    async with (
        FaultProxy(server.port) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}", retry=QUICK) as made,
    ):
        words, breaks = ["a", "b"], 0
        async with asyncio.timeout(20):
            async for news in made.follow(run.id):
                if isinstance(news, TaskRun) and news.status is Status.SUSPENDED and words:
                    await client.answer(run.id, words[0], words.pop(0))
                    proxy.cut()
                    proxy.lose_answers = 1
                    breaks += 1
        assert isinstance(news, TaskRun)
        assert (news.status, breaks) == (Status.COMPLETED, 2)


async def test_runs_that_are_not_there(client: Client) -> None:
    with pytest.raises(RunNotFoundError, match=NOBODY):
        await anext(client.follow(NOBODY))
    with pytest.raises(InvalidNameError):
        client.follow("../../keys")
    await client.store_task("talk", TALK, TaskConfig("talk"))
    run = await client.start("talk")
    following = client.follow(run.id)
    await anext(following)
    await following.aclose()
    assert (await client.get_run(run.id)).status is not Status.CANCELLED


def test_followed_from_a_program_that_is_not_asynchronous(server: ServerThread) -> None:
    with SyncClient(server.url, retry=QUICK) as made:
        made.store_task("talk", TALK, TaskConfig("talk"))
        run = made.start("talk")
        assert not isinstance(run, SyncRun)  # of an engine
        for news in made.follow(run.id):
            assert isinstance(news, TaskRun)
            break
        run.answer("a", 1).answer("b", 2)
        assert [one for one in made.follow(run.id) if isinstance(one, TaskRun)][-1].status.is_final
        with pytest.raises(RunNotFoundError):
            next(made.follow(NOBODY))
        made.delete_task("talk")


def streamed(*given: bytes) -> Reply:
    """Pieces of a stream, then the connection ends."""

    def send(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for piece in given:
            handler.wfile.write(piece)
        handler.close_connection = True

    return send


RUN = b'event: run\nid: %d.0\ndata: {"id":"r","task_identifier":"t","status":"%s","input":1}\n\n'
GONE = b'event: gone\ndata: {"id":"r"}\n\n'
END = b'event: end\nid: 3.0.end\ndata: {"status":"completed"}\n\n'
WHOLE = {"id": "r", "task_identifier": "t", "status": "completed", "input": 1, "result": 2}


async def news_of(server: ScriptedServer, **options: Any) -> list[Any]:
    given = {"retry": QUICK, "deadline": 0.5, **options}
    async with Connection(server.url, None, engine_error, **given).lent() as connection:
        return [one async for one in followed(connection, "r", silence=0.2)]


async def test_it_comes_back_with_the_last_id() -> None:
    busy = refused(503, "storage_error", "later")
    first, then = streamed(RUN % (1, b"running")), streamed(RUN % (2, b"running"), END)
    with ScriptedServer(first, busy, silent, then, told(200, WHOLE)) as server:
        news = await news_of(server, deadline=10.0)
    assert [one.status for one in news] == ["running", "running", "completed"]
    assert news[-1].value == 2
    last = [request.headers.get("Last-Event-ID") for request in server.requests]
    assert last == [None, "1.0", "1.0", "1.0", None]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (streamed(GONE), RunNotFoundError, "run r was removed"),
        (streamed(), NoAnswerError, "ends the stream again and again"),
        (streamed(b"event: run\ndata: {}\n\n"), BadAnswerError, "use the same version"),
        (reply(200, b"<html>", "text/html"), BadAnswerError, "text/html instead"),
        (refused(401, "unauthorized", "no"), RemoteError, "no"),
        (silent, TimeoutError, "no answer"),
    ],
)
async def test_what_ends_it(answer: Reply, error: type[Exception], words: str) -> None:
    with ScriptedServer(answer) as server, pytest.raises(error, match=words):
        await news_of(server)
