"""The endpoints of the original's dev server, with the shapes of its requests and replies."""

import asyncio
from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.params import FromPath, JSONBody, QueryParameter

from sequential.core import ids, values
from sequential.core.model import Failure, StackRun, TaskRun
from sequential.errors import InvalidTransitionError, StorageUnreachableError
from sequential.runner.engine import Engine
from sequential.web.actor import AnyRequest, TheActor, actor_of
from sequential.web.errors import Refused
from sequential.web.handlers import TheEngine, TheSettings, either, get, post
from sequential.web.records import listed_call, shown_run
from sequential.web.runs import NewRun, found, given, operated, started

SOON_ENOUGH = 3.0  # seconds in which a store that is well answers


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task to run and its input."""

    task_identifier: str
    input: dict[str, Any] = {}


class Submitted(msgspec.Struct, frozen=True, rename="camel"):
    """Where the run that was submitted is found."""

    success: bool
    task_run_id: str
    data: dict[str, dict[str, str]]


class RunWithCalls(TaskRun, frozen=True, omit_defaults=True):
    """A run with its calls."""

    stack_runs: tuple[StackRun, ...] = ()


class Ended(msgspec.Struct, frozen=True):
    """How a run that was waited for stands; `result` is there when it is completed."""

    id: str
    task: str
    status: str
    result: Any = None
    error: Failure | None = None


class About(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    name: str
    version: str
    runtime: str
    backend: str
    endpoints: list[str]


class Health(msgspec.Struct, frozen=True):
    """Whether the server can do its work."""

    status: str
    backend: str
    timestamp: str


@get("/", role="public", summary="What this server is")
async def about(engine: TheEngine, request: AnyRequest) -> About:
    """Its name, its store, and where things are."""
    paths = sorted(path for path in request.app.openapi_schema.paths or {} if path != "/")
    return About(
        "sequential-ecosystem", version("sequential-ecosystem"), "python", engine.backend, paths
    )


@get("/health", role="public", summary="Whether the server can do its work")
async def health(engine: TheEngine) -> Health:
    """It has reached its store just now; status 503 says that it cannot, or not soon enough."""
    try:
        async with asyncio.timeout(SOON_ENOUGH):
            await engine.storage.get_task_function("health")
    except TimeoutError:
        raise StorageUnreachableError from None
    return Health("ok", engine.backend, engine.now())


@post("/task/submit", status_code=200, within_limits=True, summary="Start a run")
async def submit(request: AnyRequest, data: JSONBody[Submission], engine: TheEngine) -> Submitted:
    run, _ = await started(engine, request, NewRun(data.task_identifier, data.input))
    return Submitted(True, run.id, {"result": {"taskRunId": run.id}})


@get("/task/status/{run_id:str}", summary="A run with its calls")
async def status(engine: TheEngine, run_id: FromPath[str]) -> RunWithCalls:
    run = await found(engine, run_id)
    calls = [listed_call(call) for call in await engine.list_calls(run.id)]
    shown = msgspec.structs.asdict(shown_run(run))
    return RunWithCalls(**shown, stack_runs=tuple(calls))


@post(
    "/tasks/{name:str}",
    status_code=200,
    within_limits=True,
    responses=either(202, Ended, "it has not ended yet"),
    summary="Run a task and wait for it",
)
async def run_task(
    request: AnyRequest,
    engine: TheEngine,
    settings: TheSettings,
    name: FromPath[str],
    data: JSONBody[dict[str, Any] | None] = None,
    timeout: Annotated[float, QueryParameter(ge=0, le=3600, description="seconds")] = 30.0,
) -> Response[Ended]:
    """The body is `{"input": {...}}`, or the input itself.

    Status 202 says that the run goes on after `timeout` seconds; GET /api/v1/runs/{id} follows it.
    """
    body = data or {}
    sent = body.get("input", body) if set(body) <= {"input", "id"} else body
    if not isinstance(sent, dict):
        raise Refused(400, "invalid_request", "the input has to be an object")
    own = body.get("id") if "input" in body else None
    if own is not None and not (isinstance(own, str) and 0 < len(own) <= 200):
        raise Refused(400, "invalid_request", "the id has to be a text of 1 to 200 characters")
    run, _ = await started(engine, request, NewRun(name, sent, own))
    run = await engine.wait(run.id, min(timeout, settings.longest_wait))
    ended = Ended(run.id, run.task_identifier, run.status, run.result, run.error)
    return Response(ended, status_code=200 if run.status.is_final else 202)


@post("/resume/{run_id:str}", status_code=202, within_limits=True, summary="Wake a run")
async def resume(engine: TheEngine, actor: TheActor, run_id: FromPath[str]) -> TaskRun:
    """Have a worker look at a run now. It changes nothing that the run has not to do anyway."""
    run = await operated(engine, actor, run_id)
    if run.status.is_final:
        raise InvalidTransitionError(f"run {run.id} is over: it is {run.status}")
    return shown_run(await engine.wake(run.id))


@post(
    "/resume/{run_id:str}/{call:str}",
    status_code=202,
    within_limits=True,
    summary="Answer a waiting run",
)
async def resume_with(
    request: AnyRequest, engine: TheEngine, run_id: FromPath[str], call: FromPath[str]
) -> TaskRun:
    """The body, any JSON, is what `wait_for_event(name)` returns in the task.

    `call` is the name that is waited for, or the number of the call that waits for it.
    """
    run = await operated(engine, actor_of(request), run_id)
    event = await _awaited(engine, run, int(call)) if call.isdecimal() else call
    tree = await request.json() if await request.body() else None
    own = request.headers.get("idempotency-key")
    return shown_run(await engine.answer(run.id, event, given(request, tree), id=own))


async def _awaited(engine: Engine, run: TaskRun, sequence: int) -> str:
    """The name of the event that a call of a run waits for."""
    call = await engine.storage.get_stack_run(ids.stack_run_id(run.id, sequence))
    if call is None:
        raise Refused(404, "call_not_found", f"run {run.id} has no call {sequence}")
    if call.operation != "events.wait" or call.status.is_settled:
        raise InvalidTransitionError(
            f"call {sequence} of run {run.id} is {call.operation}, {call.status}: "
            "it waits for no answer from outside"
        )
    args, kwargs = values.arguments_from_json(call.input)
    return str(kwargs["name"] if "name" in kwargs else args[0])


HANDLERS = [about, health, submit, status, run_task, resume, resume_with]
