"""`run --dry-run`: everything that is wrong with a task, before anything is run."""

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from sequential.cli import output
from sequential.cli.inputs import read_input
from sequential.cli.project import Project
from sequential.core.inputs import check_input
from sequential.core.model import TaskFunction
from sequential.errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from sequential.runner.checking import TaskProblem
    from sequential.runner.engine import Engine


def check_task(project: Project, name: str, given: str | None, *, as_json: bool) -> int:
    """Print all problems of code.py, config.json and the input; the exit code says if any is."""
    from sequential.runner.checking import TaskProblem, task_problems

    value = None if given is None else read_input(given)

    async def check(engine: "Engine") -> "tuple[TaskFunction, list[TaskProblem]]":
        task = await engine.get_task(name)
        return task, task_problems(task, engine.services)

    try:
        task, found = project.with_engine(check, task=name)
    except ConfigError as error:
        if f"{name}/config.json" not in str(error):
            raise
        task, found = None, [TaskProblem(file="", message=str(error))]
    problems = [shown(project, name, one) for one in found]
    if task:
        problems += _of_input(project, task, value)
    if as_json:
        output.document(problems)
    else:
        _print(problems, task.code if task else "")
    return 1 if any(problem["severity"] != "note" for problem in problems) else 0


def shown(project: Project, task: str, problem: "TaskProblem") -> dict[str, Any]:
    """A problem with its file as a path to open."""
    file = str(project.task_file(task, problem.file)) if problem.file else ""
    return {**msgspec.structs.asdict(problem), "file": file}


def place(problem: dict[str, Any]) -> str:
    """Where a problem is, as file:line:column."""
    return ":".join(str(problem[k]) for k in ("file", "line", "column") if problem[k])


def _of_input(project: Project, task: TaskFunction, value: Any) -> list[dict[str, Any]]:
    from sequential.runner.checking import TaskProblem

    if value is None:
        return []
    try:
        check_input(task.config, value, project.settings.defaults)
    except InvalidInputError as error:
        return [msgspec.structs.asdict(TaskProblem(file="--input", message=str(error)))]
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
