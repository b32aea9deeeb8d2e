"""Tasks over HTTP: what is wrong with one, and those of the project's folder into the store."""

import asyncio
from typing import Any

import msgspec
from litestar.params import FromPath, JSONBody

from sequential.core.inputs import check_input
from sequential.core.model import TaskFunction
from sequential.errors import InvalidInputError
from sequential.runner.checking import TaskProblem, hinders, task_problems
from sequential.runner.engine import Engine
from sequential.runner.task_sync import Change, TaskSync
from sequential.web.actor import TheActor
from sequential.web.allowance import Allowance
from sequential.web.errors import Refused
from sequential.web.handlers import TheEngine, post


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input to be checked with the task, if there is one."""

    input: dict[str, Any] | None = None


class Checked(msgspec.Struct, frozen=True):
    """What was found; `is_fine` if nothing of it is more than a note."""

    is_fine: bool
    problems: list[TaskProblem]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which task is copied, all if none is named; with `dry_run` nothing is written."""

    task: str | None = None
    dry_run: bool = False


class SyncedTask(msgspec.Struct, frozen=True):
    """What became of a task, with its version in the store; `problems` say why it was refused."""

    name: str
    change: Change
    version: int | None = None
    old_version: int | None = None
    problems: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What became of the tasks; `elsewhere` are those that only the store has."""

    tasks: list[SyncedTask]
    elsewhere: tuple[str, ...] = ()


@post(
    "/tasks/{name:str}/check",
    status_code=200,
    within_limits=True,
    summary="What is wrong with a task",
)
async def check(
    engine: TheEngine,
    actor: TheActor,
    name: FromPath[str],
    data: JSONBody[Asked | None] = None,
) -> Checked:
    """Everything that can be found without running it, in the order in which it should be mended.

    Problems of an input that was sent have the file `input`.
    """
    Allowance(engine, actor).check_task(name)
    task = await engine.get_task(name)
    found = await asyncio.to_thread(task_problems, task, engine.services)
    if data is not None and data.input is not None:
        found += _of_input(engine, task, data.input)
    return Checked(all(one.severity == "note" for one in found), found)


@post("/sync", status_code=200, summary="Copy the tasks of the project into the store")
async def sync(engine: TheEngine, data: JSONBody[Wanted]) -> Report:
    """As `sync-tasks` does: versions go up if something has changed, what is wrong is refused.

    The folder is that of the server's project. Status 409 says that the store is this folder.
    """
    if engine.backend == "folder":
        raise Refused(
            409, "nothing_to_sync", "the store is the tasks folder itself: there is nothing to copy"
        )

    def problems(task: TaskFunction) -> list[str]:
        return [_in_words(one) for one in hinders(task, engine.services)]

    pushing = TaskSync(
        engine.settings.tasks,
        engine.storage,
        now=engine.now(),
        check=problems,
        dry_run=data.dry_run,
    )
    report = await pushing.push(data.task)
    tasks = [
        SyncedTask(one.name, one.change, one.version, one.old_version, one.problems)
        for one in report.tasks
    ]
    return Report(tasks, report.elsewhere)


def _of_input(engine: Engine, task: TaskFunction, given: dict[str, Any]) -> list[TaskProblem]:
    try:
        check_input(task.config, given, engine.settings.defaults)
    except InvalidInputError as error:
        return [TaskProblem(file="input", message=str(error))]
    return []


def _in_words(problem: TaskProblem) -> str:
    place = (problem.file, problem.line, problem.column)
    return f"{':'.join(str(part) for part in place if part)}: {problem.message}"


HANDLERS = [check, sync]
