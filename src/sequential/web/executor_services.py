"""The services that ran the original's tasks: their names, endpoints and shapes of replies.

What they did in turns by HTTP, the engine does by itself: a run that is started here goes on by
itself as far as it can, and is `paused` while it waits for something from outside. Tasks that are
sent here run in the sandbox, whatever they say.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Router
from litestar.params import FromQuery, QueryParameter

from sequential.core import ids, times, values
from sequential.core.bounds import PUBLIC, narrowed
from sequential.core.model import Bounds, InputField, StackRun, Status, TaskConfig, TaskRun
from sequential.core.names import check_field_name, check_task_name
from sequential.errors import (
    InvalidInputError,
    InvalidNameError,
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
    RunExistsError,
)
from sequential.runner.engine import Engine
from sequential.runner.new_run import new_run
from sequential.runner.progress import Progress, Step
from sequential.web.actor import Actor
from sequential.web.errors import Refused
from sequential.web.handlers import TheEngine, get, post
from sequential.web.records import listed_call, listed_run, shown_run

PATIENCE = 25.0  # seconds that a request waits for a run to rest
EVENT = "events.wait"
LOOK = 0.25  # seconds between two looks at a run that somebody else drives
AT_A_TIME = 50  # runs that one pass takes
LARGEST_BODY = 1 << 20  # bytes of a request

AnyRequest = Request[Any, Any, Any]
Limit = Annotated[int, QueryParameter(ge=1, le=500)]
# Another process or a worker has the run, or it is over: it is looked at as it is.
_TAKEN = (RunBusyError, LeaseLostError, InvalidTransitionError)

_underway: set[asyncio.Task[TaskRun]] = set()  # so that they are not lost when a request ends


class SentTask(msgspec.Struct, frozen=True, rename="camel"):
    """A program to run, as the original's dev server sent it."""

    task_code: str
    task_name: str = "task"
    task_input: dict[str, Any] = {}
    task_run_id: str | None = None
    stack_run_id: str | None = None


class Resumption(msgspec.Struct, frozen=True, rename="camel"):
    """What a call that waits is to get: `stack_run_id` is the call's id, or the run's."""

    stack_run_id: str
    result: Any = None


class Trigger(msgspec.Struct, frozen=True, rename="camel"):
    """Which work to take care of: a call's, a run's, or all that is due."""

    stack_run_id: str | None = None
    trigger: str | None = None


class Submission(msgspec.Struct, frozen=True):
    """A task of the store to be run."""

    task_identifier: str
    input: dict[str, Any] = {}
    options: dict[str, Any] = {}


def deno_executor() -> list[Any]:
    """`POST /` runs a program, `POST /resume` goes on with one that waits."""

    @post("/", status_code=200, summary="Run a program in the sandbox")
    async def execute(request: AnyRequest, engine: TheEngine) -> dict[str, Any]:
        sent = _read(await request.body(), SentTask)
        run = await _sent(engine, sent, _bounds_of(request))
        return await _told(engine, await _rested(engine, run.id))

    @post("/resume", status_code=200, summary="Give a waiting call its result")
    async def resume(request: AnyRequest, engine: TheEngine) -> dict[str, Any]:
        asked = _read(await request.body(), Resumption)
        run_id, call = await _meant(engine, asked.stack_run_id)
        if call is not None and call.operation == EVENT and not call.status.is_settled:
            _, arguments = values.arguments_from_json(call.input)
            await engine.answer(run_id, arguments["name"], asked.result, id=call.id)
        return await _told(engine, await _rested(engine, run_id))

    return [execute, resume]


def simple_stack_processor() -> list[Any]:
    """`POST /` takes care of what is due once, and says how many calls that settled."""
    counts = _Counts()

    @post("/", status_code=200, summary="Drive what is due until it rests")
    async def process(request: AnyRequest, engine: TheEngine) -> dict[str, Any]:
        asked = _read(await request.body() or b"{}", Trigger)
        if asked.stack_run_id is not None:
            run_id, _ = await _meant(engine, asked.stack_run_id)
            with counts.of(engine, [run_id]) as settled:
                run = await _rested(engine, run_id)
            reason = f"the run is {run.status}"
        elif asked.trigger in (None, "process-next"):
            claimed = await engine.claim_due(AT_A_TIME)
            with counts.of(engine, [run.id for run in claimed]) as settled:
                await asyncio.gather(
                    *(_drive_claimed(engine, run) for run in claimed), return_exceptions=True
                )
            reason = "" if claimed else "nothing is due"
        else:
            raise Refused(400, "invalid_request", 'trigger is "process-next"')
        told: dict[str, Any] = {"status": "success", "processed": sum(settled.values())}
        return {**told, "reason": reason} if reason else told

    return [process]


def task_executor() -> list[Any]:
    """Submits tasks of the store, and says how they are doing."""

    @post("/execute", status_code=200, summary="Submit a task")
    async def execute(request: AnyRequest, engine: TheEngine) -> dict[str, Any]:
        asked = _read(await request.body(), Submission)
        own = request.headers.get("idempotency-key")
        run, _ = await engine.create_once(asked.task_identifier, asked.input, id=own)
        engine.drive_on(run.id)
        return {"result": {"taskRunId": run.id, "status": "submitted"}}

    @get("/status", summary="A run with its calls, or how the service is")
    async def status(engine: TheEngine, task_id: FromQuery[str | None] = None) -> dict[str, Any]:
        if task_id is None:
            data = {"service": "task-executor", "status": "ok", "timestamp": engine.now()}
            return {"success": True, "data": data}
        run = (await engine.get(task_id)).record
        calls = [listed_call(call) for call in await engine.list_calls(run.id)]
        shown = msgspec.to_builtins(shown_run(run))
        return {**shown, "stack_runs": msgspec.to_builtins(calls)}

    @get("/logs", summary="What a run has printed")
    async def logs(
        engine: TheEngine, task_id: FromQuery[str], limit: Limit = 100
    ) -> dict[str, Any]:
        run = (await engine.get(task_id)).record
        lines = await engine.get_log(run.id)
        return {"logs": msgspec.to_builtins(lines[-limit:])}

    @get("/schema", summary="The inputs of a task")
    async def schema(engine: TheEngine, task_identifier: FromQuery[str]) -> dict[str, Any]:
        task = await engine.get_task(task_identifier)
        inputs = msgspec.to_builtins(task.config.inputs)
        told = task.config.description
        return {"task_identifier": task.identifier, "description": told, "inputs": inputs}

    @get("/list", summary="The tasks, or the runs")
    async def listing(
        engine: TheEngine, type: FromQuery[str] = "tasks", limit: Limit = 100
    ) -> dict[str, Any]:
        if type == "tasks":
            tasks = await engine.list_tasks()
            return {"tasks": [{"identifier": t.identifier, **_about(t.config)} for t in tasks]}
        if type == "runs":
            runs = await engine.list_runs(limit=limit)
            return {"runs": msgspec.to_builtins([listed_run(run) for run in runs])}
        raise Refused(400, "invalid_request", "type is tasks or runs")

    return [execute, status, logs, schema, listing]


EXECUTORS: dict[str, Callable[[], list[Any]]] = {
    "deno-executor": deno_executor,
    "simple-stack-processor": simple_stack_processor,
    "task-executor": task_executor,
}


def executors(names: Collection[str], *, alone: str | None = None) -> list[Router]:
    """The named ones of these services, each below its name; `alone` at the root as well."""
    routers = []
    for name in sorted(EXECUTORS.keys() & set(names)):
        prefixes = [f"/functions/v1/{name}", f"/services/{name}"]
        paths = [*prefixes, "/"] if name == alone else prefixes
        handlers = EXECUTORS[name]()
        routers += [
            Router(
                path,
                route_handlers=[*handlers, *([] if path == "/" else [_health(name)])],
                request_max_body_size=LARGEST_BODY,
            )
            for path in paths
        ]
    return routers


class _Counts:
    """Counts the calls of certain runs that are settled while somebody looks."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._looking: list[dict[str, int]] = []

    @contextlib.contextmanager
    def of(self, engine: Engine, run_ids: Collection[str]) -> Iterator[dict[str, int]]:
        if self._engine is not engine:
            self._engine = engine
            engine.observe(self._see)
        counted = dict.fromkeys(run_ids, 0)
        self._looking.append(counted)
        try:
            yield counted
        finally:
            self._looking.remove(counted)

    def _see(self, progress: Progress) -> None:
        if progress.step is Step.CALL_SETTLED:
            for counted in self._looking:
                if progress.run.id in counted:
                    counted[progress.run.id] += 1


def _health(name: str) -> Any:
    @get("/health", role="public", summary="Whether it answers")
    async def health(engine: TheEngine) -> dict[str, Any]:
        data = {"service": name, "status": "ok", "timestamp": engine.now()}
        return {"success": True, "data": data}

    return health


def _read(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "invalid_request", f"the body is not right: {error}") from None


def _bounds_of(request: AnyRequest) -> tuple[Bounds, ...]:
    """What a program that is sent may reach, whoever sends it."""
    sender = request.scope.get("user")
    return sender.of_tasks if isinstance(sender, Actor) else (PUBLIC,)


async def _sent(engine: Engine, sent: SentTask, bounds: tuple[Bounds, ...]) -> TaskRun:
    """The run of a program that was sent; the one there is if it was sent before."""
    check_task_name(sent.task_name)
    if not sent.task_code.strip():
        raise InvalidInputError("taskCode is empty: send the program of the task")
    if sent.task_run_id:
        run_id = ids.named_run_id(sent.task_run_id)
    else:
        moment = times.from_text(engine.now()).timestamp()
        run_id = ids.run_id(int(moment * 1000), secrets.token_bytes(10))
    config = TaskConfig(sent.task_name, runtime="sandbox", inputs=_fields(sent.task_input))
    run = TaskRun(
        run_id,
        sent.task_name,
        Status.PENDING,
        values.to_json(sent.task_input, "taskInput"),
        config=narrowed(config, *bounds),
        code=sent.task_code,
    )
    run = new_run(run, engine.settings.runner, engine.now())
    try:
        return await engine.storage.create_task_run(run)
    except RunExistsError:
        known = await engine.get_run(run_id)
        if (known.code, known.input) != (run.code, run.input):
            raise RunExistsError(
                f"the run {sent.task_run_id!r} exists already, with another program or input"
            ) from None
        return known


def _fields(given: dict[str, Any]) -> tuple[InputField, ...]:
    """Inputs by the names that were sent, so that parameters are filled by name."""
    fields = []
    for name in given:
        with contextlib.suppress(InvalidNameError):
            fields.append(InputField(check_field_name(name), "any", required=False))
    return tuple(fields) if len(fields) == len(given) else ()


async def _meant(engine: Engine, stack_run_id: str) -> tuple[str, StackRun | None]:
    """The run that an id is about, and the call; of a run the first that waits for an event."""
    call = await engine.storage.get_stack_run(stack_run_id)
    if call is not None:
        return call.task_run_id, call
    run_id = (await engine.get(stack_run_id)).record.id
    calls = await engine.list_calls(run_id)
    waiting = (one for one in calls if one.operation == EVENT and not one.status.is_settled)
    return run_id, next(waiting, None)


async def _rested(engine: Engine, run_id: str) -> TaskRun:
    """A run when it has ended or waits, or as it is after a while; it goes on by itself then."""
    driving = asyncio.create_task(engine.drive(run_id))
    _underway.add(driving)
    driving.add_done_callback(_underway.discard)
    end = time.monotonic() + PATIENCE
    done, _ = await asyncio.wait({driving}, timeout=PATIENCE)
    if done:
        error = driving.exception()
        if error is not None and not isinstance(error, _TAKEN):
            raise error
    run = await engine.get_run(run_id)
    while run.status is Status.RUNNING and time.monotonic() < end:  # somebody else drives it
        run = await engine.wait(run_id, LOOK)
    if done and not run.status.is_final:
        engine.drive_on(run_id)
    return run


async def _drive_claimed(engine: Engine, run: TaskRun) -> None:
    with contextlib.suppress(*_TAKEN):
        await engine.drive_claimed(run)


async def _told(engine: Engine, run: TaskRun) -> dict[str, Any]:
    """How a run stands, in the words of the original's executor."""
    if run.status is Status.COMPLETED:
        return {"status": "completed", "result": run.result, "taskRunId": run.id}
    if run.status.is_final:
        failure = run.error
        message = failure.message if failure else f"the run is {run.status}"
        error = {"message": message, "name": failure.type if failure else "Error"}
        return {"status": "error", "error": error, "taskRunId": run.id}
    calls = await engine.list_calls(run.id)
    waiting = next((call for call in calls if not call.status.is_settled), None)
    told: dict[str, Any] = {"status": "paused", "taskRunId": run.id}
    if waiting is not None:
        told["stackRunId"] = waiting.id
        told["suspensionData"] = {
            "taskRunId": run.id,
            "childStackRunId": waiting.id,
            "serviceName": waiting.service,
            "methodPath": waiting.method,
            "args": waiting.input,
        }
    return told


def _about(config: TaskConfig) -> dict[str, Any]:
    return {"description": config.description, "runtime": config.runtime}
