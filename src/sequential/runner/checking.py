"""Everything that is wrong with a task, found without running it: its policy, graph and code."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sequential.core.model import TaskFunction
from sequential.core.policy import config_problems
from sequential.core.statechart.problems import GraphError
from sequential.core.task_graph import machine_of
from sequential.services.registry import Services


class TaskProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong in a file of a task; `file` is its name in the task's folder.

    `severity` is `error`, `warning` or `note`; lines and columns count from 1. `instead` is what to
    write, if that is known.
    """

    file: str
    line: int | None = None
    column: int | None = None
    message: str
    instead: str = ""
    severity: str = "error"


def task_problems(task: TaskFunction, services: Services) -> list[TaskProblem]:
    """All that is wrong with a task, in the order in which it should be mended."""
    config = [
        TaskProblem(file="config.json", message=text) for text in config_problems(task.config)
    ]
    return code_problems(task, services) + config


def code_problems(task: TaskFunction, services: Services) -> list[TaskProblem]:
    """What is wrong with the code of a task, and with its graph if it has one."""
    graph, handlers = _of_graph(task)
    return graph + _of_code(task, services, handlers)


def hinders(task: TaskFunction, services: Services) -> list[TaskProblem]:
    """What keeps a task from being stored for workers.

    Of Python only the sandbox's subset is checked; graphs are, whatever drives their handlers.
    """
    return hindering(task, code_problems(task, services))


def hindering(task: TaskFunction, found: Iterable[TaskProblem]) -> list[TaskProblem]:
    """Those of the problems found in its code and graph that do; see `hinders`."""
    if task.config.runtime != "sandbox" and task.config.graph is None:
        return []
    return [one for one in found if one.severity == "error"]


def _of_graph(task: TaskFunction) -> tuple[list[TaskProblem], list[str] | None]:
    """What is wrong with a graph, and the names of its handlers; None for a task without one."""
    if task.config.graph is None:
        return [], None
    try:
        machine = machine_of(task.config.graph, task.code, task.identifier)
    except GraphError as error:
        found, handlers = tuple(error.problems), []
    else:
        found = (*machine.warnings, *machine.notes)
        handlers = [one.handler for one in machine.chart.invocations.values() if one.handler]
    return [
        TaskProblem(file="graph.json", message=str(one), severity=one.level) for one in found
    ], handlers


def _of_code(
    task: TaskFunction, services: Services, handlers: Sequence[str] | None
) -> list[TaskProblem]:
    """What the runtime of a task has to say about its code."""
    # Imported when they are needed: they bring the sandbox along.
    from sequential.runtimes.native.dry_run import dry_run as dry_run_native  # noqa: PLC0415
    from sequential.runtimes.sandbox.dry_run import dry_run  # noqa: PLC0415

    names = [field.name for field in task.config.inputs]
    if task.config.runtime == "native":
        found = dry_run_native(
            task.code, task=task.identifier, input_names=names, handlers=handlers
        )
    else:
        found = dry_run(
            task.code,
            task=task.identifier,
            input_names=names,
            services=_methods(task, services),
            handlers=handlers,
        )
    return [
        TaskProblem(
            file=task.filename,
            line=one.line,
            column=one.column,
            message=one.message,
            instead=one.instead,
            severity=one.severity,
        )
        for one in found
    ]


def _methods(task: TaskFunction, services: Services) -> Mapping[str, list[str]]:
    """The services the task may call, with their methods."""
    methods: dict[str, list[str]] = {}
    for dotted in services.methods(task.config.allow, task.code):
        service, _, method = dotted.partition(".")
        methods.setdefault(service, []).append(method)
    return methods
