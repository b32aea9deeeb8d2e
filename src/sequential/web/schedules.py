"""Schedules over HTTP: set, listed, removed. Workers keep to them."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Response
from litestar.params import FromQuery, JSONBody, PathParameter

from sequential.core import values
from sequential.core.schedule import Schedule, Scheduled
from sequential.errors import ScheduleNotFoundError
from sequential.web.handlers import TheEngine, delete, get, put
from sequential.web.records import Page

TaskName = Annotated[str, PathParameter(description="the name of a task")]
Name = Annotated[str, PathParameter(description="the name of a schedule of it")]


class NewSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A schedule to be kept, either `cron` or `every`; docs/schedules.md says what they mean."""

    cron: str | None = None
    every: float | str | None = None
    time_zone: str = "UTC"
    input: dict[str, Any] = {}
    catch_up: Literal["none", "one", "all"] = "one"
    enabled: bool = True
    start: str | None = None


@get("/schedules", summary="All schedules")
async def list_schedules(engine: TheEngine, task: FromQuery[str | None] = None) -> Page[Scheduled]:
    """By task and name, with those of config.json, and when their next runs begin."""
    return Page(await engine.schedules.list(task))


@get("/schedules/{task:str}/{name:str}", summary="One schedule")
async def show(engine: TheEngine, task: TaskName, name: Name) -> Scheduled:
    return await engine.schedules.get(task, name)


@put("/schedules/{task:str}/{name:str}", summary="Keep a schedule")
async def keep(
    data: JSONBody[NewSchedule], engine: TheEngine, task: TaskName, name: Name
) -> Response[Scheduled]:
    """New (201), or in place of one of its name (200), also of one in config.json."""
    values.to_json(data.input, "the input")  # raises what cannot be kept: deep nesting
    try:
        await engine.schedules.get(task, name)
        is_new = False
    except ScheduleNotFoundError:
        is_new = True
    kept = await engine.schedules.set(task, Schedule(name, **msgspec.structs.asdict(data)))
    return Response(kept, status_code=201 if is_new else 200)


@delete("/schedules/{task:str}/{name:str}", summary="Remove a schedule")
async def remove(engine: TheEngine, task: TaskName, name: Name) -> None:
    """One of its name in config.json counts again."""
    await engine.schedules.delete(task, name)


HANDLERS = [list_schedules, show, keep, remove]
