"""On the real runtime of AWS Lambda: killed and frozen at each step, and nothing is lost."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from edge.conftest import Cloud, post
from edge.lambda_runtime import DIED, Lambda, running, url_event
from sequential.core import ids
from sequential.core.model import Status, TaskRun
from sequential.edge.aws import handler
from sequential.edge.message import Event
from sequential.errors import RunBusyError
from support.postgres_server import PostgresServer

HERE = Path(__file__).parent
TOKEN = {"authorization": "Bearer let-me-in"}
LEASE = 1.0  # seconds, so that tests need not wait long for the runs of those who died
STEPS = range(1, 18)  # more than there are; behind the end nobody is killed


def function(cloud: Cloud, **environment: str) -> AbstractContextManager[Lambda]:
    place = {"STORE": cloud.storage, "PROJECT": str(cloud.project), "LEASE": str(LEASE)}
    ledger = {"LEDGER": str(cloud.project / "ledger")}
    return running("lambda_function.handler", HERE, **place, **ledger, **environment)


def start(instance: Lambda, run_id: str) -> tuple[str, Any]:
    body = f'{{"input": {{"n": 2}}, "id": "{run_id}"}}'
    return instance.invoke(url_event("POST", "/tasks/steps", body, TOKEN), 20_000)


def performed(cloud: Cloud) -> Counter[str]:
    """How often each call was performed, by its idempotency key."""
    ledger = cloud.project / "ledger"
    return Counter(ledger.read_text().split()) if ledger.exists() else Counter()


async def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def swept(instance: Lambda, cloud: Cloud, run_id: str) -> TaskRun:
    """The run when it is over; a timer calls the function until then."""
    async with cloud.engine() as engine:
        end = time.monotonic() + 20
        while not (run := await engine.get_run(run_id)).status.is_final:
            assert time.monotonic() < end, run
            await asyncio.to_thread(instance.invoke, {"source": "aws.events"})
            await asyncio.sleep(0.05)
        return run


def run_id_of(number: int) -> str:
    return ids.run_id(1_760_000_000_000, number.to_bytes(10, "big"))


async def test_a_run_goes_from_invocation_to_invocation_by_itself(cloud: Cloud) -> None:
    with function(cloud) as instance:
        what, answer = await asyncio.to_thread(start, instance, run_id_of(1))
        assert (what, answer["statusCode"]) == ("response", 202)
        async with cloud.engine() as engine:
            run = await engine.wait(run_id_of(1), 20)
    assert run.value == [0, 1]
    assert list(performed(cloud).values()) == [1, 1]


async def test_killed_at_each_step(cloud: Cloud) -> None:
    """The next instance, which the platform starts, and a timer bring each run to its end."""

    def killed(step: int) -> bool:
        with function(cloud, KILL_AT=str(step)) as instance:
            what, answer = start(instance, run_id_of(step))
            if (what, answer) == DIED:
                return True
            end = time.monotonic() + 20
            while instance.process.poll() is None:
                status, _run = instance.call("GET", f"/runs/{run_id_of(step)}", **TOKEN)
                if status == 200 or time.monotonic() > end:
                    return False
            return True

    def told(step: int) -> bool:
        try:
            return killed(step)
        except AssertionError:  # it was killed while it was asked how the run is doing
            return True

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(3) as threads:
        died = await asyncio.gather(*(loop.run_in_executor(threads, told, n) for n in STEPS))
    assert died[:15] == [True] * 15
    assert died[-1] is False
    with function(cloud) as instance:
        for step in STEPS:  # who got no answer asks again
            _what, answer = await asyncio.to_thread(start, instance, run_id_of(step))
            assert answer["statusCode"] in (200, 202), answer
        for step in STEPS:
            run = await swept(instance, cloud, run_id_of(step))
            assert (run.status, run.value) == (Status.COMPLETED, [0, 1]), step
    counts = performed(cloud)
    assert len(counts) == 2 * len(STEPS)
    assert max(counts.values()) <= 2
    assert sum(counts.values()) <= len(counts) + len(STEPS)


async def test_killed_while_an_answer_comes(cloud: Cloud) -> None:
    """Who answered was not told that it arrived, and delivers it again: it counts once."""
    async with cloud.invoked() as edge:
        asked = [(await edge.hops.start("approval", {}, None, None)).id for _ in range(2)]
        links = [edge.link(run_id, "word", data="yes") for run_id in asked]

    def killed(step: int) -> bool:
        _, place, path = links[step - 1].partition("/answer/")
        event = url_event("POST", place + path)
        with function(cloud, KILL_AT=str(step)) as instance:
            instance.invoke(event, 20_000)
            died = instance.process.poll() is not None
        with function(cloud) as instance:
            for _ in range(2):
                what, answer = instance.invoke(event, 20_000)
                assert (what, answer["statusCode"]) == ("response", 202)
        return died

    assert [await asyncio.to_thread(killed, step) for step in (1, 2)] == [True, True]
    with function(cloud) as instance:
        for run_id in asked:
            async with cloud.engine() as engine:
                await until(lambda: instance.call("POST", "/sweep", **TOKEN)[0] == 200)
                while (run := await engine.get_run(run_id)).events:
                    await asyncio.sleep(0.02)
            assert (run.answers, run.status.is_final) == (1, False)
            [first, _second] = await cloud.calls(run_id)
            assert first.result == "yes"


@pytest.mark.parametrize("step", [2, 3, 4, 6])
async def test_frozen_while_others_go_on(cloud: Cloud, step: int) -> None:
    """A function is frozen, its run is taken over, and later it finds that it has lost it."""
    run_id = run_id_of(step)
    hold = cloud.project / "hold"
    os.mkfifo(hold)
    with function(cloud, HOLD_AT=str(step), HOLD=str(hold)) as frozen:
        asked = asyncio.create_task(asyncio.to_thread(start, frozen, run_id))
        writing = await held(hold)
        frozen.freeze()
        await until(lambda: is_stopped(frozen))
        async with cloud.invoked() as other, cloud.engine() as engine:
            while not (run := await engine.get_run(run_id)).status.is_final:
                try:
                    await other.handle_event(Event(run_id))
                except RunBusyError:
                    await asyncio.sleep(0.05)
        assert run.value == [0, 1]
        frozen.thaw()
        os.close(writing)
        what, answer = await asked
        assert (what, answer["statusCode"]) in {("response", 200), ("response", 202)}
        assert await cloud.run(run_id) == run
        # The process that was frozen is as good as new.
        what, answer = await asyncio.to_thread(start, frozen, run_id_of(99))
        assert answer["statusCode"] in (200, 202)
        async with cloud.engine() as engine:
            assert (await engine.wait(run_id_of(99), 20)).value == [0, 1]


async def held(pipe: Path) -> int:
    """The pipe, opened for writing, when the function waits at its other end."""
    opened = []

    def is_open() -> bool:
        with contextlib.suppress(OSError):  # nobody reads yet
            opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(opened)

    await until(is_open)
    return int(opened[0])


def is_stopped(instance: Lambda) -> bool:
    stat = Path(f"/proc/{instance.process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


async def test_a_queue_gets_back_what_was_not_done(cloud: Cloud) -> None:
    async with cloud.engine() as engine:
        good = await engine.create_run("steps", {"n": 1})
    bodies = [f'{{"resume": "{good.id}"}}', f'{{"resume": "{run_id_of(7)}"}}', "no json", "{}"]
    records = [
        {"eventSource": "aws:sqs", "messageId": str(number), "body": body}
        for number, body in enumerate(bodies)
    ]
    with function(cloud, BUDGET="10") as instance:
        what, answer = await asyncio.to_thread(instance.invoke, {"Records": records})
    failed = {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]}
    assert (what, answer) == ("response", failed)
    assert (await cloud.run(good.id)).value == [0]


async def test_events_of_its_own(cloud: Cloud) -> None:
    async with cloud.engine() as engine:
        run = await engine.create_run("steps", {"n": 1})
    with function(cloud, BUDGET="10") as instance:
        for event in ({"resume": run.id}, {"source": "aws.scheduler", "detail": {}}):
            what, answer = await asyncio.to_thread(instance.invoke, event)
            assert what == "response"
            assert answer == {"resumed": [run.id] if "resume" in event else []}
        what, answer = await asyncio.to_thread(instance.invoke, {"resume": run_id_of(7)})
        assert (what, answer["errorType"]) == ("error", "RunNotFoundError")
    assert (await cloud.run(run.id)).value == [0]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (url_event("GET", "/health"), 200),
        (url_event("GET", "/health") | {"rawQueryString": "a=1&" * 1000}, 400),
        (url_event("POST", "/tasks/x") | {"body": "%%%", "isBase64Encoded": True}, 400),
        (
            url_event("GET", "/")
            | {
                "rawPath": "/prod/health",
                "requestContext": {
                    "http": {"method": "GET"},
                    "stage": "prod",
                    "domainName": "api.example",
                },
            },
            200,
        ),
        (
            {  # REST API
                "httpMethod": "GET",
                "path": "/health",
                "headers": None,
                "queryStringParameters": None,
                "body": None,
                "requestContext": {
                    "stage": "prod",
                    "path": "/prod/health",
                    "domainName": "api.example",
                },
            },
            200,
        ),
        (
            {  # load balancer
                "httpMethod": "GET",
                "path": "/health",
                "headers": {"Host": "lb.example"},
                "queryStringParameters": {"a": "1"},
                "body": "",
                "requestContext": {"elb": {"targetGroupArn": "arn"}},
            },
            200,
        ),
    ],
)
def test_the_shapes_of_requests(cloud: Cloud, event: dict[str, Any], status: int) -> None:
    edge = cloud.function(base_url="")
    try:
        assert handler(edge)(event, None)["statusCode"] == status
    finally:
        edge.close_sync()


def test_where_an_api_says_that_it_is(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQUENTIAL_PUBLIC_URL", raising=False)
    edge = cloud.function(base_url="")
    event = {
        "httpMethod": "POST",
        "path": "/sweep",
        "headers": {"Authorization": "Bearer let-me-in"},
        "queryStringParameters": None,
        "body": "e30=",
        "isBase64Encoded": True,
        "requestContext": {"stage": "prod", "path": "/prod/sweep", "domainName": "api.example"},
    }
    try:
        assert handler(edge)(event, None)["statusCode"] == 200
        assert edge.base_url == "https://api.example/prod"
    finally:
        edge.close_sync()


@pytest.fixture
async def on_postgres(tmp_path: Path) -> AsyncIterator[tuple[Cloud, PostgresServer]]:
    server = PostgresServer()
    server.start()
    try:
        cloud = Cloud(tmp_path, server.url)
        await cloud.deploy()
        yield cloud, server
    finally:
        server.stop()


async def test_of_many_deliveries_at_once_one_counts(
    on_postgres: tuple[Cloud, PostgresServer],
) -> None:
    cloud, _ = on_postgres
    async with (
        cloud.invoked() as one,
        cloud.invoked(fire=None, base_url="http://127.0.0.1:1") as two,
    ):
        run = await one.hops.start("approval", {}, None, None)
        for word in ("first", "second"):
            link = one.link(run.id, "word", data=word)
            deliveries = [edge.handle(post(link)) for edge in (one, two) for _ in range(10)]
            driving = [one.hops.resume(run.id) for _ in range(3)]
            found = await asyncio.gather(*deliveries, *driving, return_exceptions=True)
            assert [response.status for response in found[:20]] == [202] * 20  # type: ignore[union-attr]
            await cloud.deliver(one)
    run = await cloud.run(run.id)
    assert (run.value, run.answers) == (["first", "second"], 2)


async def test_connections_that_died_during_a_freeze(
    on_postgres: tuple[Cloud, PostgresServer],
) -> None:
    cloud, server = on_postgres
    with function(cloud) as instance:
        await asyncio.to_thread(start, instance, run_id_of(1))
        async with cloud.engine() as engine:
            assert (await engine.wait(run_id_of(1), 20)).value == [0, 1]
        instance.freeze()
        await until(lambda: is_stopped(instance))
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
        instance.thaw()
        what, answer = await asyncio.to_thread(start, instance, run_id_of(2))
        assert (what, answer["statusCode"]) == ("response", 202)
        async with cloud.engine() as engine:
            assert (await engine.wait(run_id_of(2), 20)).value == [0, 1]
    assert os.path.exists(cloud.project / "ledger")
    assert list(performed(cloud).values()) == [1] * 4
