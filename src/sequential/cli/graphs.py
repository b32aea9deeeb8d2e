"""Runs that follow a graph: `send`, and what `show` tells of states, transitions and handlers."""

from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sequential.cli.visits import Handler, Story
    from sequential.core.model import StackRun, TaskRun
    from sequential.runner.engine import Engine

MOST = 50  # states, transitions and handlers that are listed: the newest
MOST_CALLS = 10  # of one handler


@click.command(
    "send",
    short_help="Send an event to a run that follows a graph.",
    cls=WithExample,
    example="""
    send 019a2b3c-4d5e APPROVE
    send 019a2b3c-4d5e APPROVE --data '{"by": "Ann"}'
    """,
)
@click.argument("run_id", metavar="RUN_ID")
@click.argument("event")
@click.option(
    "--data",
    "given",
    metavar="JSON",
    help="The fields of the event, an object; @FILE reads a file, - reads stdin.",
)
@click.option(
    "--id", "event_id", metavar="TEXT", help="Counts once, however often it is sent with this id."
)
@click.option("--json", "as_json", is_flag=True, help="The run record as JSON on stdout.")
@click.pass_obj
def send_command(
    project: Project,
    run_id: str,
    event: str,
    given: str | None,
    event_id: str | None,
    *,
    as_json: bool,
) -> None:
    """Send an event to a run whose task has a graph.json.

    RUN_ID may be the beginning of an id. An event that no active state takes is refused, with those
    that are accepted; a run that has not begun accepts all events of its graph.
    """
    from sequential.cli import documents
    from sequential.cli.inputs import read_json

    data = None if given is None else read_json(given, "--data")

    async def work(engine: "Engine") -> "tuple[TaskRun, bool]":
        found = await engine.find_run(run_id)
        run = await engine.send(found.id, event, data, id=event_id)
        return run, await engine.is_driven(run)

    run, is_driven = project.with_engine(work)
    if as_json:
        output.document(documents.run_document(run))
    output.err(f"sent {output.clean(event)} to {run.id} of {run.task_identifier}")
    if str(run.status) == "paused":
        output.hint(f"The run is paused: {project.program} unpause {run.id}")
    elif not is_driven:
        output.hint(f"Whoever drives it goes on: a worker, or {project.program} resume {run.id}")


async def load(
    engine: "Engine", run: "TaskRun", calls: "Sequence[StackRun]", *, everything: bool
) -> "Story":
    """What a run did in its graph, with its handlers' runs and their calls.

    Unless it is to be `everything`, only of those handlers that `print_story` shows.
    """
    from sequential.cli.visits import Handler, machine_calls, short, story
    from sequential.runner.child_runs import child_of

    told = story(run, calls, await engine.accepted_events(run.id))
    children = {child.id: child for child in await engine.list_children(run.id)}
    handlers, asked = [], machine_calls(calls)
    shown = {call.id for call in (asked if everything else asked[-MOST:])}
    for call in asked:
        child = children.get(child_of(call))
        state = short(call.where.source if call.where else "", told.root)
        of_child = await engine.list_calls(child.id) if child and call.id in shown else []
        handlers.append(Handler(state, call, child, of_child))
    return told._replace(handlers=handlers)


def print_story(story: "Story", now: str) -> None:
    """The states that a run was in, how it came from one to the next, and what they started."""
    from sequential.cli import render

    if story.visits:
        render.heading("States")
        _print_visits(story, now)
    if story.taken:
        render.heading("Transitions")
        _print_taken(story, now)
    if story.handlers:
        render.heading("Handlers")
        _print_handlers(story.handlers)


def awaiting(story: "Story") -> "list[tuple[TaskRun, list[str]]]":
    """The runs of handlers that wait for an answer themselves, with the names of the events."""
    from sequential.cli import words

    found = []
    for handler in story.handlers:
        if handler.run and not handler.run.status.is_final:
            names = words.unanswered_events(handler.run, handler.calls)
            if names:
                found.append((handler.run, names))
    return found


def _print_visits(story: "Story", now: str) -> None:
    from sequential.cli import render, words
    from sequential.cli.visits import event_words
    from sequential.core import times

    rows = []
    for visit in story.visits[-MOST:]:
        spent = max(times.seconds_between(visit.entered_at, visit.left_at or now), 0.0)
        rows.append(
            [
                output.clean(visit.state),
                words.moment(visit.entered_at, now),
                words.duration(spent) + ("" if visit.left_at else " so far"),
                event_words(visit.event, story.root),
            ]
        )
    _say_more(len(story.visits))
    columns = [render.Column("state"), render.Column("entered"), render.Column("time in it")]
    render.table([*columns, render.Column("by", wide=True)], rows)


def _print_taken(story: "Story", now: str) -> None:
    from sequential.cli import render, words
    from sequential.cli.visits import event_words

    rows = []
    for one in story.taken[-MOST:]:
        targets = "(actions only)" if one.targets is None else f"-> {', '.join(one.targets)}"
        way = output.clean(f"{one.source} {targets}".strip())
        rows.append([words.moment(one.at, now), event_words(one.event, story.root), way])
    _say_more(len(story.taken))
    columns = [render.Column("at"), render.Column("event")]
    render.table([*columns, render.Column("transition", wide=True)], rows)


def _print_handlers(handlers: "Sequence[Handler]") -> None:
    from sequential.cli import render, words

    runs = [handler.run for handler in handlers if handler.run]
    ids = words.short_ids(runs)
    rows = []
    for handler in handlers[-MOST:]:
        run, call = handler.run, handler.call
        result = words.call_result(call, 200)
        details = [f"-> {result}" if result else "", *_calls_of(handler)]
        rows.append(
            [
                output.clean(handler.label),
                ids[run.id] if run else "",
                str(run.status if run else call.status),
                words.duration(words.call_time(call)) if call.status.is_settled else "",
                "\n".join(text for text in details if text),
            ]
        )
    _say_more(len(handlers))
    titles = ("handler of", "run", "status", "took")
    columns = [render.Column(title, "right" if title == "took" else "left") for title in titles]
    render.table([*columns, render.Column("result, calls", wide=True)], rows)


def _calls_of(handler: "Handler") -> list[str]:
    """A line for each call that a handler has made."""
    from sequential.cli import words

    lines = []
    for call in handler.calls[:MOST_CALLS]:
        result = words.call_result(call, 100)
        given = f" -> {result}" if result else "" if call.status.is_settled else f" {call.status}"
        lines.append(f"{call.sequence + 1} {words.call_name(call, 100)}{given}")
    if len(handler.calls) > MOST_CALLS:
        lines.append(f"… {words.count(len(handler.calls) - MOST_CALLS, 'more call')}")
    return lines


def _say_more(count: int) -> None:
    if count > MOST:
        output.out(f"  … {count - MOST} earlier, all with --json")
