"""`run --dry-run`: everything that is wrong with a task, before anything is run."""

import sys
from typing import TYPE_CHECKING, Any

from sequential.cli import output
from sequential.cli.inputs import read_input
from sequential.cli.project import Project
from sequential.core.inputs import check_input
from sequential.core.model import TaskConfig, TaskFunction
from sequential.core.policy import config_problems
from sequential.errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from sequential.runner.engine import Engine
    from sequential.runtimes.sandbox.dry_run import Problem


def check_task(project: Project, name: str, given: str | None, *, as_json: bool) -> int:
    """Print all problems of code.py, config.json and the input; the exit code says if any is."""
    value = None if given is None else read_input(given)

    async def check(engine: "Engine") -> "tuple[TaskFunction, list[dict[str, Any]]]":
        task = await engine.get_task(name)
        return task, code_problems(project, engine, task)

    try:
        task, problems = project.with_engine(check, task=name)
    except ConfigError as error:
        if f"{name}/config.json" not in str(error):
            raise
        task, problems = None, [_problem("", str(error))]
    if task:
        config_file = str(project.task_file(name, "config.json"))
        problems += [_problem(config_file, message) for message in config_problems(task.config)]
        problems += _of_input(project, task, value)
    if as_json:
        output.document(problems)
    else:
        _print(problems, task.code if task else "")
    return 1 if problems else 0


def code_problems(project: Project, engine: "Engine", task: TaskFunction) -> list[dict[str, Any]]:
    """What is wrong with the code of a task."""
    file = str(project.task_file(task.identifier, task.filename))
    problems = _problems(engine, task)
    return [
        _problem(
            file,
            p.message,
            line=p.line,
            column=p.column,
            instead=p.instead,
            severity=p.severity,
        )
        for p in problems
    ]


def _problems(engine: "Engine", task: TaskFunction) -> "list[Problem]":
    """What the runtime of a task has to say about its code."""
    from sequential.runtimes.native.dry_run import dry_run as dry_run_native
    from sequential.runtimes.sandbox.dry_run import dry_run

    names = [field.name for field in task.config.inputs]
    if task.config.runtime == "native":
        return dry_run_native(task.code, task=task.identifier, input_names=names)
    services = _services(engine, task.config)
    return dry_run(task.code, task=task.identifier, input_names=names, services=services)


def place(problem: dict[str, Any]) -> str:
    """Where a problem is, as file:line:column."""
    return ":".join(str(problem[k]) for k in ("file", "line", "column") if problem[k])


def _services(engine: "Engine", config: TaskConfig) -> dict[str, list[str]]:
    """The services the task may call, with their methods."""
    methods: dict[str, list[str]] = {}
    for dotted in engine.services.methods(config.allow):
        service, _, method = dotted.partition(".")
        methods.setdefault(service, []).append(method)
    return methods


def _problem(
    file: str,
    message: str,
    *,
    line: int | None = None,
    column: int | None = None,
    instead: str = "",
    severity: str = "error",
) -> dict[str, Any]:
    return {
        "file": file,
        "line": line,
        "column": column,
        "message": message,
        "instead": instead,
        "severity": severity,
    }


def _of_input(project: Project, task: TaskFunction, value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    try:
        check_input(task.config, value, project.settings.defaults)
    except InvalidInputError as error:
        return [_problem("--input", str(error))]
    return []


def _print(problems: list[dict[str, Any]], code: str) -> None:
    lines = code.split("\n")
    for problem in problems:
        where = output.clean(place(problem))
        start = output.style(f"{where}: " if where else "", bold=True, file=sys.stdout)
        is_warning = problem["severity"] == "warning"
        kind = output.style("warning: ", "yellow", file=sys.stdout) if is_warning else ""
        output.out(f"{start}{kind}{output.one_line(problem['message'])}")
        if problem["line"] and output.is_terminal(sys.stdout):
            _print_source(lines, problem["line"], problem["column"])
        if problem["instead"]:
            instead = output.clean_lines(problem["instead"]).replace("\n", "\n    ")
            output.out(f"  write instead: {output.style(instead, 'green', file=sys.stdout)}")
    if not problems:
        output.out("no problems")


def _print_source(lines: list[str], line: int, column: int) -> None:
    """The line, with a caret under the column."""
    if line > len(lines):
        return
    source = output.clean(lines[line - 1].expandtabs(1).rstrip())
    cut = max(column - 70, 0)
    output.out(f"    {source[cut : cut + 100]}")
    output.out(f"    {' ' * (column - 1 - cut)}{output.style('^', 'red', file=sys.stdout)}")
