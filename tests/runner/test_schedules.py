"""Schedules create runs at their times: each once, whoever dies, whatever the clock does."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sequential.config import Settings
from sequential.core.model import InputField, Status, TaskConfig, evolve
from sequential.core.schedule import Schedule
from sequential.errors import (
    InvalidInputError,
    InvalidNameError,
    ScheduleNotFoundError,
    SequentialError,
    StorageError,
    TaskNotFoundError,
)
from sequential.runner.engine import Engine
from sequential.runner.settings import RunnerSettings
from sequential.runner.sync_engine import SyncEngine
from sequential.runner.task_sync import TaskSync
from sequential.runner.worker import Worker
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter
from sequential.storage.folder import FolderAdapter
from sequential.storage.memory import MemoryAdapter
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.clock import FakeClock

CODE = "def main(**input):\n    return input\n"
DAY, HOUR = 86400, 3600
NIGHTLY = Schedule("nightly", cron="0 3 * * *")
HOURLY = Schedule("hourly", cron="@hourly", catch_up="all")
EVERY = Schedule("poll", every="1h")
DAY_FIELD = InputField("day")
MOMENT_FIELD = InputField("scheduled_for")


async def store(engine: Engine, *schedules: Schedule, name: str = "report", **config: Any) -> None:
    policy = TaskConfig(name=name, schedules=schedules, inputs=(MOMENT_FIELD,))
    await engine.store_task(name, CODE, evolve(policy, **config))


async def moments(engine: Engine, task: str = "report") -> list[str]:
    """The moments that runs were created for, the earliest first, without minutes that are 0."""
    runs = await engine.list_runs(task)
    return sorted(run.input["scheduled_for"].removesuffix(":00:00.000Z") for run in runs)


@contextlib.asynccontextmanager
async def opened(storage: StorageAdapter, clock: FakeClock, **runner: Any) -> AsyncIterator[Engine]:
    settings = Settings(project=Path(), runner=RunnerSettings(**runner))
    engine = Engine(storage, Services([]), settings, secret=b"k" * 32, clock=clock)
    try:
        yield engine
    finally:
        await engine.end()


# --- at their times ------------------------------------------------------------------------------


async def test_a_worker_begins_runs_at_the_times_of_a_schedule_and_drives_them(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, NIGHTLY)
        worker = Worker(engine, sweep=10**9)  # it knows when the next one is due
        working = asyncio.create_task(worker.run())
        while len(await engine.list_runs("report")) < 3:
            await asyncio.sleep(0.001)
        worker.stop()
        await working
        runs = await engine.list_runs("report")
    assert [run.created_at for run in runs[::-1]] == [
        f"2026-01-0{day}T03:00:00.000Z" for day in (1, 2, 3)
    ]
    assert {run.status for run in runs[1:]} == {Status.COMPLETED}
    assert [run.value for run in runs[1:]] == [run.input for run in runs[1:]]


async def test_a_schedule_that_is_new_begins_now_and_catches_up_with_nothing(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY, Schedule("poll", every="1h", start="2020-01-01T00:30"))
        assert await engine.schedules.fire_due() == 0
        lab.clock.advance(HOUR)
        assert await engine.schedules.fire_due() == 2
        assert await engine.schedules.fire_due() == 0
        assert await moments(engine) == ["2026-01-01T00:30:00.000Z", "2026-01-01T01"]


async def test_a_run_has_the_input_of_its_schedule_and_nothing_else(lab: Any) -> None:
    given = {"day": "today", "limit": 3}
    async with lab.engine() as engine:
        await engine.store_task("plain", CODE, TaskConfig(name="plain"))
        await engine.schedules.set("plain", evolve(EVERY, input=given))
        lab.clock.advance(HOUR)
        await engine.schedules.fire_due()
        (run,) = await engine.list_runs("plain")
    assert run.input == given
    assert run.config.schedules == ()


async def test_defaults_of_the_project_count_and_the_moment_can_be_given(lab: Any) -> None:
    clock, own = FakeClock(), evolve(EVERY, input={"scheduled_for": "whenever"})
    settings = Settings(project=Path(), defaults={"day": "monday", "scheduled_for": "not this"})
    engine = Engine(MemoryAdapter(), Services([]), settings, secret=b"k" * 32, clock=clock)
    async with engine:
        await store(engine, own, evolve(EVERY, name="other"), inputs=(DAY_FIELD, MOMENT_FIELD))
        await engine.schedules.fire_due()
        clock.advance(HOUR)
        await engine.schedules.fire_due()
        runs = await engine.list_runs("report")
    assert {run.input["day"] for run in runs} == {"monday"}
    assert {run.input["scheduled_for"] for run in runs} == {"whenever", "2026-01-01T01:00:00.000Z"}


async def test_an_interval_goes_on_from_where_it_was_made_whoever_looks_late(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, EVERY)
        await engine.schedules.fire_due()
        for late in (7, 11, 13):
            lab.clock.advance(HOUR + late)
            await engine.schedules.fire_due()
        assert await moments(engine) == [f"2026-01-01T0{hour}" for hour in (1, 2, 3)]


async def test_an_interval_in_whole_seconds_is_not_counted_anew_by_who_reads_it(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine)
        await engine.schedules.set("report", Schedule("poll", every=3600))
        lab.clock.advance(7)
        await engine.schedules.fire_due()
        assert engine.schedules.next_due() == "2026-01-01T01:00:00.000Z"


async def test_a_worker_for_some_tasks_keeps_to_their_schedules_only(lab: Any) -> None:
    async with lab.engine() as engine:
        for name in ("mine", "other"):
            await store(engine, NIGHTLY, name=name)
        await engine.schedules.fire_due()
        lab.clock.advance(DAY)
        await Worker(engine, tasks=["mine"]).run(until_idle=True)
        assert (len(await moments(engine, "mine")), await moments(engine, "other")) == (1, [])
        assert engine.schedules.next_due(["mine"]) == "2026-01-02T03:00:00.000Z"
        assert engine.schedules.next_due() == "2026-01-01T03:00:00.000Z"
        assert await engine.schedules.fire_due() == 1


# --- what was missed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("none", []),
        ("one", ["2026-01-04T03"]),
        ("all", ["2026-01-02T03", "2026-01-03T03", "2026-01-04T03"]),
    ],
)
async def test_three_days_without_a_worker(lab: Any, catch_up: Any, expected: list[str]) -> None:
    async with lab.engine() as engine:
        await store(engine, evolve(NIGHTLY, catch_up=catch_up))
        lab.clock.advance(4 * HOUR)
        await engine.schedules.fire_due()
    async with opened(lab.storage, lab.clock) as engine:
        lab.clock.advance(3 * DAY)
        assert await engine.schedules.fire_due() == len(expected)
        assert await moments(engine) == expected
        lab.clock.advance(DAY - 4 * HOUR - 30)  # the usual business goes on
        lab.clock.advance(3 * HOUR + 60)
        await engine.schedules.fire_due()
        assert await moments(engine) == [*expected, "2026-01-05T03"]


async def test_very_much_that_was_missed_comes_in_parts(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY)
        await engine.schedules.fire_due()
        lab.clock.advance(250 * HOUR)
        assert [await engine.schedules.fire_due() for _ in range(4)] == [100, 100, 50, 0]


async def test_times_while_a_schedule_was_off_are_not_made_up_for(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine)
        for enabled in (True, False, True):
            await engine.schedules.set("report", evolve(HOURLY, enabled=enabled))
            lab.clock.advance(5 * HOUR)
        await engine.schedules.fire_due()
        assert await moments(engine) == [f"2026-01-01T{hour}" for hour in range(11, 16)]


async def test_other_times_count_from_when_they_were_set(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY)
        await engine.schedules.fire_due()
        lab.clock.advance(10 * HOUR)
        await store(engine, evolve(HOURLY, cron="30 * * * *"))
        assert await engine.schedules.fire_due() == 0
        lab.clock.advance(HOUR)
        await engine.schedules.fire_due()
        assert await moments(engine) == ["2026-01-01T10:30:00.000Z"]


# --- together, and in spite of everything --------------------------------------------------------


async def test_of_many_workers_that_fire_at_once_each_moment_gets_one_run(tmp_path: Path) -> None:
    clock = FakeClock()
    storage = SqliteAdapter(str(tmp_path / "store.db"))
    await storage.init()
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(opened(storage, clock)) for _ in range(4)]
        schedules = [evolve(HOURLY, name=f"s{number}") for number in range(50)]
        await store(engines[0], *schedules)
        await asyncio.gather(*(engine.schedules.fire_due() for engine in engines))
        clock.advance(HOUR)
        new = await asyncio.gather(*(engine.schedules.fire_due() for engine in engines))
        assert sum(new) == 50
        assert len(await engines[0].list_runs("report")) == 50
    await storage.close()


async def test_a_mark_that_could_not_be_moved_makes_no_second_run(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY, EVERY)
        await engine.schedules.fire_due()
        lab.clock.advance(HOUR)
        put = lab.storage.put_document

        async def failing(collection: str, *given: Any, **more: Any) -> Any:
            raise StorageError("the power is gone")

        monkeypatch.setattr(lab.storage, "put_document", failing)
        with pytest.raises(StorageError, match="the power is gone"):
            await engine.schedules.fire_due()
        assert len(await engine.list_runs("report")) == 2
        assert engine.schedules.next_due() == "2026-01-01T01:00:01.000Z"  # not in vain at once
        monkeypatch.setattr(lab.storage, "put_document", put)
        lab.clock.advance(1)
        assert await engine.schedules.fire_due() == 0
        (first, second) = await engine.schedules.list()
        assert (first.last, second.last) == ("2026-01-01T01:00:00.000Z",) * 2
        assert engine.schedules.next_due() == "2026-01-01T02:00:00.000Z"


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from sequential.config import Settings
from sequential.runner.engine import Engine
from sequential.services.registry import Services
from sequential.storage.sqlite import SqliteAdapter
from sequential.testing.clock import FakeClock
from datetime import datetime

async def main(path, now, writes):
    storage = SqliteAdapter(path)
    await storage.init()
    clock = FakeClock(datetime.fromisoformat(now))
    engine = Engine(storage, Services([]), Settings(project=Path()), secret=b"k" * 32, clock=clock)
    left = int(writes)

    def counted(name):
        real = getattr(storage, name)
        async def write(*given, **more):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return await real(*given, **more)
        setattr(storage, name, write)

    for name in ("create_task_run", "put_document"):
        counted(name)
    await engine.schedules.fire_due()
    await engine.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_worker_killed_at_any_write_leaves_no_moment_out_and_repeats_none(
    tmp_path: Path,
) -> None:
    storage, clock = SqliteAdapter(str(tmp_path / "store.db")), FakeClock()
    await storage.init()
    async with opened(storage, clock) as engine:
        await store(engine, HOURLY)
        await engine.schedules.fire_due()
        for writes in (0, 1, 2, 3, 99):  # three runs and a mark
            clock.advance(3 * HOUR)
            given = [storage.path, clock.now().isoformat(), str(writes)]
            done = subprocess.run([sys.executable, "-c", KILLED, *map(str, given)], timeout=60)
            assert done.returncode == (0 if writes == 99 else -signal.SIGKILL)
        assert await moments(engine) == [f"2026-01-01T{hour:02}" for hour in range(1, 16)]
        assert await engine.schedules.fire_due() == 0
    await storage.close()


async def test_a_clock_that_jumps_ahead_and_back_repeats_nothing_and_stops_nothing(
    lab: Any,
) -> None:
    async with lab.engine() as engine:
        await store(engine, evolve(HOURLY, catch_up="one"))
        await engine.schedules.fire_due()
        lab.clock.advance(HOUR)
        await engine.schedules.fire_due()
        lab.clock.advance(30 * DAY)  # somebody sets it wrong
        assert await engine.schedules.fire_due() == 1
        lab.clock.advance(-30 * DAY)  # and right again
        assert await engine.schedules.fire_due() == 0
        lab.clock.advance(HOUR)
        assert await engine.schedules.fire_due() == 1
        lab.clock.advance(-2 * HOUR)
        for _ in range(3):
            assert await engine.schedules.fire_due() == 0  # these have their runs
            lab.clock.advance(HOUR)
        assert await engine.schedules.fire_due() == 1
        assert await moments(engine) == [
            *("2026-01-01T01", "2026-01-01T02", "2026-01-01T03", "2026-01-31T01"),
        ]


async def test_clocks_of_workers_that_differ_a_little_make_no_second_run(lab: Any) -> None:
    ahead = FakeClock(datetime(2026, 1, 1, 0, 0, 20, tzinfo=UTC))
    async with lab.engine() as engine, opened(lab.storage, ahead) as other:
        await store(engine, HOURLY)
        for _ in range(4):
            assert await engine.schedules.fire_due() + await other.schedules.fire_due() <= 1
            lab.clock.advance(HOUR)
            ahead.advance(HOUR)
        assert await moments(engine) == [f"2026-01-01T0{hour}" for hour in (1, 2, 3)]


# --- what cannot be kept to ----------------------------------------------------------------------


Told = list[tuple[str, str]]


@contextlib.asynccontextmanager
async def working(engine: Engine, told: Told, sweep: float = 10**9) -> AsyncIterator[None]:
    worker = Worker(engine, sweep=sweep, on_trouble=lambda key, e: told.append((key, str(e))))
    task = asyncio.create_task(worker.run())
    yield
    worker.stop()
    await task


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.001)


async def test_an_input_that_does_not_fit_any_more_is_told_once_and_keeps_no_other(
    lab: Any,
) -> None:
    told: Told = []
    async with lab.engine() as engine:
        await store(engine, HOURLY, name="good")
        await store(engine, name="changed")
        await engine.schedules.set("changed", HOURLY)
        await store(engine, name="changed", inputs=(DAY_FIELD,))

        async def enough() -> bool:
            return len(await moments(engine, "good")) >= 5

        async with working(engine, told):
            await until(enough)
        (standing,) = await engine.schedules.list("changed")
    problem = 'the input does not fit changed: "day" (string) is missing'
    assert told == [("schedule changed/hourly", problem)]
    assert standing.problem == problem
    assert (standing.last, await moments(engine, "changed")) == (None, [])


async def test_it_is_told_when_all_is_well_again(lab: Any) -> None:
    told: Told = []
    async with lab.engine() as engine:
        await store(engine, inputs=())
        await engine.schedules.set("report", evolve(EVERY, input={"dya": 1}))
        await store(engine, inputs=(InputField("day", "integer"),))

        async def is_told() -> bool:
            return bool(told)

        async def is_well() -> bool:
            return len(told) == 2

        async with working(engine, told):
            await until(is_told)
            await engine.schedules.set("report", evolve(EVERY, input={"day": 1}))
            await until(is_well)
        (standing,) = await engine.schedules.list("report")
    assert told[0][0] == "schedule report/poll"
    assert 'did you mean "day"?' in told[0][1]
    assert told[1] == ("schedule report/poll", "None")
    assert (standing.problem, standing.last is not None) == (None, True)


async def test_a_task_that_was_deleted_takes_its_schedules_with_it(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY)
        await store(engine, HOURLY, name="other")
        await engine.schedules.set("report", EVERY)
        await engine.schedules.fire_due()
        await engine.delete_task("report")
        lab.clock.advance(HOUR)
        assert await engine.schedules.fire_due() == 1
        assert engine.schedules.troubles == {}
        assert [one.task for one in await engine.schedules.list()] == ["other"]
        await store(engine, HOURLY)  # another task of this name begins anew
        await engine.schedules.fire_due()
        assert await moments(engine) == []


async def test_a_task_that_vanishes_in_the_moment_of_firing_keeps_no_other(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY, name="other")
        await store(engine)
        await engine.schedules.set("report", EVERY)
        await engine.schedules.fire_due()
        await lab.storage.delete_task("report")  # past the engine, which would tell the others
        lab.clock.advance(HOUR)
        assert await engine.schedules.fire_due() == 1
        (trouble,) = engine.schedules.troubles.values()
        assert "there is no task report" in str(trouble)
        assert [one.problem for one in await engine.schedules.list()] == [
            None,
            "there is no task report",
        ]
        with pytest.raises(TaskNotFoundError):
            await engine.schedules.list("report")


async def test_an_input_that_will_not_fit_can_be_seen_before_its_time(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY, inputs=(DAY_FIELD,))
        (standing,) = await engine.schedules.list()
    assert standing.problem == 'the input does not fit report: "day" (string) is missing'
    assert standing.next == "2026-01-01T01:00:00.000Z"


async def test_a_worker_that_may_not_run_native_tasks_leaves_them_to_others(lab: Any) -> None:
    async with lab.engine() as engine, opened(lab.storage, lab.clock, native=False) as other:
        await store(engine, HOURLY, runtime="native")
        await engine.schedules.fire_due()
        lab.clock.advance(HOUR)
        assert await other.schedules.fire_due() == 0
        assert other.schedules.troubles == {}
        assert await engine.schedules.fire_due() == 1


async def test_a_store_that_fails_is_asked_again_after_a_rest(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY)
        await engine.schedules.fire_due()
        lab.clock.advance(HOUR)
        looks = 0

        async def failing(*given: Any) -> Any:
            nonlocal looks
            looks += 1
            raise StorageError("nobody is there")

        with monkeypatch.context() as patch:
            patch.setattr(lab.storage, "get_document", failing)
            for _ in range(3):
                with pytest.raises(StorageError, match="nobody is there"):
                    await engine.schedules.fire_due()
        assert looks == 1
        assert engine.schedules.next_due() == "2026-01-01T01:00:01.000Z"
        lab.clock.advance(1)
        assert await engine.schedules.fire_due() == 1


# --- noticed in time, and cheap ------------------------------------------------------------------


class Counting(MemoryAdapter):
    """Counts the operations that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("get_", "list_", "put_", "query_", "create_")):
            self.asked.append(name)
        return super().__getattribute__(name)


async def test_without_any_schedule_a_sweep_costs_one_look() -> None:
    storage, clock = Counting(), FakeClock()
    async with opened(storage, clock) as engine:
        await store(engine)
        await engine.schedules.fire_due()
        storage.asked.clear()
        for _ in range(100):
            await engine.schedules.fire_due()
        assert storage.asked == []
        for _ in range(5):
            clock.advance(1)
            await engine.schedules.fire_due()
        assert storage.asked == ["get_document"] * 5


async def test_what_another_process_sets_is_noticed_with_the_next_sweep(lab: Any) -> None:
    async with lab.engine() as engine, opened(lab.storage, lab.clock) as other:
        await store(engine)
        await other.schedules.fire_due()
        await engine.schedules.set("report", HOURLY)
        lab.clock.advance(1)
        await other.schedules.fire_due()
        assert other.schedules.next_due() == "2026-01-01T01:00:00.000Z"
        await engine.schedules.delete("report", "hourly")
        lab.clock.advance(1)
        await other.schedules.fire_due()
        assert other.schedules.next_due() is None


async def test_tasks_that_are_synced_bring_their_schedules(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "code.py").write_text(CODE)
    config = tmp_path / "report" / "config.json"
    async with lab.engine() as engine:
        await engine.schedules.fire_due()
        for cron, expected in (("@hourly", "2026-01-01T01"), ("@daily", "2026-01-02T00")):
            tree = {"name": "report", "schedules": [{"name": "often", "cron": cron}]}
            config.write_text(json.dumps(tree))
            await TaskSync(tmp_path, lab.storage, now=engine.now()).push()
            lab.clock.advance(1)
            await engine.schedules.fire_due()
            assert engine.schedules.next_due() == f"{expected}:00:00.000Z"


async def test_a_config_that_is_edited_by_hand_is_noticed(tmp_path: Path) -> None:
    storage, clock = FolderAdapter(tmp_path), FakeClock()
    async with opened(storage, clock) as engine:
        await store(engine, HOURLY)
        await engine.schedules.fire_due()
        config = tmp_path / "report" / "config.json"
        good = config.read_text()

        async def after(text: str) -> dict[str, str]:
            config.write_text(text)
            clock.advance(60)
            await engine.schedules.fire_due()
            return {key: str(error) for key, error in engine.schedules.troubles.items()}

        assert await after(good.replace("@hourly", "@daily")) == {}
        assert engine.schedules.next_due() == "2026-01-02T00:00:00.000Z"
        told = await after(good.replace("@hourly", "0 25 * * *"))
        assert told == {"report/hourly": "cron: the hour '25' cannot be used: 0 to 23"}
        assert engine.schedules.next_due() is None
        (problem,) = (await after(good[:-5])).values()
        assert "report/config.json" in problem
        assert await after(good) == {}
        assert engine.schedules.next_due() == "2026-01-01T01:00:00.000Z"
        (problem,) = (await after(good.replace('"hourly"', '"every hour"'))).values()
        assert "the schedule name 'every hour' cannot be used" in problem
    await storage.close()


async def test_what_was_due_while_a_config_was_broken_is_made_up_for(tmp_path: Path) -> None:
    storage, clock = FolderAdapter(tmp_path), FakeClock()
    async with opened(storage, clock) as engine:
        await store(engine, HOURLY)
        await engine.schedules.fire_due()
        config = tmp_path / "report" / "config.json"
        good = config.read_text()
        config.write_text("{")
        clock.advance(2 * HOUR)
        assert await engine.schedules.fire_due() == 0
        config.write_text(good)
        clock.advance(1)
        assert await engine.schedules.fire_due() == 2
    await storage.close()


# --- setting and looking -------------------------------------------------------------------------


async def test_a_schedule_that_was_set_takes_the_place_of_one_in_the_config(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY, NIGHTLY)
        own = evolve(NIGHTLY, cron="0 4 * * *")
        standing = await engine.schedules.set("report", own)
        assert (standing.origin, standing.next) == ("api", "2026-01-01T04:00:00.000Z")
        listed = await engine.schedules.list("report")
        assert [(one.schedule, one.origin) for one in listed] == [
            (HOURLY, "config.json"),
            (own, "api"),
        ]
        await engine.schedules.delete("report", "nightly")
        standing = await engine.schedules.get("report", "nightly")
        assert (standing.origin, standing.next) == ("config.json", "2026-01-01T03:00:00.000Z")


async def test_a_list_says_what_was_and_what_will_be(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, EVERY, HOURLY, evolve(NIGHTLY, enabled=False))
        await engine.schedules.fire_due()
        lab.clock.advance(HOUR + 60)
        await engine.schedules.fire_due()
        hourly, nightly, poll = await engine.schedules.list()
        (run,) = [r for r in await engine.list_runs() if r.id == hourly.run]
        lab.clock.advance(2 * HOUR)  # without a worker
        late, _, poll = await engine.schedules.list()
    assert (nightly.next, nightly.last, nightly.run) == (None, None, None)
    assert hourly.next == "2026-01-01T02:00:00.000Z"
    assert hourly.last == run.input["scheduled_for"] == "2026-01-01T01:00:00.000Z"
    assert late.next == "2026-01-01T02:00:00.000Z"  # it will be made up for
    assert poll.next == "2026-01-01T03:00:00.000Z"  # one for both


async def test_upcoming_moments_of_all_schedules_are_in_order(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, HOURLY, evolve(EVERY, every="90m"), evolve(NIGHTLY, enabled=False))
        await engine.schedules.fire_due()
        found = await engine.schedules.upcoming(count=4)
        (one, two) = await engine.schedules.upcoming("report", "poll", count=2)
        assert await engine.schedules.upcoming("report", "nightly") == []
    assert [(moment[11:16], standing.schedule.name) for moment, standing in found] == [
        *(("01:00", "hourly"), ("01:30", "poll"), ("02:00", "hourly"), ("03:00", "hourly")),
    ]
    assert (one[0][11:16], two[0][11:16]) == ("01:30", "03:00")


@pytest.mark.parametrize(
    ("task", "schedule", "error", "part"),
    [
        ("reprot", NIGHTLY, TaskNotFoundError, "did you mean report?"),
        ("report", evolve(NIGHTLY, name="a/b"), InvalidNameError, "the schedule name 'a/b'"),
        ("report", Schedule("x", cron="61 * * * *"), InvalidInputError, "the minute '61'"),
        ("report", evolve(NIGHTLY, input={"dya": 1}), InvalidInputError, '"dya" is not a field'),
        ("any", evolve(NIGHTLY, input={"a": object()}), InvalidInputError, "nightly is no JSON"),
    ],
)
async def test_what_cannot_be_set_changes_nothing(
    lab: Any, task: str, schedule: Schedule, error: type[SequentialError], part: str
) -> None:
    async with lab.engine() as engine:
        await store(engine)
        await store(engine, name="any", inputs=())
        with pytest.raises(error, match=part.replace("?", r"\?")):
            await engine.schedules.set(task, schedule)
        assert await engine.schedules.list() == []


async def test_a_schedule_that_is_not_there_is_named_with_the_nearest(lab: Any) -> None:
    async with lab.engine() as engine:
        await store(engine, NIGHTLY)
        with pytest.raises(ScheduleNotFoundError, match="no schedule nigthly: did you mean night"):
            await engine.schedules.get("report", "nigthly")
        with pytest.raises(ScheduleNotFoundError, match="nightly is in config"):
            await engine.schedules.delete("report", "nightly")
        with pytest.raises(ScheduleNotFoundError, match="has no schedule x: it has nightly"):
            await engine.schedules.delete("report", "x")


def test_programs_that_are_not_asynchronous_have_schedules_too(tmp_path: Path) -> None:
    with SyncEngine(f"sqlite:{tmp_path}/store.db", project=tmp_path) as engine:
        engine.store_task("report", CODE, TaskConfig(name="report"))
        engine.schedules.set("report", NIGHTLY)
        assert [one.schedule for one in engine.schedules.list()] == [NIGHTLY]
        assert len(engine.schedules.upcoming(count=3)) == 3
        engine.schedules.delete("report", "nightly")
        assert engine.schedules.list("report") == []
