"""Tasks: `create-task`, `list`, `describe`, `delete`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import (
    ConfigError,
    InvalidTaskError,
    TaskExistsError,
    TaskNotFoundError,
)

if TYPE_CHECKING:
    from sequential.core.model import TaskConfig, TaskFunction, TaskRun
    from sequential.core.schedule import Scheduled
    from sequential.runner.engine import Engine
    from sequential.runner.webhooks import Registered


@click.command(
    "create-task",
    short_help="Make a task that runs as it is.",
    cls=WithExample,
    example="""
    create-task my-emails --inputs userId,email
    create-task report --inputs day,limit:integer
    create-task forecast --native
    create-task complex-flow --with-graph
    """,
)
@click.argument("name")
@click.option(
    "--inputs",
    default="",
    metavar="A,B:TYPE",
    help="Fields of the input. TYPE is string (the default), integer, number, boolean, object, "
    "array or any.",
)
@click.option("--description", default="", metavar="TEXT", help="What the task is for.")
@click.option(
    "--native",
    is_flag=True,
    help="Ordinary Python with any library, not in the sandbox: for code that you trust.",
)
@click.option(
    "--with-graph",
    is_flag=True,
    help="A task of several states: graph.json says which follows which, code.py has a function "
    "for each.",
)
@click.pass_obj
def create_task_command(
    project: Project,
    name: str,
    inputs: str,
    description: str,
    *,
    native: bool,
    with_graph: bool,
) -> None:
    """Make a task that runs as it is.

    In the folder storage: tasks/NAME/ with code.py, config.json and meta.json, and graph.json if
    it has one.
    """
    from sequential.cli import templates
    from sequential.core.model import TaskConfig, evolve
    from sequential.core.names import check_task_name

    check_task_name(name)
    fields = templates.input_fields(inputs)
    text = _text(description)
    runtime = "native" if native else "sandbox"
    config = TaskConfig(name=name, description=text, inputs=fields, runtime=runtime)
    code = templates.code(name, fields, text)
    if with_graph:
        config = evolve(config, graph=templates.graph(name))
        code = templates.graph_code(fields, text)

    async def create(engine: "Engine") -> None:
        await _refuse_existing(engine, project, name)
        await engine.store_task(name, code, config)

    project.with_engine(create)
    if project.keeps_files:
        _complete_folder(project, name, with_graph=with_graph)
        following = f"edit {'graph.json and ' if with_graph else ''}code.py, then"
    else:
        store = project.settings.adaptor.partition(":")[0]
        output.out(f"created  {name} in the storage {output.clean(store)}")
        following = ""
    output.out(
        f"\nNext: {following}".rstrip() + "\n"
        f"  {project.program} run {name} --dry-run\n"
        f"  {project.program} run {name}{_example_input(config)}"
    )


@click.command(
    "list",
    short_help="All tasks, and the runs that wait to go on.",
    cls=WithExample,
    example="""
    list
    list --json | jq -r '.[].name'
    """,
)
@click.option("-v", "--verbose", is_flag=True, help="Also descriptions and inputs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_obj
def list_command(project: Project, verbose: bool, as_json: bool) -> None:
    """All tasks, how their runs stand, and which runs wait for somebody to go on."""
    from sequential.cli import documents, remarks

    async def load(engine: "Engine") -> "tuple[list[TaskFunction], list[TaskRun]]":
        tasks, runs = await engine.list_tasks(), await engine.list_runs()
        if as_json:
            schedules = await engine.schedules.list()
            webhooks = await engine.webhooks.list()
            output.document(
                [
                    documents.task_document(
                        task,
                        _path(project, task),
                        _of(task, runs),
                        [one for one in schedules if one.task == task.identifier],
                        [one for one in webhooks if one.task == task.identifier],
                    )
                    for task in tasks
                ]
            )
        else:
            _print_tasks(project, tasks, runs, verbose=verbose)
        await remarks.unfinished(engine, project, runs)
        await remarks.damaged(engine)
        return tasks, runs

    project.with_engine(load)


@click.command(
    "describe",
    short_help="One task: inputs, policy, runs.",
    cls=WithExample,
    example="""
    describe my-emails
    """,
)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def describe_command(project: Project, name: str, as_json: bool) -> None:
    """One task: its inputs, its policy, its schedules and webhooks, and how its runs stand."""
    from sequential.cli import documents

    async def load(
        engine: "Engine",
    ) -> "tuple[TaskFunction, list[TaskRun], list[Scheduled], list[Registered]]":
        task, runs = await engine.get_task(name), await engine.list_runs(name)
        return task, runs, await engine.schedules.list(name), await engine.webhooks.list(name)

    task, runs, schedules, webhooks = project.with_engine(load, task=name)
    if as_json:
        path = _path(project, task)
        output.document(documents.task_document(task, path, runs, schedules, webhooks))
        return
    _print_task(project, task, runs)
    if schedules:
        from sequential.cli import render
        from sequential.cli.schedules import print_schedules

        render.heading("Schedules")
        print_schedules(schedules, of_one_task=True)
    if webhooks:
        from sequential.cli import render
        from sequential.cli.webhooks import print_webhooks

        render.heading("Webhooks")
        print_webhooks(webhooks, of_one_task=True)


@click.command(
    "delete",
    short_help="Remove a task with all of its runs.",
    cls=WithExample,
    example="""
    delete my-emails
    delete my-emails --force
    """,
)
@click.argument("name")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_command(project: Project, name: str, force: bool) -> None:
    """Remove a task with all of its runs. Asks first.

    Without a terminal to ask on, nothing is removed unless --force is given.
    """
    from sequential.cli import words

    async def look(engine: "Engine") -> "list[TaskRun]":
        return await engine.list_runs(name)

    runs = project.with_engine(look, task=name)
    if not force:
        if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
            raise click.UsageError(f"delete asks before it removes {name}: use --force here")
        open_runs = sum(not run.status.is_final for run in runs)
        note = f", {open_runs} of them unfinished" if open_runs else ""
        question = f"Remove the task {name} with {words.count(len(runs), 'run')}{note}?"
        if not click.confirm(question, err=True):
            output.err("Nothing was removed.")
            click.get_current_context().exit(1)

    async def delete(engine: "Engine") -> int:
        return await engine.delete_task(name)

    project.with_engine(delete)
    output.out(f"removed  {name} with {words.count(len(runs), 'run')}")


def _complete_folder(project: Project, name: str, *, with_graph: bool) -> None:
    """Make what a task's folder has besides the task itself, and say what there is."""
    from sequential.cli.graph_schema import keep_schema

    folder = project.task_file(name, "")
    files = ["code.py", *["graph.json"] * with_graph, "config.json", "meta.json", "runs/"]
    created = [f"{folder}/{file}" for file in files]
    try:
        project.task_file(name, "runs").mkdir(exist_ok=True)
        if with_graph:
            created.append(str(keep_schema(folder.parent)))
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    for path in created:
        output.out(f"created  {output.clean(path)}")


async def _refuse_existing(engine: "Engine", project: Project, name: str) -> None:
    try:
        await engine.get_task(name)
    except TaskNotFoundError:
        folder = project.task_file(name, "")
        if not project.keeps_files or not folder.exists() or not any(folder.iterdir()):
            return
    except (ConfigError, InvalidTaskError):
        pass  # it exists, and is broken
    raise TaskExistsError(
        f"there is a task {name} already: choose another name, or remove it first with "
        f"`{project.program} delete {name}`"
    )


def _text(description: str) -> str:
    """A description on one line; bytes that are no text would fit into no store."""
    try:
        description.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter("it is not valid text", param_hint="--description") from error
    return output.clean(" ".join(description.split()))


def _example_input(config: "TaskConfig") -> str:
    """` --input '...'` that a shell can take, with a value for each field."""
    import json

    from sequential.cli.inputs import example_of

    if not config.inputs:
        return ""
    return f" --input '{json.dumps(example_of(config.inputs))}'"


def _path(project: Project, task: "TaskFunction") -> str | None:
    return str(project.task_file(task.identifier, task.filename)) if project.keeps_files else None


def _of(task: "TaskFunction", runs: "Sequence[TaskRun]") -> "list[TaskRun]":
    return [run for run in runs if run.task_identifier == task.identifier]


def _print_tasks(
    project: Project, tasks: "list[TaskFunction]", runs: "list[TaskRun]", *, verbose: bool
) -> None:
    from datetime import UTC, datetime

    from sequential.cli import render, words
    from sequential.core import times

    if not tasks:
        output.hint(f"There are no tasks yet: {project.program} create-task my-task")
        if found := len(project.tasks_to_sync()):
            has = f"The tasks folder has {words.count(found, 'task')}"
            output.hint(f"{has}, copied into this storage by: {project.sync_command()}")
        return
    now = times.to_text(datetime.now(UTC))
    columns = [render.Column("task"), render.Column("runs", "right"), render.Column("last run")]
    columns += [render.Column("when"), render.Column("", wide=True)]
    rows = []
    for task in tasks:
        own = _of(task, runs)
        last = own[0] if own else None
        about = [task.config.description] if task.config.description else []
        if verbose:
            about.append(", ".join(f"{f.name}: {f.type}" for f in task.config.inputs))
        rows.append(
            [
                task.identifier,
                str(len(own)),
                str(last.status) if last else "",
                words.moment(last.created_at, now) if last else "",
                "\n".join(output.clean(text) for text in about if text),
            ]
        )
    render.table(columns, rows)


def _print_task(project: Project, task: "TaskFunction", runs: "list[TaskRun]") -> None:
    from datetime import UTC, datetime

    from sequential.cli import render, words
    from sequential.core import times

    now = times.to_text(datetime.now(UTC))
    created, changed = (words.moment(at, now) for at in (task.created_at, task.updated_at))
    config = task.config
    counts: dict[str, int] = {}
    for run in runs:
        counts[str(run.status)] = counts.get(str(run.status), 0) + 1
    retry = config.retry
    hosts, services = config.allow.hosts, config.allow.services
    render.fields(
        [
            ("task", task.identifier),
            ("description", output.clean(config.description)),
            ("code", output.clean(_path(project, task) or task.filename)),
            ("runtime", output.clean(config.runtime)),
            ("states", output.clean(_states(project, task))),
            ("version", f"{task.version}, changed {changed}, created {created}"),
            ("timeout", words.duration(config.timeout)),
            ("ttl", words.duration(config.ttl)),
            ("concurrency", str(config.concurrency or "")),
            (
                "retries",
                f"{retry.retries}, first after {words.duration(retry.delay)}" if retry else "",
            ),
            ("hosts", _allowed(hosts)),
            ("services", _allowed(services)),
            ("secrets", _allowed(config.allow.secrets)),
            ("runs", ", ".join(f"{n} {status}" for status, n in counts.items()) or "none yet"),
        ]
    )
    if config.inputs:
        render.heading("Inputs")
        columns = [render.Column("name"), render.Column("type"), render.Column("")]
        columns.append(render.Column("description", wide=True))
        render.table(
            columns,
            [
                [
                    output.clean(f.name),
                    output.clean(f.type),
                    _need(f.required, f.default),
                    output.clean(f.description),
                ]
                for f in config.inputs
            ],
        )


def _states(project: Project, task: "TaskFunction") -> str:
    """The states of its graph, if it has one."""
    from sequential.cli import documents

    names = documents.graph_states(task)
    if names is None:
        return ""
    broken = f"graph.json has mistakes: {project.program} run {task.identifier} --dry-run"
    return ", ".join(names) or broken


def _allowed(names: tuple[str, ...] | None) -> str:
    return "" if names is None else output.clean(", ".join(names)) or "none"


def _need(required: bool, default: object) -> str:
    from sequential.cli import words

    if default is not None:
        return f"default {words.compact(default, 30)}"
    return "required" if required else "optional"
