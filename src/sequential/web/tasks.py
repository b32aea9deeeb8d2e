"""Tasks over HTTP: stored, looked at, removed. What comes in this way runs in the sandbox."""

from typing import Any

import msgspec
from litestar import Response
from litestar.params import FromPath, JSONBody

from sequential.core import values
from sequential.core.bounds import narrowed
from sequential.core.model import TaskConfig, TaskFunction
from sequential.core.names import check_task_name
from sequential.core.task_graph import machine_of
from sequential.errors import ConfigError, TaskNotFoundError
from sequential.web.actor import TheActor
from sequential.web.allowance import Allowance
from sequential.web.errors import Refused
from sequential.web.handlers import TheEngine, delete, either, get, put
from sequential.web.records import Page, listed_task


class NewTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task to be stored: its code, what `config.json` holds, and its state graph, if any."""

    code: str
    config: dict[str, Any] = {}
    graph: dict[str, Any] | None = None


class Deleted(msgspec.Struct, frozen=True):
    """How many runs went with the task."""

    deleted_runs: int


@get("/tasks", summary="All tasks, by name")
async def list_tasks(engine: TheEngine) -> Page[TaskFunction]:
    """Without their code."""
    return Page([listed_task(task) for task in await engine.list_tasks()])


@get("/tasks/{name:str}", summary="One task")
async def show(engine: TheEngine, name: FromPath[str]) -> TaskFunction:
    """With its code and its graph."""
    return await engine.get_task(name)


@put(
    "/tasks/{name:str}",
    within_limits=True,
    responses=either(201, TaskFunction, "it is new"),
    summary="Store a task",
)
async def store(
    data: JSONBody[NewTask], engine: TheEngine, actor: TheActor, name: FromPath[str]
) -> Response[TaskFunction]:
    """Create a task (201) or replace it (200); runs in flight keep the code they have.

    Its code is run in the sandbox, whoever sends it: tasks of the native runtime are stored by an
    operator of the machine. It reaches private hosts, and services that have to be named, only if
    the setting `server.sent` names them, too.
    """
    check_task_name(name)
    allowance = Allowance(engine, actor)
    allowance.check_task(name)
    allowance.check_code(data.code)
    config = narrowed(_config(name, data), *actor.of_tasks)
    if (config.schedules or config.webhooks) and actor.limits is not None:
        raise Refused(403, "forbidden", "a token that has limits may not set what starts runs")
    try:
        there: TaskFunction | None = await engine.get_task(name)
    except TaskNotFoundError:
        there = None
    if there is not None and there.config.runtime == "native":
        raise Refused(
            403, "forbidden", f"{name} is a native task, which cannot be replaced over HTTP"
        )
    try:
        if config.graph is not None:
            machine_of(config.graph, data.code, name)
        task = await engine.store_task(name, data.code, config)
    except ConfigError as error:
        raise Refused(400, "invalid_config", str(error)) from error
    return Response(task, status_code=200 if there else 201)


@delete(
    "/tasks/{name:str}",
    status_code=200,
    within_limits=True,
    summary="Remove a task with all its runs",
)
async def remove(engine: TheEngine, actor: TheActor, name: FromPath[str]) -> Deleted:
    Allowance(engine, actor).check_task(name)
    return Deleted(await engine.delete_task(name))


def _config(name: str, data: NewTask) -> TaskConfig:
    if data.config.get("runtime") == "native":
        raise Refused(
            403,
            "forbidden",
            "native tasks cannot be sent over HTTP: their code could do anything",
            'leave "runtime" out, and it runs in the sandbox',
        )
    for reserved in ("graph", "handler"):
        if reserved in data.config:
            hint = 'put it beside "code"' if reserved == "graph" else ""
            raise Refused(400, "invalid_config", f"config has no field {reserved!r}", hint)
    if "within" in (data.config.get("allow") or ()):
        raise Refused(400, "invalid_config", "config: allow.within is the operator's to set")
    values.to_json(data.config, "config")  # raises what cannot be kept: deep nesting
    graph = None if data.graph is None else msgspec.json.encode(data.graph).decode()
    try:
        return msgspec.convert({**data.config, "name": name, "graph": graph}, TaskConfig)
    except msgspec.ValidationError as error:
        raise Refused(400, "invalid_config", f"config: {error}") from error


HANDLERS = [list_tasks, show, store, remove]
