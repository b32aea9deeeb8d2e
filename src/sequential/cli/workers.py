"""Runs that others drive: `submit`, `wait` and `worker`."""

import contextlib
import itertools
import math
from datetime import datetime
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.durations import Duration
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import SequentialError

if TYPE_CHECKING:
    from sequential.core.model import TaskRun
    from sequential.runner.engine import Engine
    from sequential.runner.progress import Progress

MOST_LOOKS = 3  # doublings of the second after which `wait` first looks what a run waits for


@click.command(
    "submit",
    short_help="Write a run down for a worker to drive.",
    cls=WithExample,
    example="""
    submit my-emails --input '{"userId": "123"}'
    submit my-emails --priority 10 --delay 15m
    wait $(sequential-ecosystem submit my-emails)
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
    "--priority",
    type=click.IntRange(-1_000_000, 1_000_000),
    metavar="N",
    default=0,
    help="Of the runs that are due, those with more are driven first; 0 if not given.",
)
@click.option(
    "--delay",
    type=Duration(),
    metavar="TIME",
    default=0.0,
    help="Begin no earlier than this from now: 90s, 15m, 12h, 30d, 8w, or seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="The run record as JSON on stdout.")
@click.pass_obj
def submit_command(
    project: Project, *, name: str, given: str | None, priority: int, delay: float, as_json: bool
) -> None:
    """Write a run down without driving it: its id on stdout. A `worker` takes it from there."""
    from sequential.cli import documents
    from sequential.cli.inputs import read_input

    value = read_input(given)

    async def work(engine: "Engine") -> "TaskRun":
        return await engine.create_run(name, value, priority=priority, delay=delay)

    run = project.with_engine(work, task=name)
    if as_json:
        output.document(documents.run_document(run))
    else:
        output.out(run.id)


@click.command(
    "wait",
    short_help="Wait until a run has ended.",
    cls=WithExample,
    example="""
    wait 019a2b3c-4d5e
    wait 019a2b3c-4d5e --timeout 60 --json
    """,
)
@click.argument("run_id")
@click.option("--timeout", type=float, metavar="SECONDS", help="Stop waiting after this time.")
@click.option("--json", "as_json", is_flag=True, help="The run record as JSON on stdout.")
@click.pass_obj
def wait_command(project: Project, run_id: str, timeout: float | None, as_json: bool) -> int:
    """Wait until a run that others drive has ended, and print it. RUN_ID may be its beginning.

    Exit code: 0 completed, 1 failed, or not over when the time had passed.
    """
    from sequential.cli.live import Live
    from sequential.cli.runs import print_run

    async def work(engine: "Engine") -> "TaskRun":
        run = await engine.find_run(run_id)
        return await _wait(project, engine, run, timeout)

    run = project.with_engine(work)
    print_run(run, Live(verbose=False), as_json=as_json)
    if not run.status.is_final:
        output.err(f"The run is still {run.status}: {project.program} wait {run.id}")
    return 0 if str(run.status) == "completed" else 1


async def _wait(
    project: Project, engine: "Engine", run: "TaskRun", timeout: float | None
) -> "TaskRun":
    """The run when it has ended or the time is over; says once for each event what it waits for."""
    import time

    end = math.inf if timeout is None else time.monotonic() + timeout
    told: set[str] = set()  # the events that were mentioned
    looked_at = None  # as what the run was when its calls were looked at
    for look in itertools.count():
        left = end - time.monotonic()
        run = await engine.wait(run.id, max(min(left, 2.0 ** min(look, MOST_LOOKS)), 0.0))
        if run.status.is_final or left <= 0:
            break
        if looked_at != (run.turn, run.status):
            looked_at = (run.turn, run.status)
            await _tell_of_events(project, engine, run, told)
    return run


async def _tell_of_events(
    project: Project, engine: "Engine", run: "TaskRun", told: set[str]
) -> None:
    from sequential.cli import words

    calls, now = await engine.list_calls(run.id), engine.now()
    awaited = [name for name in words.unanswered_events(run, calls) if name not in told]
    has_graph = run.config.graph is not None  # which may wait for a time at the same time
    if awaited and (has_graph or words.is_patient(run, calls, now)):
        told.update(awaited)
        output.hint(words.sentence(run, calls, now, is_driven=has_graph))
        for line in words.answers(project.program, run, awaited):
            output.hint(line)


@click.command(
    "worker",
    short_help="Drive all runs that are due, until stopped.",
    cls=WithExample,
    example="""
    worker
    worker --concurrency 10 --task my-emails
    worker --until-idle
    """,
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=50,
    help="How many runs to drive at a time; 50 if not given.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    help="Only runs of this task; may be given several times.",
)
@click.option("--until-idle", is_flag=True, help="End when no run is due any more.")
@click.pass_obj
def worker_command(
    project: Project, concurrency: int, tasks: tuple[str, ...], until_idle: bool
) -> int:
    """Drive runs that were submitted, have slept long enough, or lost their process.

    Runs that schedules ask for are begun as well.

    Start as many workers as you like on one store: each run is driven by one of them at a time.
    Ctrl-C or SIGTERM parks what is being driven; a worker that is killed loses nothing either.
    While the store cannot be reached it goes on trying, and says when that begins and ends; a store
    that is not there when it starts has half a minute to come up.
    """
    from sequential.cli.signals import stopped_by_signals
    from sequential.runner.worker import Worker

    async def work(engine: "Engine") -> int:
        for name in tasks:
            with project.explaining(name):
                await engine.get_task(name)
        worker = Worker(
            engine, concurrency=concurrency, tasks=tasks or None, on_trouble=report_trouble
        )

        def stop() -> None:
            output.hint("Parking what is being driven; once more ends the program at once.")
            worker.stop()

        if unreachable:
            report_trouble("", None)
        with stopped_by_signals(stop, leave=lambda: None) as received:
            if not until_idle:
                output.hint(f"Looking for runs, up to {concurrency} at a time. Ctrl-C stops.")
            await worker.run(until_idle=until_idle)
        for run_id, error in worker.troubles.items():
            output.err(f"Error: {_subject(run_id)}: {output.one_line(str(error))}")
        if received:
            return 128 + received[0]
        return 1 if worker.troubles else 0

    unreachable: list[SequentialError] = []

    def wait_for_store(error: SequentialError) -> None:
        if not unreachable:
            report_trouble("", error)
        unreachable.append(error)

    return project.with_engine(work, report, on_unreachable=wait_for_store)


def report_trouble(run_id: str, error: SequentialError | None) -> None:
    """A line on stderr when trouble begins, and one when it is over."""
    told = "well again" if error is None else output.one_line(str(error))
    if error is not None and not run_id.startswith("schedule "):
        told += "; trying again"
    output.err(f"{datetime.now().astimezone():%H:%M:%S} {_subject(run_id)}: {told}")


def _subject(run_id: str) -> str:
    """What a trouble is about; see `Worker`."""
    if run_id.startswith("schedule"):
        return "looking for schedules" if run_id == "schedules" else output.clean(run_id)
    return f"run {run_id}" if run_id else "looking for runs"


def report(progress: "Progress") -> None:
    """A line on stderr for each run that was taken, put away, or has ended."""
    from sequential.cli.words import waits
    from sequential.core import times
    from sequential.runner.progress import Step

    run = progress.run
    at = datetime.now().astimezone()
    words = {
        Step.STARTED: "driving",
        Step.PARKED: f"put away, {waits(run, times.to_text(at))}",
        Step.ENDED: f"{run.status}{f': {run.error}' if run.error else ''}",
        Step.RUNTIME_DIED: f"its sandbox process ended: {progress.text}",
    }
    with contextlib.suppress(KeyError):
        what = output.one_line(words[progress.step])
        handler = f", handler {output.clean(run.config.handler)}" if run.config.handler else ""
        output.err(f"{at:%H:%M:%S} {run.id} {run.task_identifier}{handler}: {what}")
