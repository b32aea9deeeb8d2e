"""What a store keeps of schedules, read by other versions and written by several workers."""

import pytest

from sequential.core.model import evolve
from sequential.core.schedule import Schedule
from sequential.errors import StorageError
from sequential.runner.schedule_records import (
    Definition,
    Mark,
    ScheduleRecords,
    note_change,
)
from sequential.storage.memory import MemoryAdapter

NOW, LATER = "2026-01-01T00:00:00.000Z", "2026-01-01T01:00:00.000Z"
HOURLY = Schedule("hourly", cron="@hourly")
DEFINITION = Definition("report", HOURLY, "api", None)


@pytest.fixture
def storage() -> MemoryAdapter:
    return MemoryAdapter()


@pytest.fixture
def records(storage: MemoryAdapter) -> ScheduleRecords:
    return ScheduleRecords(storage)


async def test_a_schedule_is_read_as_it_was_written(records: ScheduleRecords) -> None:
    whole = evolve(HOURLY, input={"a": [1, None, {"b": "ü"}]}, enabled=False, catch_up="all")
    await records.set("report", whole)
    assert await records.one("report", "hourly") == Definition("report", whole, "api", None)
    assert await records.one("report", "other") is None
    assert await records.one("other", "hourly") is None


async def test_fields_of_a_later_version_are_passed_over(
    storage: MemoryAdapter, records: ScheduleRecords
) -> None:
    tree = {"name": "hourly", "cron": "@hourly", "jitter": 5}
    await storage.put_document("schedules", "report/hourly", tree)
    assert (await records.all())["report/hourly"].schedule == HOURLY


async def test_what_a_later_version_means_otherwise_is_refused_by_name(
    storage: MemoryAdapter, records: ScheduleRecords
) -> None:
    tree = {"name": "hourly", "cron": "@hourly", "catch_up": "latest"}
    await storage.put_document("schedules", "report/hourly", tree)
    with pytest.raises(StorageError, match="the schedule report/hourly was written by another"):
        await records.all()


async def test_of_two_workers_that_move_a_mark_one_does(records: ScheduleRecords) -> None:
    begun = await records.begin(DEFINITION, None, NOW)
    first = await records.move_mark("report/hourly", evolve(begun.mark, fired="one"), 1)
    second = await records.move_mark("report/hourly", evolve(begun.mark, fired="two"), 1)
    assert (first.mark.fired, first.version) == ("one", 2)
    assert second == first == await records.mark("report/hourly")


async def test_a_schedule_that_begins_anew_keeps_what_is_known_of_its_last_run(
    records: ScheduleRecords,
) -> None:
    old = await records.begin(DEFINITION, None, NOW)
    fired = evolve(old.mark, fired=NOW, run="its id", problem="it did not fit")
    old = await records.move_mark("report/hourly", fired, old.version)
    new = await records.begin(DEFINITION, old, LATER)
    assert new.mark == Mark(LATER, LATER, old.mark.timing, fired=NOW, run="its id")


async def test_all_of_a_task_is_forgotten_and_nothing_of_others(records: ScheduleRecords) -> None:
    for task in ("a", "a-b", "ab", "b"):
        await records.set(task, HOURLY)
        await records.begin(DEFINITION._replace(task=task), None, NOW)
    assert await records.forget("a")
    assert not await records.forget("a")
    kept = ["a-b/hourly", "ab/hourly", "b/hourly"]
    assert [*await records.all()] == kept == [*await records.marks()]


async def test_changes_are_counted(storage: MemoryAdapter, records: ScheduleRecords) -> None:
    assert await records.changes() == 0
    for _ in range(2):
        await note_change(storage, NOW)
    assert await records.changes() == 2
