"""What happened: `history` of a task and `show` of one run."""

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sequential.cli.visits import Story
    from sequential.core.model import LogLine, StackRun, TaskRun
    from sequential.runner.engine import Engine

MOST = 50  # child runs that are listed


class Shown(NamedTuple):
    """All there is to show of one run."""

    run: "TaskRun"
    calls: "Sequence[StackRun]"
    log: "Sequence[LogLine]"
    children: "Sequence[TaskRun]"
    parent: "TaskRun | None"
    is_driven: bool
    story: "Story | None" = None  # of a run that follows a graph


@click.command(
    "history",
    short_help="The runs of a task, newest first.",
    cls=WithExample,
    example="""
    history my-emails --limit 3
    """,
)
@click.argument("name")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=10,
    metavar="N",
    help="So many runs at most; 10 if not given.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array of run records on stdout.")
@click.pass_obj
def history_command(project: Project, name: str, limit: int, as_json: bool) -> None:
    """The runs of a task, newest first. Large inputs and results are left out."""
    from sequential.cli import documents, remarks

    async def load(engine: "Engine") -> None:
        runs = await engine.list_runs(name, limit=limit)
        if as_json:
            output.document([documents.run_document(run) for run in runs])
        elif runs:
            _print_runs(runs)
        else:
            output.hint(f"{name} has not been run yet: {project.program} run {name}")
        await remarks.damaged(engine, name)

    project.with_engine(load, task=name)


@click.command(
    "show",
    short_help="One run: status, result, every call, log.",
    cls=WithExample,
    example="""
    show my-emails 019a2b3c-4d5e
    show my-emails 019a2b3c --json | jq .stack_runs
    """,
)
@click.argument("name")
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing cut.")
@click.pass_obj
def show_command(project: Project, name: str, run_id: str, as_json: bool) -> None:
    """One run: where it stands, its input and result, its calls and child runs, what it printed.

    RUN_ID may be the beginning of an id, as `history` prints it.
    """
    from sequential.cli import documents

    async def load(engine: "Engine") -> Shown:
        run = await engine.find_run(run_id, name)
        return await _look_up(engine, run, everything=as_json)

    shown = project.with_engine(load, task=name)
    if as_json:
        run, calls, log, children, *_, story = shown
        output.document(documents.full_document(run, calls, log, children, story))
    else:
        _print_run(project, shown)


async def _look_up(engine: "Engine", run: "TaskRun", *, everything: bool) -> Shown:
    from sequential.cli.words import CHILD
    from sequential.errors import SequentialError

    calls = await engine.list_calls(run.id)
    story = None
    if run.config.graph is not None:
        from sequential.cli import graphs
        from sequential.cli.visits import STEP

        story = await graphs.load(engine, run, calls, everything=everything)
        calls = [call for call in calls if call.operation != STEP]
    has_children = any(call.operation == CHILD for call in calls)
    children = await engine.list_children(run.id) if has_children else []
    parent = None
    if run.parent_run_id:
        with contextlib.suppress(SequentialError):  # it may have been removed
            parent = await engine.get_run(run.parent_run_id)
    is_driven = not run.status.is_final and await engine.is_driven(run)
    log = await engine.get_log(run.id)
    return Shown(run, calls, log, children, parent, is_driven, story)


def _print_runs(runs: "Sequence[TaskRun]", *, with_task: bool = False) -> None:
    from sequential.cli import render, words
    from sequential.core import times

    now = times.to_text(datetime.now(UTC))
    ids = words.short_ids(runs)
    rows = []
    for run in runs:
        if run.error:
            outcome = words.short(words.failure(run.error), 200)
        elif run.status.is_final:
            outcome = words.compact(run.result, 200)
        else:
            outcome = words.waits(run, now)
        took = words.duration(words.elapsed(run, now)) if run.ended_at else ""
        started = words.moment(run.created_at, now)
        task = [run.task_identifier] if with_task else []
        rows.append([ids[run.id], *task, str(run.status), started, took, outcome])
    render.table(
        [
            render.Column("run"),
            *([render.Column("task")] if with_task else []),
            render.Column("status"),
            render.Column("created"),
            render.Column("took", "right"),
            render.Column("result", wide=True),
        ],
        rows,
    )


def _print_run(project: Project, shown: Shown) -> None:
    from sequential.cli import render, words
    from sequential.core import times
    from sequential.errors import NonDeterminismError

    run, calls, log, children, _, is_driven, story = shown
    now = times.to_text(datetime.now(UTC))
    output.out(words.sentence(run, calls, now, is_driven=is_driven))
    for line in _next_steps(project, shown, now):
        output.out(line)
    output.out("")
    render.fields(_fields(shown, now))
    if run.error and (run.error.traceback or run.error.code == NonDeterminismError.code):
        output.out("\n" + render.traceback(run.error))
    render.heading("Input")
    render.value(run.input)
    if str(run.status) == "completed":
        render.heading("Result")
        render.value(run.result)
    if run.events:
        render.heading("Answers that were not taken")
        _print_events(run, now)
    if story:
        from sequential.cli import graphs

        graphs.print_story(story, now)
        calls = [call for call in calls if call.operation != words.CHILD]
    if calls:
        render.heading("Calls")
        _print_calls(run, calls)
    if children and not story:
        render.heading("Child runs")
        _print_runs(children[:MOST], with_task=True)
        if len(children) > MOST:
            output.out(f"  … {len(children) - MOST} more, all with --json")
    if log:
        render.heading("Log")
        text = "".join(line.text for line in log)
        output.out("  " + output.clean_lines(text.rstrip("\n")).replace("\n", "\n  "))


def _next_steps(project: Project, shown: Shown, now: str) -> "Iterator[str]":
    """What to type to have it go on."""
    from sequential.cli import words

    run, calls = shown.run, shown.calls
    if run.status.is_final:
        is_orphan = run.parent_run_id and (not shown.parent or shown.parent.status.is_final)
        if str(run.status) != "completed" and not is_orphan:
            yield f"Try again from there: {project.program} retry {run.id}"
        return
    yield from words.answers(project.program, run, words.unanswered_events(run, calls))
    if shown.story:
        from sequential.cli import graphs

        for handler, names in graphs.awaiting(shown.story):
            yield from words.answers(project.program, handler, names)
    if str(run.status) == "paused":
        yield f"Go on: {project.program} unpause {run.id}"
    elif words.is_delayed(run, now):
        yield f"Begin at once: {project.program} resume {run.id}"
    elif not shown.is_driven and not words.is_patient(run, calls, now):
        yield f"Go on: {project.program} resume {run.id}"


def _fields(shown: Shown, now: str) -> list[tuple[str, str]]:
    from sequential.cli import render, words

    run, parent, story = shown.run, shown.parent, shown.story
    begins = run.wake_at if str(run.status) == "pending" else None
    of_task = f" of {parent.task_identifier}" if parent else ""
    return [
        ("run", run.id),
        ("status", render.status(str(run.status))),
        ("handler", output.clean(run.config.handler or "")),
        ("parent", f"{run.parent_run_id}{of_task}" if run.parent_run_id else ""),
        ("priority", str(run.priority or "")),
        ("created", words.moment(run.created_at, now)),
        ("begins", words.moment(begins, now)),
        ("ended", words.moment(run.ended_at, now)),
        ("waits at", "" if story or not run.where else f"{run.filename}:{run.where.line}"),
        ("states", output.clean(", ".join(story.active)) if story else ""),
        ("accepts", output.clean(", ".join(story.accepts)) if story else ""),
        ("deadline", words.moment(run.deadline, now)),
        ("expires", "" if run.status.is_final else words.moment(run.expires_at, now)),
        ("crashes", str(run.crashes or "")),
    ]


def _print_events(run: "TaskRun", now: str) -> None:
    from sequential.cli import render, words

    rows = [
        [words.event_name(event.name), words.moment(event.at, now), words.compact(event.data, 200)]
        for event in run.events
    ]
    columns = [render.Column("event"), render.Column("came"), render.Column("data", wide=True)]
    render.table(columns, rows)


def _print_calls(run: "TaskRun", calls: "Sequence[StackRun]") -> None:
    from sequential.cli import render, words

    rows = []
    for call in calls:
        details = [words.call_name(call, 200), words.call_arguments(call, 200)]
        result = words.call_result(call, 200)
        details.append(f"-> {result}" if result else "")
        rows.append(
            [
                str(call.sequence + 1),
                str(call.where.line) if call.where and run.config.graph is None else "",
                str(call.status),
                str(call.attempts),
                words.duration(words.call_time(call)),
                words.size(call.size),
                "\n".join(text for text in details if text),
            ]
        )
    render.table(
        [
            render.Column("#", "right"),
            render.Column("line", "right"),
            render.Column("status"),
            render.Column("tries", "right"),
            render.Column("took", "right"),
            render.Column("size", "right"),
            render.Column("call, arguments -> result", wide=True),
        ],
        rows,
    )
