"""What operators do to runs: `answer`, `cancel`, `pause`, `unpause` and `retry`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample

if TYPE_CHECKING:
    from sequential.core.model import StackRun, TaskRun
    from sequential.core.transitions import Event
    from sequential.runner.engine import Engine

_json = click.option("--json", "as_json", is_flag=True, help="The run records as a JSON array.")


@click.command(
    "answer",
    short_help="Give a run the event it waits for.",
    cls=WithExample,
    example="""
    answer 019a2b3c-4d5e approval
    answer 019a2b3c-4d5e approval --data '{"by": "Ann"}'
    """,
)
@click.argument("run_id", metavar="RUN_ID")
@click.argument("event")
@click.option(
    "--data",
    "given",
    metavar="JSON",
    help="What the task gets; @FILE reads a file, - reads stdin. Without it: null.",
)
@click.option("--json", "as_json", is_flag=True, help="The run record as JSON on stdout.")
@click.pass_obj
def answer_command(
    project: Project, run_id: str, event: str, given: str | None, as_json: bool
) -> None:
    """Give a run what its task waits for with `wait_for_event(EVENT)`, now or later.

    RUN_ID may be the beginning of an id. An answer that comes before the task asks for it is kept.
    """
    from sequential.cli import documents, words
    from sequential.cli.inputs import read_json

    data = None if given is None else read_json(given, "--data")

    async def work(engine: "Engine") -> "tuple[TaskRun, list[StackRun]]":
        run = await engine.find_run(run_id)
        calls = await engine.list_calls(run.id)
        return await engine.answer(run.id, event, data), calls

    run, calls = project.with_engine(work)
    if as_json:
        output.document(documents.run_document(run))
    awaited = words.awaited_events(calls)
    output.err(f"answered {run.id}: {_found(event, awaited)}")
    if str(run.status) == "paused":
        output.hint(f"The run is paused: {project.program} unpause {run.id}")
    elif event in awaited:
        output.hint(f"Whoever drives it goes on: a worker, or {_resume(project, run)}")


def _found(event: str, awaited: list[str]) -> str:
    """When the task gets an answer, in a few words."""
    from sequential.cli import words

    if event in awaited:
        return f"it waits for {words.event_name(event)} and goes on"
    if not awaited:
        return f"it does not wait for an event yet and will find {words.event_name(event)} then"
    others = ", ".join(words.event_name(name) for name in awaited[:3])
    more = ", ..." if len(awaited) > 3 else ""
    return f"it will find {words.event_name(event)} later, now it waits for {others}{more}"


def _operation(
    name: str, short_help: str, text: str, event: str, tell: Callable[[Project, "TaskRun"], str]
) -> click.Command:
    """A command that does the same to each of some runs, or nothing at all when one is refused."""

    @click.command(
        name, short_help=short_help, help=text, cls=WithExample, example=f"{name} 019a2b3c-4d5e"
    )
    @click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True)
    @_json
    @click.pass_obj
    def command(project: Project, run_ids: tuple[str, ...], as_json: bool) -> None:
        from sequential.cli import documents
        from sequential.core.transitions import Event

        async def work(engine: "Engine") -> "list[TaskRun]":
            changed = []
            for run in await _found_runs(engine, run_ids, Event(event)):
                changed.append(await getattr(engine, name)(run.id))
                output.err(f"{tell(project, changed[-1])}")
            return changed

        runs = project.with_engine(work)
        if as_json:
            output.document([documents.run_document(run) for run in runs])

    return command


async def _found_runs(engine: "Engine", given: tuple[str, ...], event: "Event") -> "list[TaskRun]":
    """The runs that ids begin with, each once; raises unless `event` can happen to all of them."""
    runs = {run.id: run for run in [await engine.find_run(prefix) for prefix in given]}
    for run in runs.values():
        await engine.check(run, event)
    return list(runs.values())


def _resume(project: Project, run: "TaskRun") -> str:
    return f"{project.program} resume {run.id}"


def _cancelled(project: Project, run: "TaskRun") -> str:
    return f"cancelled {run.id} of {run.task_identifier}"


def _paused(project: Project, run: "TaskRun") -> str:
    return f"paused {run.id} of {run.task_identifier}; go on: {project.program} unpause {run.id}"


def _due(word: str) -> Callable[[Project, "TaskRun"], str]:
    def tell(project: Project, run: "TaskRun") -> str:
        driven = f"a worker takes it, or {_resume(project, run)}"
        return f"{word} {run.id} of {run.task_identifier}: {driven}"

    return tell


_SEVERAL = "RUN_ID may be the beginning of an id. If one of several is refused, nothing is changed."

cancel_command = _operation(
    "cancel",
    "End runs and their child runs.",
    f"End runs, wherever they are driven; their calls and child runs are given up.\n\n{_SEVERAL}",
    "cancel",
    _cancelled,
)

pause_command = _operation(
    "pause",
    "Stop runs until they are unpaused.",
    "Stop runs, wherever they are driven, until they are unpaused; nothing of them is lost.\n\n"
    f"A call in progress is made again afterwards. {_SEVERAL}",
    "pause",
    _paused,
)

unpause_command = _operation(
    "unpause",
    "Let paused runs go on.",
    f"Let paused runs go on: a worker takes them, or `resume`.\n\n{_SEVERAL}",
    "unpause",
    _due("unpaused"),
)

retry_command = _operation(
    "retry",
    "Let failed runs go on from the call that failed.",
    "Let failed or cancelled runs go on from the call that failed, which is made again with the "
    f"same Idempotency-Key; calls that succeeded are not. A worker takes them, or `resume`."
    f"\n\n{_SEVERAL}",
    "retry",
    _due("due again"),
)
