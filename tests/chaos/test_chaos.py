"""Workers are killed and frozen at random, the database is restarted: nothing is lost or doubled.

Takes `CHAOS_SECONDS` per store; `make chaos` takes a minute for each, with 300 runs. If it is not
set: 8 seconds and half of the runs.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chaos.counting_api import SLOW, CountingApi, serve
from chaos.tasks import CONFIG, TASKS, answers
from chaos.troupe import FROZEN, Troupe
from sequential.config import load_settings
from sequential.core.journal import entries
from sequential.core.model import Status, TaskRun
from sequential.errors import SequentialError
from sequential.runner.engine import Engine
from support.postgres_server import postgres_server
from support.valkey_server import valkey

SECONDS = float(os.environ.get("CHAOS_SECONDS", "8"))
RUNS = 300 if "CHAOS_SECONDS" in os.environ else 150
WORKERS = 4
PATIENCE = 120.0  # seconds after the last disturbance in which everything has to end
LEASE = 4.0  # seconds; on a busy machine a worker may say nothing for a while
RESTART = 5.0  # seconds in which a call may be made again after a restart of the database

pytestmark = pytest.mark.timeout(SECONDS + PATIENCE + 60)


class Store(NamedTuple):
    """A store that several processes may open, and how it is restarted while they do."""

    url: str
    restart: Callable[[], None] | None = None


@contextmanager
def sqlite(folder: Path) -> Iterator[Store]:
    yield Store(f"sqlite:{folder / 'chaos.db'}")


@contextmanager
def folder(folder: Path) -> Iterator[Store]:
    yield Store("default")


@contextmanager
def postgres(folder: Path) -> Iterator[Store]:
    with postgres_server(durable=True) as server:

        def restart() -> None:
            server.kill()
            server.start()

        yield Store(server.url, restart)


@contextmanager
def redis(folder: Path) -> Iterator[Store]:
    with valkey(appendfsync="always") as server:

        def restart() -> None:
            server.kill()
            server.start()

        yield Store(server.url, restart)


STORES = {"sqlite": sqlite, "folder": folder, "postgres": postgres, "redis": redis}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with STORES[request.param](tmp_path) as found:
        yield found


def set_up(project: Path, store: Store) -> None:
    settings = {
        "adaptor": store.url,
        "runner": {"lease": LEASE},
        "http": {"allow_private": True},
    }
    (project / ".sequentialrc.json").write_text(json.dumps(settings))
    for name, (code, _) in TASKS.items():
        task = project / "tasks" / name
        task.mkdir(parents=True)
        (task / "code.py").write_text(code)
        (task / "config.json").write_text(json.dumps({"name": name, **CONFIG}))


async def submit(engine: Engine, api: CountingApi) -> list[TaskRun]:
    names = list(TASKS)
    runs = []
    for number in range(RUNS):
        name = names[number % len(names)]
        given = {"url": api.url, "count": TASKS[name][1]}
        delay = number / RUNS * SECONDS  # so that there is something to disturb all the time
        runs.append(await engine.create_run(name, given, delay=delay))
    return runs


async def answer_all(engine: Engine, runs: list[TaskRun]) -> None:
    """Answer the runs that wait for it, at any moment of their lives."""
    waiting = [run for run in runs if run.task_identifier == "approval"]
    while waiting:
        run = waiting.pop(random.randrange(len(waiting)))
        try:
            await engine.answer(run.id, "go", "after")
        except SequentialError:  # the database is being restarted: answers are the caller's to send
            if not (await _get(engine, run.id)).events:
                waiting.append(run)
        await asyncio.sleep(SECONDS / 100)


async def _get(engine: Engine, run_id: str) -> TaskRun:
    while True:
        try:
            return await engine.get_run(run_id)
        except SequentialError:
            await asyncio.sleep(0.1)


async def bring_chaos(troupe: Troupe, store: Store, dice: random.Random) -> None:
    end = time.monotonic() + SECONDS
    restart_at = time.monotonic() + SECONDS / 2
    while time.monotonic() < end:
        await asyncio.sleep(dice.uniform(0.1, 1.0))
        troupe.disturb()
        if store.restart and time.monotonic() > restart_at:
            restart_at = float("inf")
            begun = time.monotonic()
            await asyncio.to_thread(store.restart)
            troupe.disturbances.append((begun, time.monotonic() + RESTART))
    troupe.thaw(everybody=True)


async def until_all_ended(engine: Engine, runs: list[TaskRun], troupe: Troupe) -> list[TaskRun]:
    end = time.monotonic() + PATIENCE
    left = {run.id for run in runs}
    ended = {}
    while left:
        troupe.thaw()
        for run_id in list(left):
            run = await _get(engine, run_id)
            if run.status.is_final:
                left.discard(run_id)
                ended[run_id] = run
        assert time.monotonic() < end, f"{len(left)} runs have not ended:\n{troupe.log()[-3000:]}"
        await asyncio.sleep(0.1)
    return [ended[run.id] for run in runs]


async def test_nothing_is_lost_or_doubled(store: Store, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    print(f"seed {seed}")
    set_up(tmp_path, store)
    with serve() as api:
        async with Engine(project=tmp_path, settings=load_settings(tmp_path)) as engine:
            await sync_tasks(engine, tmp_path)
            troupe = Troupe(tmp_path, WORKERS, dice)
            try:
                runs = await submit(engine, api)
                answering = asyncio.create_task(answer_all(engine, runs))
                await bring_chaos(troupe, store, dice)
                await answering
                ended = await until_all_ended(engine, runs, troupe)
                codes = troupe.stop()
            finally:
                troupe.end()
            # One that was replaced a moment ago may not have come to catch the signal yet.
            assert {*codes} <= {143, -15}, troupe.log()[-3000:]
            assert troupe.killed
            assert troupe.stopped
            for run in ended:
                await check_run(engine, run)
            check_requests(api, troupe)
    print(f"killed {troupe.killed}, frozen {troupe.stopped}, requests {len(api.requests)}")


async def sync_tasks(engine: Engine, project: Path) -> None:
    for name, (code, _) in TASKS.items():
        config = (project / "tasks" / name / "config.json").read_bytes()
        await engine.store_task(name, code, _config(config))


def _config(text: bytes) -> Any:
    import msgspec

    from sequential.core.model import TaskConfig

    return msgspec.json.decode(text, type=TaskConfig)


async def check_run(engine: Engine, run: TaskRun) -> None:
    """The right result, and each outcome delivered once, in the turn the journal says."""
    assert run.status is Status.COMPLETED, run
    assert len(run.value) == answers(run.task_identifier, TASKS[run.task_identifier][1])
    calls = await engine.list_calls(run.id)
    assert [call.sequence for call in calls] == list(range(len(calls)))
    assert all(call.delivered_turn is not None for call in calls)
    turns = entries(calls, run.started_at or "")
    delivered = [call.sequence for turn in turns for call in turn.delivered]
    assert sorted(delivered) == list(range(len(calls)))
    fetched = [json.loads(call.result["text"]) for call in calls if call.service == "http"]
    own = [answer for answer in run.value if answer in fetched]
    assert len(own) == len(fetched)
    if run.task_identifier != "parent":
        assert sorted(run.value, key=str) == sorted(fetched, key=str)


def check_requests(api: CountingApi, troupe: Troupe) -> None:
    """A call was made again only if something happened while it was in progress."""
    assert "none" not in api.requests
    for key, requests in api.requests.items():
        assert len({request.path for request in requests}) == 1, key
        unsteady = requests[0].path.startswith("/unsteady/")
        pairs = list(pairwise(requests))
        for first, second in pairs[1 if unsteady else 0 :]:
            assert any(
                begun <= second.begun and until >= first.begun - SLOW
                for begun, until in troupe.disturbances
            ), (
                f"{key} was requested at {first.begun:.3f} and again at {second.begun:.3f}, though "
                f"nothing had happened: {_shown(troupe.disturbances)}"
            )
    assert FROZEN > LEASE


def _shown(disturbances: list[tuple[float, float]]) -> str:
    return ", ".join(f"{begun:.3f}-{until:.3f}" for begun, until in sorted(disturbances))
