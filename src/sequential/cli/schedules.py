"""Runs that begin by themselves: `schedules list`, `set`, `delete` and `next`."""

from typing import TYPE_CHECKING, Any

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import GroupWithExample, WithExample
from sequential.errors import ScheduleNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sequential.core.schedule import Schedule, Scheduled
    from sequential.runner.engine import Engine


@click.group(
    "schedules",
    short_help="Begin runs at given times.",
    cls=GroupWithExample,
    example="""
    schedules set report nightly --cron '0 3 * * *'
    schedules list
    """,
)
def schedules_command() -> None:
    """Begin runs of a task at given times, by a cron expression or at an interval.

    Workers keep to them: see `worker`. Schedules may also stand in config.json of a task.
    """


@schedules_command.command(
    "list",
    short_help="All schedules, and when their next runs begin.",
    cls=WithExample,
    example="""
    schedules list
    schedules list report
    schedules list --json | jq -r '.[].next'
    """,
)
@click.argument("task", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def list_command(project: Project, task: str | None, as_json: bool) -> None:
    """All schedules, or those of a task, with their last and their next run."""

    async def load(engine: "Engine") -> "list[Scheduled]":
        return await engine.schedules.list(task)

    found = project.with_engine(load, task=task)
    if as_json:
        from sequential.cli import documents

        output.document([documents.schedule_document(one) for one in found])
    elif found:
        print_schedules(found)
    else:
        output.hint(f"There are no schedules: {project.program} schedules set TASK NAME --cron ...")


@schedules_command.command(
    "set",
    short_help="Keep a schedule, or change one.",
    cls=WithExample,
    example="""
    schedules set report nightly --cron '0 3 * * *'
    schedules set report often --every 15m
    schedules set report often --input '{"day": "today"}'
    schedules set report nightly --disabled
    """,
)
@click.argument("task")
@click.argument("name")
@click.option(
    "--cron",
    metavar="EXPR",
    help="Minute, hour, day of month, month and day of week: '0 9 * * MON', or @daily.",
)
@click.option("--every", metavar="TIME", help="An interval: 90s, 15m, 12h, 30d, 8w, or seconds.")
@click.option("--time-zone", metavar="ZONE", help="Whose clocks count; UTC if not given.")
@click.option(
    "--input",
    "given",
    metavar="JSON",
    help="The input of the runs, an object; @FILE reads a file, - reads stdin.",
)
@click.option(
    "--catch-up",
    type=click.Choice(["none", "one", "all"]),
    help="What becomes of times without a worker: one run for all of them (the default), each its "
    "own, or none.",
)
@click.option("--start", metavar="TIME", help="Begin no earlier: 2026-12-01T09:00.")
@click.option("--enabled/--disabled", default=None, help="Begin runs (the default), or rest.")
@click.option("--json", "as_json", is_flag=True, help="The schedule as JSON on stdout.")
@click.pass_obj
def set_command(project: Project, /, *, task: str, name: str, as_json: bool, **given: Any) -> None:
    """Keep a schedule, in place of one in config.json. What is not given stays as it is."""
    if given["cron"] and given["every"]:
        raise click.UsageError("give one of --cron and --every")

    async def keep(engine: "Engine") -> "Scheduled":
        return await engine.schedules.set(task, await _changed(engine, task, name, given))

    done = project.with_engine(keep, task=task)
    if as_json:
        from sequential.cli import documents

        output.document(documents.schedule_document(done))
        return
    output.out(f"set      {task}/{name}: {_when(done)}")
    if done.next:
        output.out(f"next     {_moment(done.next)}")
        output.hint(f"A worker begins its runs: {project.program} worker")


@schedules_command.command(
    "delete",
    short_help="Remove a schedule that was set.",
    cls=WithExample,
    example="""
    schedules delete report nightly
    """,
)
@click.argument("task")
@click.argument("name")
@click.pass_obj
def delete_command(project: Project, task: str, name: str) -> None:
    """Remove a schedule that was set; one of its name in config.json counts again."""

    async def remove(engine: "Engine") -> None:
        await engine.schedules.delete(task, name)

    project.with_engine(remove, task=task)
    output.out(f"deleted  {output.clean(f'{task}/{name}')}")


@schedules_command.command(
    "next",
    short_help="The next times at which runs begin.",
    cls=WithExample,
    example="""
    schedules next
    schedules next report nightly --count 3
    """,
)
@click.argument("task", required=False)
@click.argument("name", required=False)
@click.option(
    "--count", type=click.IntRange(1, 1000), metavar="N", default=10, help="10 if not given."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def next_command(
    project: Project, task: str | None, name: str | None, count: int, as_json: bool
) -> None:
    """The next times at which runs begin: of all schedules, of a task's, or of one."""

    async def load(engine: "Engine") -> "list[tuple[str, Scheduled]]":
        return await engine.schedules.upcoming(task, name, count=count)

    found = project.with_engine(load, task=task)
    if as_json:
        named = [{"at": at, "task": one.task, "name": one.schedule.name} for at, one in found]
        output.document(named)
    elif found:
        from sequential.cli import render

        columns = [render.Column(title) for title in ("time", "task", "schedule")]
        rows = [[_moment(at), one.task, output.clean(one.schedule.name)] for at, one in found]
        render.table(columns, rows)
    else:
        output.hint(f"Nothing will begin by itself: {project.program} schedules list")


def print_schedules(found: "Sequence[Scheduled]", *, of_one_task: bool = False) -> None:
    """Schedules as a table; without their task where it is known."""
    from sequential.cli import render

    columns = [render.Column(title) for title in ("task", "schedule", "when", "next", "last")]
    columns.append(render.Column("", wide=True))
    rows = [
        [
            *(one.task, output.clean(one.schedule.name), _when(one)),
            *(_moment(one.next), _moment(one.last), _remark(one)),
        ]
        for one in found
    ]
    left_out = 1 if of_one_task else 0
    render.table(columns[left_out:], [row[left_out:] for row in rows])


async def _changed(engine: "Engine", task: str, name: str, given: "dict[str, Any]") -> "Schedule":
    """The schedule there is, else a new one, with what was given."""
    from sequential.cli.inputs import read_input
    from sequential.core.model import evolve
    from sequential.core.schedule import Schedule

    try:
        old = (await engine.schedules.get(task, name)).schedule
    except ScheduleNotFoundError:
        if not (given["cron"] or given["every"]):
            raise click.UsageError("give --cron or --every") from None
        old = Schedule(name)
    changes = {key: value for key, value in given.items() if value is not None and key != "given"}
    if "cron" in changes or "every" in changes:
        changes = {"cron": None, "every": None, **changes}
    if given["given"] is not None:
        changes["input"] = read_input(given["given"])
    return evolve(old, **changes)


def _when(one: "Scheduled") -> str:
    """`0 3 * * * Europe/Berlin`, or `every 15m`."""
    schedule = one.schedule
    if schedule.cron is not None:
        return output.clean(f"{schedule.cron} {schedule.time_zone}")
    every = schedule.every
    return output.clean(f"every {every if isinstance(every, str) else f'{every:g}s'}")


def _moment(text: str | None) -> str:
    from datetime import UTC, datetime

    from sequential.cli import words
    from sequential.core import times

    return words.moment(text, times.to_text(datetime.now(UTC)))


def _remark(one: "Scheduled") -> str:
    remarks = [] if one.schedule.enabled else ["disabled"]
    if one.origin == "config.json":
        remarks.append("in config.json")
    if one.problem:
        remarks.append(output.one_line(one.problem))
    return ", ".join(remarks)
