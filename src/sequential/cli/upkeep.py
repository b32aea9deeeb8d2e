"""Keeping a store small: `prune`."""

import contextlib
import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.durations import Duration
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import InvalidTransitionError, RunBusyError, RunNotFoundError

if TYPE_CHECKING:
    from sequential.runner.engine import Engine


@click.command(
    "prune",
    short_help="Remove runs that ended long ago.",
    cls=WithExample,
    example="""
    prune --older-than 30d --dry-run
    prune --older-than 8w --status completed --yes
    """,
)
@click.option(
    "--older-than",
    type=Duration(),
    required=True,
    metavar="TIME",
    help="How long ago they must have ended: 90s, 15m, 12h, 30d, 8w, or seconds.",
)
@click.option("--task", metavar="NAME", help="Only runs of this task.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(["completed", "failed", "cancelled"]),
    help="Only runs that ended like this; may be given several times.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def prune_command(
    project: Project,
    *,
    older_than: float,
    task: str | None,
    statuses: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove runs that ended long ago, with their calls and logs. Asks first.

    Without a terminal to ask on, nothing is removed unless --yes is given. A child run stays as
    long as its parent may ask for its result.
    """
    from sequential.core.model import Status
    from sequential.runner.operations import FINAL

    wanted = [Status(status) for status in statuses] or list(FINAL)

    async def look(engine: "Engine") -> list[tuple[str, str]]:
        ended = engine.ended_runs(older_than, task=task, statuses=wanted)
        return [(run.id, run.task_identifier) async for run in ended]

    async def remove(engine: "Engine") -> list[tuple[str, str]]:
        await engine.audit.prune()
        return [(run_id, name) for run_id, name in found if await _is_removed(engine, run_id)]

    if not (dry_run or yes or (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr))):
        raise click.UsageError("prune asks before it removes runs: use --yes here, or --dry-run")
    found = project.with_engine(look)
    if not dry_run:
        if found and not yes:
            _ask(found)
        found = project.with_engine(remove)
    _report(found, dry_run=dry_run, as_json=as_json)


async def _is_removed(engine: "Engine", run_id: str) -> bool:
    """Remove a run unless somebody was quicker, or has taken it up again."""
    with contextlib.suppress(RunNotFoundError, RunBusyError, InvalidTransitionError):
        await engine.delete_run(run_id)
        return True
    return False


def _ask(found: list[tuple[str, str]]) -> None:
    from sequential.cli import words

    if not click.confirm(f"Remove {words.count(len(found), 'run')}{_by_task(found)}?", err=True):
        output.err("Nothing was removed.")
        click.get_current_context().exit(1)


def _report(found: list[tuple[str, str]], *, dry_run: bool, as_json: bool) -> None:
    from sequential.cli import words

    counts = Counter(task for _, task in found)
    if as_json:
        ids = [run_id for run_id, _ in found]
        output.document({"dry_run": dry_run, "runs": ids, "tasks": dict(sorted(counts.items()))})
        return
    verb = "would remove" if dry_run else "removed"
    output.out(f"{verb}  {words.count(len(found), 'run')}{_by_task(found)}")


def _by_task(found: list[tuple[str, str]]) -> str:
    counts = Counter(task for _, task in found)
    return ": " * bool(counts) + ", ".join(f"{count} of {task}" for task, count in counts.items())
