"""Remarks on stderr: unfinished runs that nobody drives, files that are damaged."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from sequential.cli import output, words
from sequential.cli.project import Project
from sequential.core import times
from sequential.core.model import Status, TaskRun
from sequential.runner.engine import Engine

MOST = 3  # runs that are named one by one


async def unfinished(
    engine: Engine, project: Project, runs: Sequence[TaskRun], *, besides: str = ""
) -> None:
    """Name the runs that would go on if somebody drove them, with the command for it."""
    now = times.to_text(datetime.now(UTC))
    waiting = [
        run
        for run in runs
        if not run.status.is_final
        and run.status is not Status.PAUSED
        and run.parent_run_id is None  # it goes on when its parent does
        and not words.is_delayed(run, now)
        and run.id != besides
        and not await engine.is_driven(run)
    ]
    for run in waiting[:MOST]:
        is_answerable = run.status is Status.SUSPENDED and run.wake_at is None
        command = f"show {run.task_identifier}" if is_answerable else "resume"
        output.hint(
            f"Unfinished: {run.task_identifier}, {words.waits(run, now)}, "
            f"since {words.moment(run.created_at, now)}. "
            f"{'Answer' if is_answerable else 'Go on'}: {project.program} {command} {run.id}"
        )
    if len(waiting) > MOST:
        output.hint(f"... and {words.count(len(waiting) - MOST, 'more unfinished run')}")


async def damaged(engine: Engine, task: str | None = None) -> None:
    """Name the files that are left out of lists because they are damaged."""
    for report in await engine.list_damaged():
        if task is None or f"/{task}/" in report:
            output.err(
                f"{output.style('Damaged:', 'red', file=sys.stderr)} {output.one_line(report)}"
            )
