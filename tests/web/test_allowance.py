"""What a token with limits may send and start, counted by the store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sequential.core.bounds import TokenLimits
from sequential.core.model import Allow, Bounds, Limits, TaskConfig
from sequential.runner.engine import Engine
from sequential.testing.clock import FakeClock
from sequential.web.allowance import COLLECTION
from sequential.web.settings import ServerSettings
from web.conftest import APPROVAL, serving

RUNS = "/api/v1/runs"
TASKS = "/api/v1/tasks"
RUN = "01a2003f-03ce-7480-a5c4-cbd08b0bbd54"
CODE = "async def main():\n    return 1"


@contextlib.asynccontextmanager
async def within(
    engine: Engine, settings: ServerSettings | None = None, **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token of these limits."""
    _, token = await engine.tokens.create("guest", "operate", limits=TokenLimits(**limits))
    async with serving(engine, settings, drive=False) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


async def start(client: httpx.AsyncClient, task: str = "approval", **more: Any) -> httpx.Response:
    return await client.post(RUNS, json={"task": task, **more})


def code_of(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


async def test_a_task_that_is_sent_is_within_the_limits(engine: Engine) -> None:
    async with within(engine, hosts=("a.example",), timeout=9.0, limits=Limits(memory_mb=8)) as c:
        config = {"allow": {"hosts": ["*"]}, "timeout": 100}
        answer = await c.put(f"{TASKS}/mine", json={"code": CODE, "config": config})
    stored = (await engine.get_task("mine")).config

    assert answer.status_code == 201
    assert stored.allow.hosts == ("*",)
    assert stored.allow.within == (
        Bounds(hosts=("*",), services=("*",)),
        Bounds(hosts=("a.example",), limits=Limits(memory_mb=8), timeout=9.0),
    )
    assert (stored.timeout, stored.limits.memory_mb) == (9.0, 8)


async def test_so_is_a_run_of_anybodys_task(engine: Engine) -> None:
    async with within(engine, secrets=("crm/*",)) as client:
        run_id = (await start(client)).json()["id"]
    run = await engine.get_run(run_id)

    assert run.config.allow.within == (Bounds(secrets=("crm/*",)),)
    assert (await engine.get_task("approval")).config.allow == Allow()


async def test_only_its_tasks(engine: Engine) -> None:
    other = await engine.create_run("hello", {"name": "Ada"})
    async with within(engine, tasks=("approval", "mine")) as client:
        body = {"code": CODE}
        answers = [
            await start(client, "hello", input={"name": "Ada"}),
            await client.post("/task/submit", json={"task_identifier": "hello", "input": {}}),
            await client.post("/tasks/hello", json={"name": "Ada"}),
            await client.put(f"{TASKS}/hello", json=body),
            await client.delete(f"{TASKS}/hello"),
            await client.post(f"{RUNS}/{other.id}/cancel"),
            await client.post(f"{RUNS}/{other.id}/pause"),
            await client.post(f"/resume/{other.id}"),
            await client.post(f"/resume/{other.id}/word", json=1),
            await client.post(f"{RUNS}/{other.id}/answer", json={"name": "word"}),
        ]
        fine = [await start(client), await client.put(f"{TASKS}/mine", json=body)]

    assert {code_of(answer) for answer in answers} == {"403 forbidden"}
    assert [answer.status_code for answer in fine] == [201, 201]
    assert (await engine.get_run(other.id)).status == "pending"


async def test_no_more_code_than_allowed(engine: Engine) -> None:
    async with within(engine, largest_code=40) as client:
        small = await client.put(f"{TASKS}/mine", json={"code": CODE})
        large = await client.put(f"{TASKS}/mine", json={"code": CODE + "#" * 40})

    assert small.status_code == 201
    assert code_of(large) == "413 too_large"
    assert (await engine.get_task("mine")).code == CODE


async def test_no_schedules_and_no_bounds_of_its_own(engine: Engine) -> None:
    async with within(engine, runs=1) as client:
        schedules = [{"name": "often", "every": 60}]
        timed = {"code": CODE, "config": {"schedules": schedules}}
        hook = {"code": CODE, "config": {"webhooks": [{"name": "often", "secret": "a"}]}}
        wide = {"code": CODE, "config": {"allow": {"within": []}}}
        answers = [await client.put(f"{TASKS}/mine", json=body) for body in (timed, wide, hook)]

    assert [code_of(answer) for answer in answers] == [
        *("403 forbidden", "400 invalid_config", "403 forbidden")
    ]


async def test_so_many_runs_at_a_time(engine: Engine) -> None:
    async with within(engine, runs=2) as client:
        first, second, third = [await start(client) for _ in range(3)]
        assert [first.status_code, second.status_code] == [201, 201]
        assert code_of(third) == "429 run_limit"
        assert third.headers["retry-after"]

        await client.post(f"{RUNS}/{first.json()['id']}/cancel")
        assert (await start(client)).status_code == 201
        assert code_of(await start(client)) == "429 run_limit"


async def test_also_if_they_are_started_at_once(engine: Engine) -> None:
    async with within(engine, runs=3) as client:
        answers = await asyncio.gather(*(start(client) for _ in range(12)))

    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 9
    assert len(await engine.list_runs("approval")) == 3


async def test_what_is_refused_takes_no_place(engine: Engine) -> None:
    async with within(engine, runs=1) as client:
        for _ in range(3):
            assert (await start(client, "hello", input={"nam": 1})).status_code == 400
            assert (await start(client, "no-such")).status_code == 404
        assert (await start(client)).status_code == 201


async def test_a_run_that_is_sent_again_is_the_same_one(engine: Engine) -> None:
    async with within(engine, runs=1) as client:
        first, second = await start(client, id="order-7"), await start(client, id="order-7")
        other = await start(client, "hello", id="order-7", input={"name": "Ada"})

    assert [first.status_code, second.status_code] == [201, 200]
    assert first.json()["id"] == second.json()["id"]
    assert code_of(other) == "409 run_exists"


async def test_so_much_time_for_all_runs() -> None:
    clock = FakeClock()
    async with Engine("memory:", clock=clock) as engine:
        await engine.store_task("approval", APPROVAL, TaskConfig("approval", timeout=60.0))
        async with within(engine, run_seconds=100.0) as client:
            first = (await start(client)).json()["id"]
            second = (await start(client)).json()["id"]
            refused = await start(client)
            assert code_of(refused) == "403 run_time_used"
            assert (await engine.get_run(first)).config.timeout == 60.0
            assert (await engine.get_run(second)).config.timeout == 40.0

            clock.advance(10)
            await engine.cancel(first)  # it took 10 s, so 50 of its 60 are free again
            third = (await start(client)).json()["id"]
            assert (await engine.get_run(third)).config.timeout == pytest.approx(50.0)

            clock.advance(30)
            for run_id in (second, third):
                await engine.cancel(run_id)
            fourth = (await start(client)).json()["id"]  # 10 + 40 + 30 are used
            assert (await engine.get_run(fourth)).config.timeout == pytest.approx(20.0)


async def test_a_run_that_is_deleted_was_not_free() -> None:
    clock = FakeClock()
    async with Engine("memory:", clock=clock) as engine:
        await engine.store_task("approval", APPROVAL, TaskConfig("approval", timeout=60.0))
        async with within(engine, run_seconds=60.0) as client:
            run_id = (await start(client)).json()["id"]
            clock.advance(55)
            await engine.cancel(run_id)
            assert (await client.delete(f"{RUNS}/{run_id}")).status_code == 204
            clock.advance(10)
            assert code_of(await start(client)) == "403 run_time_used"


async def test_a_place_whose_run_was_never_created_is_free_after_a_while() -> None:
    """The server was killed between the two."""
    clock = FakeClock()
    async with Engine("memory:", clock=clock) as engine:
        await engine.store_task("approval", APPROVAL, TaskConfig("approval"))
        async with within(engine, runs=1) as client:
            holder = (await engine.tokens.list())[0].id
            lost = {"since": engine.now(), "seconds": None}
            await engine.storage.put_document(COLLECTION, holder, {"runs": {RUN: lost}})

            clock.advance(30)
            assert code_of(await start(client)) == "429 run_limit"
            clock.advance(31)
            assert (await start(client)).status_code == 201


async def test_what_holds_for_everybody(engine: Engine) -> None:
    sent = TokenLimits(
        hosts=("*", "10.0.0.5"), services=("*", "keystore"), tasks=("mine", "approval"),
        largest_code=100, runs=1, timeout=30.0,
    )  # fmt: skip
    async with serving(engine, ServerSettings(sent=sent), drive=False) as client:
        stored = await client.put(f"{TASKS}/mine", json={"code": CODE})
        large = await client.put(f"{TASKS}/mine", json={"code": "#" * 200})
        other = await client.put(f"{TASKS}/other", json={"code": CODE})
        runs = [await start(client) for _ in range(2)]
        foreign = await start(client, "hello", input={"name": "Ada"})
    config = (await engine.get_task("mine")).config

    assert stored.status_code == 201
    assert config.allow.within == (sent.bounds,)
    assert config.timeout == 30.0
    assert [code_of(large), code_of(other)] == ["413 too_large", "403 forbidden"]
    assert [answer.status_code for answer in runs] == [201, 429]
    assert code_of(foreign) == "403 forbidden"


async def test_who_has_no_limits_costs_no_document(
    client: httpx.AsyncClient, engine: Engine
) -> None:
    assert (await start(client)).status_code == 201
    assert await engine.storage.list_documents(COLLECTION) == []
