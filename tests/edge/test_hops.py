"""From one invocation to the next: what is asked for, what is saved, and that nothing is lost."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.conftest import NUMBER, PARENT, STEPS, URL, Cloud, code_of, get, post
from sequential.core.model import InputField, Status, TaskConfig
from sequential.core.schedule import Schedule
from sequential.edge import Edge
from sequential.edge.message import Event
from sequential.errors import ConfigError, RunBusyError, RunNotFoundError
from sequential.runner.links import Links

ID = "019cab0e-97eb-7000-8000-000000000001"


async def start(edge: Edge, task: str, **input: Any) -> str:
    return str((await edge.handle(post(f"/tasks/{task}", {"input": input}))).json["id"])


async def test_a_budget_of_nothing_is_one_turn_for_each_invocation(cloud: Cloud) -> None:
    async with cloud.invoked(budget=0) as edge:
        run_id = await start(edge, "steps", n=3)
        turns = [(await cloud.run(run_id)).turn]
        while cloud.fired:
            assert cloud.fired == [run_id]
            await edge.hops.resume(cloud.fired.pop())
            turns.append((await cloud.run(run_id)).turn)
    assert turns == [1, 2, 3, 4]
    assert (await cloud.run(run_id)).value == [0, 1, 2]


async def test_each_invocation_may_be_another_process(cloud: Cloud) -> None:
    async with cloud.invoked(budget=0) as edge:
        run_id = await start(edge, "steps", n=4)
    count = 0
    while cloud.fired:
        count += 1
        async with cloud.invoked(budget=0) as edge:
            await edge.hops.resume(cloud.fired.pop())
    assert count == 4
    assert (await cloud.run(run_id)).value == [0, 1, 2, 3]
    assert [call.attempts for call in await cloud.calls(run_id)] == [1, 1, 1, 1]


async def test_a_thousand_steps_in_a_thousand_invocations(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, "memory:")  # it is the hops that are tried, not the disk
    async with cloud.engine() as engine:
        await engine.store_task("steps", STEPS, TaskConfig(name="steps", inputs=NUMBER))
        edge = cloud.function(budget=0, storage=lambda: contextlib.nullcontext(engine))
        run_id = await start(edge, "steps", n=1000)
        assert await cloud.deliver(edge) == 1000
        run = await engine.get_run(run_id)
        assert run.turn == 1001
        assert run.value == list(range(1000))
        assert len(cloud.tool.performed) == 1000
        assert [call.attempts for call in await engine.list_calls(run_id)] == [1] * 1000


async def test_a_platform_that_leaves_no_time_gets_one_turn(cloud: Cloud) -> None:
    async with cloud.invoked(budget=60) as edge:
        run = await edge.hops.start("steps", {"n": 2}, None, seconds_left=0.0)
        assert (run.turn, cloud.fired) == (1, [run.id])
        run = await edge.hops.resume(run.id, seconds_left=600.0)
        assert run.status is Status.COMPLETED


async def test_a_run_that_is_driven_elsewhere_is_busy(cloud: Cloud) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def echo(x: int) -> int:
        inside.set()
        await go_on.wait()
        return x

    cloud.tool = type(cloud.tool)("tool", {"echo": echo})
    async with cloud.invoked() as one, cloud.invoked() as two:
        driving = asyncio.create_task(start(one, "steps", n=1))
        await inside.wait()
        async with cloud.engine() as engine:
            [run] = await engine.list_runs("steps")
        token = Links(b"nobody knows").resume(run.id)
        response = await two.handle(post(token))
        assert code_of(response) == (409, "run_busy")
        assert response.headers["Retry-After"] == "5"
        with pytest.raises(RunBusyError):  # for a queue to deliver it again
            await two.handle_event(Event(run.id))
        again = post("/tasks/steps", {"input": {"n": 1}, "id": run.id})
        assert (await two.handle(again)).json["status"] == "running"
        go_on.set()
        assert await driving == run.id
    assert (await cloud.run(run.id)).value == [0]
    assert len(cloud.tool.performed) == 1


async def test_many_deliveries_of_one_start_make_one_run(cloud: Cloud) -> None:
    ask = post("/tasks/steps", {"input": {"n": 3}, "id": ID})
    async with cloud.invoked() as one, cloud.invoked() as two:
        asked = [edge.handle(ask) for edge in (one, two) for _ in range(10)]
        responses = await asyncio.gather(*asked)
    assert {response.json["id"] for response in responses} == {ID}
    assert {response.status for response in responses} <= {200, 202}
    assert (await cloud.run(ID)).value == [0, 1, 2]
    assert len(cloud.tool.performed) == 3


async def test_many_deliveries_of_one_resume_drive_it_once(cloud: Cloud) -> None:
    async with cloud.invoked(budget=0) as one, cloud.invoked(budget=0) as two:
        run_id = await start(one, "steps", n=5)
        while cloud.fired:
            cloud.fired.clear()
            asked = [edge.hops.resume(run_id) for edge in (one, two) for _ in range(3)]
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                assert not isinstance(outcome, BaseException) or isinstance(outcome, RunBusyError)
    assert (await cloud.run(run_id)).value == [0, 1, 2, 3, 4]
    assert [call.attempts for call in await cloud.calls(run_id)] == [1] * 5


async def test_a_resume_that_comes_late_changes_nothing(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        done, asleep = await start(edge, "steps", n=1), await start(edge, "sleeper")
        before = await cloud.run(asleep)
        for run_id in (done, asleep):
            assert (await edge.hops.resume(run_id)).id == run_id
        assert await cloud.run(asleep) == before
        with pytest.raises(RunNotFoundError):
            await edge.hops.resume(ID)
    assert cloud.fired == []


async def test_children_are_begun_and_wake_their_parent(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id = await start(edge, "parent", n=3)
        assert len(cloud.fired) == 3
        await cloud.deliver(edge)
    run = await cloud.run(run_id)
    assert (run.status, run.value) == (Status.COMPLETED, [[], [0], [0, 1]])


async def test_a_sweep_asks_for_what_is_due(cloud: Cloud) -> None:
    async with cloud.engine() as engine:
        lost = [(await engine.create_run("steps", {"n": 1})).id for _ in range(3)]
        later = await engine.create_run("steps", {"n": 1}, delay=3600)
    async with cloud.invoked() as edge:
        for method in (post, get):
            cloud.fired.clear()
            response = await edge.handle(method("/sweep"))
            assert sorted(response.json["resumed"]) == sorted(lost) == sorted(cloud.fired)
        await cloud.deliver(edge)
        assert (await edge.handle(post("/sweep"))).json == {"resumed": []}
    assert (await cloud.run(later.id)).status is Status.PENDING


async def test_a_sweep_begins_the_runs_that_schedules_ask_for(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud.engine() as engine:
        await engine.schedules.set("steps", Schedule("often", every=1, input={"n": 2}))
        await engine.schedules.set("parent", Schedule("often", every=1, input={"n": 2}))
        changed = TaskConfig(name="parent", inputs=(InputField("other"),))
        await engine.store_task("parent", PARENT, changed)
    async with cloud.invoked() as edge, asyncio.timeout(20):
        while len(begun := (await edge.handle(post("/sweep"))).json["resumed"]) < 2:
            await asyncio.sleep(0.05)
        await cloud.deliver(edge)
    assert [(await cloud.run(run_id)).value for run_id in begun[:2]] == [[0, 1], [0, 1]]
    told = "schedule parent/often: the input does not fit parent"
    assert len([line for line in caplog.messages if line.startswith(told)]) == 1


async def test_a_sweep_that_can_ask_nobody_drives_by_itself(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQUENTIAL_PUBLIC_URL", raising=False)
    async with cloud.engine() as engine:
        lost = [(await engine.create_run("steps", {"n": n})).id for n in range(3)]
    async with cloud.invoked(fire=None, base_url="") as edge:
        assert sorted(await edge.handle_event(Event())) == sorted(lost)
    assert [(await cloud.run(run_id)).value for run_id in lost] == [[], [0], [0, 1]]


async def test_a_run_whose_function_died_is_taken_over_when_its_lease_is_over(
    cloud: Cloud,
) -> None:
    async with cloud.engine() as engine:
        run = await engine.create_run("steps", {"n": 1})
        now = engine.now()
        await engine.storage.claim(run.id, "of one who died", now, now)
    async with cloud.invoked() as edge:
        assert await edge.handle_event(Event()) == [run.id]
        await cloud.deliver(edge)
    assert (await cloud.run(run.id)).value == [0]


async def test_a_lease_of_a_function_is_short(cloud: Cloud) -> None:
    from sequential.core import times

    leases = []

    async def echo(x: int) -> int:
        async with cloud.engine() as engine:
            [run] = await engine.list_runs("steps")
            leases.append(times.seconds_between(engine.now(), str(run.lease_until)))
        return x

    cloud.tool = type(cloud.tool)("tool", {"echo": echo})
    async with cloud.invoked(lease=7) as edge:
        await start(edge, "steps", n=1)
    assert len(leases) == 1
    assert 5 < leases[0] <= 7


async def test_hooks_may_be_coroutines_and_may_fail(cloud: Cloud, caplog: Any) -> None:
    heard = []

    async def fire(run_id: str) -> None:
        heard.append(run_id)

    async def schedule(run_id: str, wake_at: str) -> None:
        raise RuntimeError("the timer is full")

    async with cloud.invoked(budget=0, fire=fire, schedule=schedule) as edge:
        going_on = await start(edge, "steps", n=1)
        assert heard == [going_on]
        asleep = await start(edge, "sleeper")
        assert heard == [going_on]
        assert (await cloud.run(asleep)).wake_at is not None
    assert "the timer is full" in caplog.text


async def test_a_hop_that_cannot_be_asked_for_is_logged(cloud: Cloud, caplog: Any) -> None:
    for base_url in ("http://127.0.0.1:1", "http://ä.invalid", "https://127.0.0.1:1"):
        async with cloud.invoked(budget=0, fire=None, base_url=base_url) as edge:
            run_id = await start(edge, "steps", n=1)
        run = await cloud.run(run_id)
        assert (run.status, run.turn) == (Status.SUSPENDED, 1)
        assert f"run {run_id}: /resume could not be asked for" in caplog.text


async def test_the_address_of_the_next_hop_is_that_of_the_platform_or_of_a_friend(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQUENTIAL_PUBLIC_URL", raising=False)
    async with cloud.invoked(base_url="") as edge:
        run_id = (await edge.handle(post("/tasks/approval", host="friend.example"))).json["id"]
        assert edge.base_url == "https://friend.example"
        link = edge.link(run_id, "word").removeprefix("https://friend.example")
        answer = post(link, token="", host="evil.example")
        assert (await edge.handle(answer)).status == 202
        refused = post("/sweep", token="", host="evil.example")
        assert (await edge.handle(refused)).status == 401
        assert edge.base_url == "https://friend.example"
        on_platform = msgspec.structs.replace(answer, base_url="https://platform.example")
        assert (await edge.handle(on_platform)).status == 202
        assert edge.base_url == "https://platform.example"


@pytest.mark.parametrize("url", ["function.example", "ftp://a", "http://", "http://[::bad"])
def test_a_base_url_that_cannot_be_one_is_refused(
    cloud: Cloud, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="address"):
        cloud.function(base_url=url)
    monkeypatch.setenv("SEQUENTIAL_PUBLIC_URL", url)
    with pytest.raises(ConfigError, match="address"):
        cloud.function(base_url="")


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"host": "a.example"}, "https://a.example"),
        ({"host": "a.example", "x-forwarded-proto": "http"}, "http://a.example"),
        ({"host": "a.example", "x-forwarded-proto": "file"}, "https://a.example"),
        ({"host": "127.0.0.1:80"}, "http://127.0.0.1:80"),
        ({"host": "localhost:9"}, "http://localhost:9"),
        ({"host": "a/b"}, ""),
        ({"host": "[::bad"}, ""),
        ({"host": ":80"}, ""),
        ({"host": "user@a"}, ""),
        ({"host": "a\r\nx: y"}, ""),
        ({}, ""),
    ],
)
def test_what_the_header_host_says(headers: dict[str, str], url: str) -> None:
    assert post("/", **headers).host_url == url


async def test_the_engine_is_opened_again_on_another_loop(cloud: Cloud) -> None:
    edge = cloud.function()

    def once() -> Any:
        async def work() -> Any:
            try:
                return await edge.handle(post("/tasks/steps", {"input": {"n": 1}}))
            finally:
                await edge.close()

        return asyncio.run(work())

    for _ in range(2):
        assert (await asyncio.to_thread(once)).status == 200
    assert edge.base_url == URL


async def test_many_threads_share_a_function(cloud: Cloud) -> None:
    edge = cloud.function()
    asks = [post("/tasks/steps", {"input": {"n": 2}}) for _ in range(10)]
    try:
        found = await asyncio.gather(*(asyncio.to_thread(edge.handle_sync, ask) for ask in asks))
    finally:
        await asyncio.to_thread(edge.close_sync)
    assert [response.json["result"] for response in found] == [[0, 1]] * 10
    assert len({response.json["id"] for response in found}) == 10
