"""Runs: `run` and `resume`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import StorageError

if TYPE_CHECKING:
    from sequential.cli.live import Live
    from sequential.core.model import TaskRun
    from sequential.runner.engine import Engine

RECENT = 100  # runs of the task that `run` looks at for unfinished ones

_verbose = click.option("-v", "--verbose", is_flag=True, help="A line on stderr for every step.")
_json = click.option("--json", "as_json", is_flag=True, help="The run record as JSON on stdout.")


@click.command(
    "run",
    short_help="Run a task to its end, or check it with --dry-run.",
    cls=WithExample,
    example="""
    run my-emails --input '{"userId": "123"}'
    run my-emails --input @input.json --json | jq .result
    run my-emails --dry-run
    """,
)
@click.argument("name")
@click.option(
    "--input",
    "given",
    metavar="JSON",
    help="The input, an object; @FILE reads a file, - reads stdin. Without it: {}.",
)
@click.option(
    "--save",
    is_flag=True,
    help="Also write the run with its result to tasks/NAME/results.json once it completed. "
    "Every run is kept in the storage anyway.",
)
@click.option("--dry-run", is_flag=True, help="List all problems of the task, run nothing.")
@_verbose
@_json
@click.pass_obj
def run_command(
    project: Project,
    *,
    name: str,
    given: str | None,
    save: bool,
    dry_run: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Run a task to its end: its result on stdout, what it prints and how it goes on stderr.

    The run is written down at every call. Kill it at any moment and `resume` goes on where it was;
    Ctrl-C parks it properly. Exit code: 0 completed, 1 failed, 2 refused, 130 interrupted.
    """
    from sequential.cli.inputs import read_input

    if dry_run:
        from sequential.cli.check import check_task

        return check_task(project, name, given, as_json=as_json)
    from sequential.cli import remarks
    from sequential.cli.live import Live

    value = read_input(given)
    live = Live(verbose=verbose, program=project.program)

    async def work(engine: "Engine") -> "tuple[TaskRun, int]":
        # From the store, since handlers' runs are not worth looking for others behind them.
        recent = await engine.storage.query_task_runs(task_identifier=name, limit=RECENT)
        await remarks.unfinished(engine, project, recent)
        run = await engine.create_run(name, value)
        return await _drive(engine, run, live)

    run, interrupted = project.with_engine(work, live.observe, task=name)
    print_run(run, live, as_json=as_json)
    if save and str(run.status) == "completed":
        _save(project, run)
    return _exit_code(project, run, interrupted)


@click.command(
    "resume",
    short_help="Go on with an unfinished run.",
    cls=WithExample,
    example="""
    resume 019a2b3c-4d5e
    """,
)
@click.argument("run_id")
@_verbose
@_json
@click.pass_obj
def resume_command(project: Project, run_id: str, verbose: bool, as_json: bool) -> int:
    """Go on with an unfinished run, after a crash or Ctrl-C. RUN_ID may be the beginning of an id.

    A run that has ended is printed as it is. Exit code: as for `run`.
    """
    from sequential.cli.live import Live

    live = Live(verbose=verbose, program=project.program)

    async def work(engine: "Engine") -> "tuple[TaskRun, int]":
        run = await engine.find_run(run_id)
        return (run, 0) if run.status.is_final else await _drive(engine, run, live)

    run, interrupted = project.with_engine(work, live.observe)
    print_run(run, live, as_json=as_json)
    return _exit_code(project, run, interrupted)


async def _drive(engine: "Engine", run: "TaskRun", live: "Live") -> "tuple[TaskRun, int]":
    """The run when it rests, and the number of the signal that stopped it, or 0."""
    from sequential.cli.signals import stopped_by_signals

    def stop() -> None:
        live.note("Parking the run; once more ends the program at once.")
        engine.stop()

    try:
        async with live.shown():
            with stopped_by_signals(stop, live.finish) as received:
                run = await engine.resume(run.id)
    except StorageError:
        output.hint(f"The run is {run.id}; what was written down before is safe.")
        raise
    return run, 0 if run.status.is_final or not received else received[0]


def print_run(run: "TaskRun", live: "Live", *, as_json: bool) -> None:
    """Print a run that rests: its result on stdout, what went wrong and its status on stderr."""
    from sequential.cli import documents, render

    if as_json:
        output.document(documents.run_document(run))
    elif str(run.status) == "completed":
        output.document(run.result)
    output.flush()
    if run.error:
        *above, last = render.traceback(run.error).split("\n")
        for line in above:
            output.err(line)
        output.err(output.style(last, "red", bold=True, file=sys.stderr))
    if run.status.is_final:
        _print_status(run, live)


def _print_status(run: "TaskRun", live: "Live") -> None:
    from sequential.cli import render, words

    status = str(run.status)
    coloured = output.style(status, render.COLOURS.get(status), bold=True, file=sys.stderr)
    parts = [f"run {run.id}"]
    if run.ended_at:
        coloured += f" in {words.duration(words.elapsed(run, run.ended_at))}"
    if live.calls:
        parts.insert(0, words.count(live.calls, "call"))
    output.err(f"{coloured}, {', '.join(parts)}")


def _exit_code(project: Project, run: "TaskRun", interrupted: int) -> int:
    if interrupted:
        output.err(f"Parked, nothing is lost. Go on with: {project.program} resume {run.id}")
        return 128 + interrupted
    if str(run.status) == "paused":
        output.err(f"The run is paused: {project.program} unpause {run.id}")
    elif not run.status.is_final:
        output.err(
            f"The run is {run.status}: {project.program} show {run.task_identifier} {run.id}"
        )
    return 0 if str(run.status) == "completed" else 1


def _save(project: Project, run: "TaskRun") -> None:
    """Write the run to `results.json`, in one step."""
    from sequential.cli import documents

    path = project.task_file(run.task_identifier, "results.json")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(temporary, path, output.json_text(documents.run_document(run)) + "\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    output.hint(f"saved to {output.clean(str(path))}")


def _replace(temporary: Path, path: Path, text: str) -> None:
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
