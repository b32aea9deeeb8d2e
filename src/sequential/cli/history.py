"""What happened: `history` of a task and `show` of one run."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sequential.core.model import LogLine, StackRun, TaskRun
    from sequential.runner.engine import Engine


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
    "--limit", type=click.IntRange(1), default=10, show_default=True, help="So many runs at most."
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

    project.with_engine(load)


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
    """One run: where it stands, its input and result, every call, and what it printed.

    RUN_ID may be the beginning of an id, as `history` prints it.
    """
    from sequential.cli import documents

    async def load(engine: "Engine") -> None:
        run = await engine.find_run(run_id, name)
        calls = await engine.list_calls(run.id)
        log = await engine.get_log(run.id)
        if as_json:
            output.document(documents.full_document(run, calls, log))
        else:
            is_driven = not run.status.is_final and await engine.is_driven(run)
            _print_run(project, run, calls, log, is_driven=is_driven)

    project.with_engine(load)


def _print_runs(runs: "Sequence[TaskRun]") -> None:
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
        rows.append([ids[run.id], str(run.status), started, took, outcome])
    render.table(
        [
            render.Column("run"),
            render.Column("status"),
            render.Column("created"),
            render.Column("took", "right"),
            render.Column("result", wide=True),
        ],
        rows,
    )


def _print_run(
    project: Project,
    run: "TaskRun",
    calls: "Sequence[StackRun]",
    log: "Sequence[LogLine]",
    *,
    is_driven: bool,
) -> None:
    from sequential.cli import render, words
    from sequential.core import times

    now = times.to_text(datetime.now(UTC))
    output.out(words.sentence(run, calls, now, is_driven=is_driven))
    if not run.status.is_final and not is_driven:
        output.out(f"Go on: {project.program} resume {run.id}")
    output.out("")
    render.fields(
        [
            ("run", run.id),
            ("status", render.status(str(run.status))),
            ("created", words.moment(run.created_at, now)),
            ("ended", words.moment(run.ended_at, now)),
            ("waits at", f"{run.filename}:{run.where.line}" if run.where else ""),
            ("deadline", words.moment(run.deadline, now)),
            ("crashes", str(run.crashes or "")),
        ]
    )
    if run.error and run.error.traceback:
        output.out("\n" + render.traceback(run.error))
    render.heading("Input")
    render.value(run.input)
    if str(run.status) == "completed":
        render.heading("Result")
        render.value(run.result)
    if calls:
        render.heading("Calls")
        _print_calls(run, calls)
    if log:
        render.heading("Log")
        text = "".join(line.text for line in log)
        output.out("  " + output.clean_lines(text.rstrip("\n")).replace("\n", "\n  "))


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
                str(call.where.line) if call.where else "",
                str(call.status),
                str(call.attempts),
                words.duration(call.duration),
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
