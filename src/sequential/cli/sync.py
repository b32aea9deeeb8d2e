"""Tasks between the tasks folder and another storage: `sync-tasks` and `pull-tasks`."""

import difflib
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import ConfigError

if TYPE_CHECKING:
    from sequential.core.model import TaskFunction
    from sequential.runner.engine import Engine
    from sequential.runner.task_sync import Report, Synced, TaskSync

COLOURS = {"added": "green", "updated": "cyan", "refused": "red"}


@click.command(
    "sync-tasks",
    short_help="Copy tasks from the folder into the storage.",
    cls=WithExample,
    example="""
    sync-tasks --adaptor sqlite
    sync-tasks --task my-emails --dry-run --verbose
    """,
)
@click.option("--adaptor", metavar="NAME", help="The storage; else the project's.")
@click.option("--task", "only", metavar="NAME", help="This task only.")
@click.option("-v", "--verbose", is_flag=True, help="Also digests, and what has changed.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def sync_tasks_command(
    project: Project,
    *,
    adaptor: str | None,
    only: str | None,
    verbose: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Copy the tasks of the tasks folder into the storage that runs them.

    A task gets a new version if something has changed. One with problems is reported and not
    copied, the others are; the exit code is 1 then. Tasks that only the storage has are left alone.
    """

    async def push(sync: "TaskSync") -> "Report":
        return await sync.push(only)

    project = project.with_storage(adaptor)
    return _copy(project, push, "in the storage", verbose=verbose, dry_run=dry_run, as_json=as_json)


@click.command(
    "pull-tasks",
    short_help="Copy tasks from the storage into the folder.",
    cls=WithExample,
    example="""
    pull-tasks --adaptor sqlite
    pull-tasks --task my-emails --force
    """,
)
@click.option("--adaptor", metavar="NAME", help="The storage; else the project's.")
@click.option("--task", "only", metavar="NAME", help="This task only.")
@click.option("--force", is_flag=True, help="Overwrite tasks of the folder that were changed.")
@click.option("-v", "--verbose", is_flag=True, help="Also digests, and what has changed.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def pull_tasks_command(
    project: Project,
    *,
    adaptor: str | None,
    only: str | None,
    force: bool,
    verbose: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Copy the tasks of the storage into the tasks folder: code.py, config.json, graph.json.

    A task that was changed in the folder and never synced since is not overwritten without --force;
    the exit code is 1 then.
    """

    async def pull(sync: "TaskSync") -> "Report":
        report = await sync.pull(only, force=force)
        if not dry_run:
            _complete_graphs(project, report)
        return report

    project = project.with_storage(adaptor)
    code = _copy(project, pull, "in the folder", verbose=verbose, dry_run=dry_run, as_json=as_json)
    if code:
        output.hint(f"First `{project.program} sync-tasks`, or pull with --force")
    return code


def _complete_graphs(project: Project, report: "Report") -> None:
    """Put the schema that graphs refer to beside the tasks, as `create-task --with-graph` does."""
    from sequential.cli.graph_schema import keep_schema

    tasks = [task.new for task in report.tasks if task.change in ("added", "updated")]
    if any(task.config.graph is not None for task in tasks if task):
        try:
            keep_schema(project.settings.tasks)
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error


def _copy(
    project: Project,
    work: "Callable[[TaskSync], Awaitable[Report]]",
    where: str,
    *,
    verbose: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    from sequential.cli.check import place, shown
    from sequential.config import masked
    from sequential.runner.checking import hinders
    from sequential.runner.task_sync import Report, TaskSync

    store = masked(project.settings.adaptor)

    async def copy(engine: "Engine") -> "Report":
        def check(task: "TaskFunction") -> list[str]:
            found = [shown(project, task.identifier, p) for p in hinders(task, engine.services)]
            return [f"{place(p)}: {p['message']}" for p in found]

        folder = project.settings.tasks
        sync = TaskSync(folder, engine.storage, now=engine.now(), check=check, dry_run=dry_run)
        return await work(sync)

    report = Report(()) if project.keeps_files else project.with_engine(copy)
    if as_json:
        output.document(_document(report, store, dry_run=dry_run))
    elif project.keeps_files:
        output.out(
            f"nothing to do: the storage is the tasks folder itself. Choose another one with "
            f"--adaptor sqlite, DATABASE_URL, or `{project.program} config set adaptor sqlite`"
        )
    else:
        _print(report, verbose=verbose)
        would = " (dry run: nothing was written)" if dry_run else ""
        output.hint(f"{_counts(report)}; storage {output.clean(store)}{would}")
        if report.elsewhere:
            output.hint(f"Only {where}, and left alone: {', '.join(report.elsewhere)}")
    return 1 if any(task.change == "refused" for task in report.tasks) else 0


def _print(report: "Report", *, verbose: bool) -> None:
    width = max((len(task.name) for task in report.tasks), default=0)
    for task in report.tasks:
        change = output.style(f"{task.change:9}", COLOURS.get(task.change), file=sys.stdout)
        output.out(f"{change}  {task.name:{width}}  {_versions(task)}".rstrip())
        for problem in task.problems:
            output.out(f"  {output.one_line(problem)}")
        if verbose:
            for line in _details(task):
                output.out(f"  {output.clean(line)}")


def _counts(report: "Report") -> str:
    counts = Counter(str(task.change) for task in report.tasks)
    return ", ".join(f"{counts[change]} {change}" for change in sorted(counts)) or "no tasks"


def _versions(task: "Synced") -> str:
    from sequential.cli import words

    if task.change == "refused":
        return words.count(len(task.problems), "problem")
    if task.version is None:
        return ""
    before = f"{task.old_version} -> " if task.old_version not in (None, task.version) else ""
    return f"version {before}{task.version}"


def _details(task: "Synced") -> list[str]:
    """Digests, and what has changed in a few words."""
    from sequential.cli import words

    before, after = ((one or "")[:12] for one in (task.old_digest, task.digest))
    lines = [f"digest {before} -> {after}" if before and before != after else f"digest {after}"]
    if task.change == "refused" or task.old is None or task.new is None:
        return lines if after else []
    added, removed = _changed_lines(task.old.code, task.new.code)
    if added or removed:
        lines.append(f"{task.new.filename}: {words.count(added, 'line')} added, {removed} removed")
    changed = [
        name
        for name in task.new.config.__struct_fields__
        if getattr(task.old.config, name) != getattr(task.new.config, name)
    ]
    if changed:
        lines.append(f"config.json: {', '.join(changed)}")
    return lines


def _changed_lines(old: str, new: str) -> tuple[int, int]:
    found = list(difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm=""))[2:]
    return (
        sum(line.startswith("+") for line in found),
        sum(line.startswith("-") for line in found),
    )


def _document(report: "Report", store: str, *, dry_run: bool) -> dict[str, Any]:
    return {
        "storage": store,
        "dry_run": dry_run,
        "tasks": [
            {
                "name": task.name,
                "change": str(task.change),
                "version": task.version,
                "old_version": task.old_version,
                "digest": task.digest,
                "old_digest": task.old_digest,
                "problems": list(task.problems),
            }
            for task in report.tasks
        ],
        "elsewhere": list(report.elsewhere),
    }
