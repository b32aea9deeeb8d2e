"""Live news of runs, over real sockets."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sequential.config import load_settings
from sequential.core.model import Status, TaskConfig
from sequential.errors import StorageUnreachableError
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker
from sequential.testing.services import FakeService
from sequential.web import channel, followed, hub, stream
from sequential.web.channel import event
from support.live_server import API, PATIENCE, Event, Live, serving
from support.postgres_server import postgres_server

TASKS = {
    "approval": "async def approval():\n    return await wait_for_event('word')",
    "steps": (
        "async def steps(count=3):\n"
        "    for number in range(count):\n"
        "        print('at', number)\n"
        "        await services.tool.echo(number)\n"
        "    return await wait_for_event('word')"
    ),
    "long": (
        "async def long(count=1):\n"
        "    for number in range(count):\n"
        "        await services.tool.echo(number)\n"
    ),
}
GRAPH = '{"initial": "a", "states": {"a": {"onDone": "b"}, "b": {"type": "final"}}}'


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory:", [FakeService("tool", {"echo": lambda value: value})]) as made:
        for name, code in TASKS.items():
            await made.store_task(name, code, TaskConfig(name))
        yield made


@pytest.fixture
async def live(engine: Engine) -> AsyncIterator[Live]:
    async with serving(engine) as made:
        yield made


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


async def test_a_run_is_followed_to_its_end(live: Live) -> None:
    run = await live.engine.create_run("approval")

    async with live.follow(f"/runs/{run.id}/events") as follower:
        (*_, waiting) = await follower.until("run", status="suspended")
        await live.engine.answer(run.id, "word", "yes")
        rest = await follower.rest()

    assert waiting.data["where"]["source"]
    assert rest[-1] == Event("end", {"status": "completed"}, rest[-1].id)
    assert [event.data["status"] for event in rest if event.name == "run"][-1] == "completed"
    assert "result" not in rest[-2].data
    await live.nobody_follows()


async def test_calls_and_lines_come_as_they_happen(engine: Engine) -> None:
    run = await engine.create_run("steps", {"count": 3})
    async with (
        serving(engine, drive=False) as live,
        live.follow(f"/runs/{run.id}/events") as follower,
    ):
        first = await follower.next()
        working = asyncio.create_task((worker := Worker(engine)).run())
        seen = await follower.until("run", status="suspended")
        worker.stop()
        await working

    assert first is not None
    assert (first.name, first.data["status"]) == ("run", "pending")
    last = {e.data.get("sequence", 0): e.data for e in seen if e.name == "call"}
    assert [call["operation"] for call in last.values()] == ["tool.echo"] * 3 + ["events.wait"]
    assert [last[number]["result"] for number in range(3)] == [0, 1, 2]
    lines = [event.data for event in seen if event.name == "log"]
    assert [line["number"] for line in lines] == list(range(len(lines)))
    assert "".join(line["text"] for line in lines) == "at 0\nat 1\nat 2\n"


async def test_who_comes_back_gets_what_was_missed(live: Live) -> None:
    run = await live.engine.create_run("steps", {"count": 2})
    async with live.follow(f"/runs/{run.id}/events") as follower:
        await follower.until("run", status="suspended")
    await live.engine.answer(run.id, "word", "yes")
    ended = await live.engine.wait(run.id, PATIENCE)
    turn, _, lines = follower.last.partition(".")

    async with live.follow(
        f"/runs/{run.id}/events", headers={"Last-Event-ID": follower.last}
    ) as again:
        missed = await again.rest()
    async with live.follow(
        f"/runs/{run.id}/events", params={"last_event_id": f"{turn}.{int(lines) - 1}"}
    ) as earlier:
        more = await earlier.rest()

    assert names(missed) == ["call", "run", "end"]
    assert missed[0].data["operation"] == "events.wait"
    assert missed[1].data["turn"] == ended.turn
    assert names(more) == ["log", "call", "run", "end"]


async def test_who_has_had_the_end_need_not_come_back(live: Live) -> None:
    run = await live.engine.create_run("long")
    async with live.follow(f"/runs/{run.id}/events") as follower:
        await follower.rest()

    headers = {"Last-Event-ID": follower.last}
    answer = await live.client.get(f"{API}/runs/{run.id}/events", headers=headers)

    assert answer.status_code == 204


@pytest.mark.parametrize("last", ["nonsense", "-1.0", "9999.0", "²." + "9" * 50, "0." + "1" * 99])
async def test_an_id_of_elsewhere_asks_to_load_again(live: Live, last: str) -> None:
    run = await live.engine.create_run("approval")

    async with live.follow(f"/runs/{run.id}/events", params={"last_event_id": last}) as follower:
        first, second = await follower.next(), await follower.next()

    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("reset", "run")


async def test_a_run_that_is_retried_is_followed_anew(live: Live) -> None:
    code = "async def breaks():\n    await services.tool.echo(1)\n    return 1 / 0"
    await live.engine.store_task("breaks", code, TaskConfig("breaks"))
    run = await live.engine.create_run("breaks")
    async with live.follow(f"/runs/{run.id}/events") as follower:
        assert (await follower.rest())[-1].data == {"status": "failed"}
    await live.engine.retry(run.id)

    async with live.follow(f"/runs/{run.id}/events", headers={"Last-Event-ID": "9.0"}) as again:
        seen = await again.until("end")

    assert (seen[0].name, seen[1].name) == ("reset", "run")
    assert seen[-1].data == {"status": "failed"}


async def test_what_is_not_there_is_not_followed(live: Live) -> None:
    answer = await live.client.get(f"{API}/runs/019cab0e-97eb-7000-8000-000000000001/events")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "run_not_found"


async def test_a_run_that_is_removed_is_gone(live: Live) -> None:
    run = await live.engine.create_run("approval")
    async with (
        live.follow(f"/runs/{run.id}/events") as follower,
        live.follow("/events") as all_runs,
    ):
        await follower.until("run", status="suspended")
        await all_runs.until("run", id=run.id)
        await live.engine.storage.delete_task_run(run.id)

        assert names(await follower.rest())[-1] == "gone"
        assert (await all_runs.until("gone"))[-1].data == {"id": run.id}


async def test_all_runs_are_followed(live: Live) -> None:
    old = await live.engine.create_run("approval")
    await live.engine.storage.get_task_run(old.id)
    async with live.follow("/events") as follower:
        new = await live.engine.create_run("long")
        seen = await follower.until("run", id=new.id, status="completed")

    assert {event.name for event in seen} == {"run"}
    assert seen[-1].data["input"] is None
    assert "code" not in seen[-1].data
    await live.nobody_follows()


async def test_runs_are_chosen_by_task_and_status(live: Live) -> None:
    async with (
        live.follow("/events", params={"task": "approval"}) as approvals,
        live.follow("/events", params={"status": ["completed", "failed"]}) as over,
    ):
        quick = await live.engine.create_run("long")
        waiting = await live.engine.create_run("approval")
        await live.engine.wait(quick.id, PATIENCE)
        of_task = await approvals.until("run", status="suspended")
        await live.engine.answer(waiting.id, "word", 1)
        ended = await over.until("run", id=waiting.id)

    assert {event.data["id"] for event in of_task} == {waiting.id}
    assert [event.data["id"] for event in ended] == [quick.id, waiting.id]


async def test_handlers_of_a_graph_are_not_among_all_runs(live: Live) -> None:
    code = "async def a():\n    return await services.tool.echo(1)"
    await live.engine.store_task("graphed", code, TaskConfig("graphed", graph=GRAPH))
    async with live.follow("/events") as follower:
        run = await live.engine.create_run("graphed")
        seen = await follower.until("run", id=run.id, status="completed")

    assert {event.data["id"] for event in seen} == {run.id}


async def test_all_runs_are_followed_again_from_where_one_was(live: Live) -> None:
    async with live.follow("/events") as follower:
        first = await live.engine.create_run("long")
        await follower.until("run", id=first.id, status="completed")
    missed = await live.engine.create_run("long")
    await live.engine.wait(missed.id, PATIENCE)

    async with live.follow("/events", headers={"Last-Event-ID": follower.last}) as again:
        seen = await again.until("run", id=missed.id, status="completed")

    assert "reset" not in names(seen)


async def test_too_much_was_missed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "MOST_MISSED", 2)
    for _ in range(4):
        await live.engine.create_run("approval")

    long_ago = "2020-01-01T00:00:00.000Z/x"
    for last in (long_ago, "nonsense", "9" * 500):
        async with live.follow("/events", headers={"Last-Event-ID": last}) as follower:
            first = await follower.next()
            assert first is not None
            assert first.name == "reset"
            assert follower.last.startswith("20")


async def test_a_run_that_hurries_is_told_of_now_and_then(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = live.engine.storage.load_calls

    async def counted(run_id: str, after: int = 0) -> Any:
        nonlocal looks
        looks += 1
        return await real(run_id, after)

    run = await live.engine.create_run("long", {"count": 300}, delay=1.0)
    async with contextlib.AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(live.follow(f"/runs/{run.id}/events"))
            for _ in range(20)
        ]
        begun = asyncio.get_running_loop().time()
        monkeypatch.setattr(live.engine.storage, "load_calls", counted)
        seen = await asyncio.gather(*(follower.rest() for follower in followers))
        seconds = asyncio.get_running_loop().time() - begun

    for events in seen:
        assert events[-1].name == "end"
        assert names(events).count("run") <= 10 * seconds + 3
    assert looks <= 10 * seconds + 5  # not for each follower


async def test_who_reads_too_slowly_is_asked_to_load_again(live: Live) -> None:
    run = await live.engine.create_run("approval")
    async with live.hub.following(run.id) as news:
        events = stream._events(live.hub, contextlib.nullcontext(news), None)
        assert await anext(events) == stream.RETRY
        assert b"event: run" in await anext(events)
        for number in range(channel.MOST + 1):
            news.put(f"call {number}", event("call", {"sequence": number}))

        late = await anext(events)
        await events.aclose()

    assert late.startswith(b"event: reset")


async def test_a_quiet_stream_is_kept_alive_and_ends_some_time(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)
    monkeypatch.setattr(stream, "LONGEST", 0.4)

    async with live.follow("/events") as follower:
        rest = await follower.rest()

    assert names(rest) == ["bye"]
    assert follower.comments


async def test_those_who_go_are_forgotten(live: Live) -> None:
    run = await live.engine.create_run("approval")
    async with contextlib.AsyncExitStack() as stack:
        for path in (f"/runs/{run.id}/events", "/events"):
            for _ in range(10):
                await stack.enter_async_context(live.follow(path))
        async with asyncio.timeout(PATIENCE):
            while live.hub.listeners < 20:
                await asyncio.sleep(0.01)

    await live.nobody_follows()


async def test_a_server_that_ends_says_goodbye(engine: Engine) -> None:
    async with serving(engine) as live:
        run = await engine.create_run("approval")
        async with (
            live.follow(f"/runs/{run.id}/events") as one,
            live.follow("/events") as every,
        ):
            await one.until("run", status="suspended")
            live.server.stop()
            assert names(await one.rest())[-1] == "bye"
            assert names(await every.rest())[-1] == "bye"


async def test_what_nobody_told_of_is_found_although_others_are_busy(live: Live) -> None:
    quiet, busy = [await live.engine.create_run("approval", delay=60) for _ in range(2)]
    async with (
        live.follow(f"/runs/{quiet.id}/events") as follower,
        live.follow(f"/runs/{busy.id}/events"),
    ):
        await follower.next()

        async def be_busy() -> None:
            while True:
                live.engine.storage._announce(busy.id)
                await asyncio.sleep(0.01)

        noise = asyncio.create_task(be_busy())
        await live.engine.storage.update_task_run(quiet.id, priority=7, answers=3)
        seen = await follower.until("run", priority=7)
        noise.cancel()

    assert names(seen) == ["run"]


async def test_trouble_with_the_store_passes(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TROUBLE", 0.01)
    run = await live.engine.create_run("approval")
    async with live.follow(f"/runs/{run.id}/events") as follower:
        await follower.until("run", status="suspended")
        troubles, real = 3, live.engine.storage.load_calls

        async def load_calls(run_id: str, after: int = 0) -> Any:
            nonlocal troubles
            if troubles and asyncio.current_task() is not None:
                troubles -= 1
                raise StorageUnreachableError
            return await real(run_id, after)

        monkeypatch.setattr(live.engine.storage, "load_calls", load_calls)
        await live.engine.storage.update_task_run(run.id, wake_at="2999-01-01T00:00:00.000Z")
        live.engine.storage._announce(run.id)
        seen = await follower.until("run", wake_at="2999-01-01T00:00:00.000Z")

    assert troubles == 0
    assert names(seen)[-1] == "run"


NAPS = """
import asyncio

async def naps():
    print("begun")
    await asyncio.sleep(0.2)
    return 1
"""
WORKER = """
import asyncio, sys
from pathlib import Path
from sequential.config import load_settings
from sequential.errors import StorageUnreachableError
from sequential.runner.engine import Engine
from sequential.runner.worker import Worker

async def main():
    async with Engine(settings=load_settings(Path(sys.argv[1]), adaptor=sys.argv[2])) as engine:
        await Worker(engine).run()

asyncio.run(main())
"""


@pytest.fixture(params=["folder", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that several processes share."""
    if request.param == "folder":
        yield "folder"
    elif request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'runs.db'}"
    else:
        try:
            with postgres_server() as server:
                yield server.url
        except LookupError as error:
            pytest.skip(str(error))


async def test_runs_that_another_process_drives_are_followed(store: str, tmp_path: Path) -> None:
    async with Engine(settings=load_settings(tmp_path, adaptor=store)) as engine:
        await engine.store_task("naps", NAPS, TaskConfig("naps"))
        async with serving(engine, drive=False) as live:
            run = await engine.create_run("naps")
            async with (
                live.follow(f"/runs/{run.id}/events") as one,
                live.follow("/events") as every,
            ):
                command = [sys.executable, "-c", WORKER, str(tmp_path), store]
                worker = subprocess.Popen(command)
                try:
                    events = await one.rest()
                    await every.until("run", id=run.id, status=Status.COMPLETED)
                finally:
                    worker.kill()
                    worker.wait()

    assert names(events)[-1] == "end"
    assert {"log", "call", "run"} <= set(names(events))
