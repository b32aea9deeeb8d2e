"""`run --dry-run`: everything that is wrong with a task, before anything is run."""

import sys
from typing import TYPE_CHECKING, Any

from sequential.cli import output
from sequential.cli.inputs import read_input
from sequential.cli.project import Project
from sequential.core.inputs import check_input
from sequential.core.model import TaskFunction
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
    return 1 if any(problem["severity"] != "note" for problem in problems) else 0


def code_problems(project: Project, engine: "Engine", task: TaskFunction) -> list[dict[str, Any]]:
    """What is wrong with the code of a task, and with its graph if it has one."""
    file = str(project.task_file(task.identifier, task.filename))
    graph, handlers = _graph_problems(project, task)
    problems = _problems(engine, task, handlers)
    return graph + [
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


def _graph_problems(
    project: Project, task: TaskFunction
) -> "tuple[list[dict[str, Any]], list[str] | None]":
    """What is wrong with a graph, and the names of its handlers; None for a task without one."""
    if task.config.graph is None:
        return [], None
    from sequential.core.statechart.problems import GraphError
    from sequential.core.task_graph import machine_of

    file = str(project.task_file(task.identifier, "graph.json"))
    try:
        machine = machine_of(task.config.graph, task.code, task.identifier)
    except GraphError as error:
        found, handlers = error.problems, []
    else:
        found = (*machine.warnings, *machine.notes)
        handlers = [one.handler for one in machine.chart.invocations.values() if one.handler]
    return [_problem(file, str(one), severity=one.level) for one in found], handlers


def _problems(engine: "Engine", task: TaskFunction, handlers: list[str] | None) -> "list[Problem]":
    """What the runtime of a task has to say about its code."""
    from sequential.runtimes.native.dry_run import dry_run as dry_run_native
    from sequential.runtimes.sandbox.dry_run import dry_run

    names = [field.name for field in task.config.inputs]
    if task.config.runtime == "native":
        return dry_run_native(task.code, task=task.identifier, input_names=names, handlers=handlers)
    services = _services(engine, task)
    return dry_run(
        task.code,
        task=task.identifier,
        input_names=names,
        services=services,
        handlers=handlers,
    )


def place(problem: dict[str, Any]) -> str:
    """Where a problem is, as file:line:column."""
    return ":".join(str(problem[k]) for k in ("file", "line", "column") if problem[k])


def _services(engine: "Engine", task: TaskFunction) -> dict[str, list[str]]:
    """The services the task may call, with their methods."""
    methods: dict[str, list[str]] = {}
    for dotted in engine.services.methods(task.config.allow, task.code):
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
        severity = problem["severity"]
        colour = "yellow" if severity == "warning" else None
        kind = output.style(f"{severity}: ", colour, file=sys.stdout)
        kind = "" if severity == "error" else kind
        output.out(f"{start}{kind}{output.one_line(problem['message'])}")
        if problem["line"] and output.is_terminal(sys.stdout):
            _print_source(lines, problem["line"], problem["column"])
        if problem["instead"]:
            instead = output.clean_lines(problem["instead"]).replace("\n", "\n    ")
            output.out(f"  write instead: {output.style(instead, 'green', file=sys.stdout)}")
    if all(problem["severity"] == "note" for problem in problems):
        output.out("no problems")


def _print_source(lines: list[str], line: int, column: int) -> None:
    """The line, with a caret under the column."""
    if line > len(lines):
        return
    source = output.clean(lines[line - 1].expandtabs(1).rstrip())
    cut = max(column - 70, 0)
    output.out(f"    {source[cut : cut + 100]}")
    output.out(f"    {' ' * (column - 1 - cut)}{output.style('^', 'red', file=sys.stdout)}")
