"""Runs over HTTP: started, looked at, waited for, answered, operated."""

from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.params import FromPath, FromQuery, JSONBody, PathParameter, QueryParameter

from sequential.core import values
from sequential.core.model import LogLine, StackRun, Status, TaskRun
from sequential.runner.engine import Engine
from sequential.runner.operations import FINAL
from sequential.web.actor import Actor, AnyRequest, TheActor, actor_of
from sequential.web.allowance import Allowance
from sequential.web.errors import Refused
from sequential.web.front import note_subject
from sequential.web.handlers import TheEngine, TheSettings, delete, either, get, post
from sequential.web.records import Page, listed_call, listed_run, page_of, shown_run

MOST = 500  # items of a page
Limit = Annotated[int, QueryParameter(ge=1, le=MOST, description="how many at most")]
Before = Annotated[str | None, QueryParameter(description="the `next` of the page before")]
RunId = Annotated[str, PathParameter(description="the id of a run, or the one it was started with")]


class NewRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run to be started. The header `Idempotency-Key` may give the `id`."""

    task: str
    input: dict[str, Any] = {}
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0
    delay: Annotated[float, msgspec.Meta(ge=0, le=3.2e9)] = 0.0


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run waits for with `wait_for_event(name)`; with an `id` it counts once."""

    name: str
    data: Any = None
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class SentEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event for a run that follows a graph; with an `id` it counts once."""

    event: str
    data: Any = None
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class Pruning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs are removed: those that ended more than `older_than` seconds ago."""

    older_than: Annotated[float, msgspec.Meta(ge=0, le=3.2e9)]
    task: str | None = None
    statuses: tuple[Status, ...] = FINAL
    dry_run: bool = False


class Pruned(msgspec.Struct, frozen=True):
    """The ids of the runs that were removed, or would be."""

    deleted: list[str]


def given(request: AnyRequest, tree: Any) -> Any:
    """The value that was sent: plain JSON, unless a header says that it is one of our trees."""
    if request.headers.get("sequential-values") == "tagged":
        return values.from_json(tree)
    return tree


async def found(engine: Engine, run_id: str) -> TaskRun:
    """A run by its id, or by the id of the sender's own that it was started with."""
    return (await engine.get(run_id)).record


async def operated(engine: Engine, actor: Actor, run_id: str) -> TaskRun:
    """A run that somebody wants to do something to; `Refused` if he may not use its task."""
    run = await found(engine, run_id)
    Allowance(engine, actor).check_task(run.task_identifier)
    return run


async def started(engine: Engine, request: AnyRequest, new: NewRun) -> tuple[TaskRun, bool]:
    """A new run, or the one there is of the same id; and whether it is new."""
    note_subject(request, new.task)
    run, is_new = await Allowance(engine, actor_of(request)).start(
        new.task,
        given(request, new.input),
        id=request.headers.get("idempotency-key") or new.id,
        priority=new.priority,
        delay=new.delay,
    )
    note_subject(request, f"{run.task_identifier} {run.id}")
    return run, is_new


@post(
    "/runs",
    status_code=201,
    within_limits=True,
    responses=either(200, TaskRun, "it was started before"),
    summary="Start a run",
)
async def start(
    request: AnyRequest, data: JSONBody[NewRun], engine: TheEngine
) -> Response[TaskRun]:
    """Write a run down; a worker takes it at once, or after `delay` seconds.

    Of the runs that are due, those with more `priority` are taken first. Sent again with the same
    id, it is the run that exists, with status 200.
    """
    run, is_new = await started(engine, request, data)
    return Response(shown_run(run), status_code=201 if is_new else 200)


@get("/runs", summary="Runs, newest first")
async def list_runs(
    engine: TheEngine,
    task: FromQuery[str | None] = None,
    status: FromQuery[Status | None] = None,
    parent: FromQuery[str | None] = None,
    limit: Limit = 50,
    before: Before = None,
) -> Page[TaskRun]:
    """Without inputs and results, and without the runs that handle the states of a graph."""
    runs = await engine.list_runs(
        task, limit=limit + 1, before=before, status=status, parent=parent
    )
    return page_of([listed_run(run) for run in runs], limit, "id")


@get("/runs/{run_id:str}", summary="One run")
async def show(engine: TheEngine, run_id: RunId) -> TaskRun:
    """With its input, its result and its error."""
    return shown_run(await found(engine, run_id))


@get("/runs/{run_id:str}/wait", summary="One run, when it has ended")
async def wait(
    engine: TheEngine,
    settings: TheSettings,
    run_id: RunId,
    timeout: Annotated[float, QueryParameter(ge=0, le=3600, description="seconds")] = 30.0,
) -> TaskRun:
    """Or as it is after `timeout` seconds, of which the server allows 60 unless set otherwise."""
    run = await found(engine, run_id)
    return shown_run(await engine.wait(run.id, min(timeout, settings.longest_wait)))


@get("/runs/{run_id:str}/calls", summary="The calls of a run")
async def calls(
    engine: TheEngine,
    run_id: RunId,
    after: Annotated[int, QueryParameter(ge=-1, le=10**9, description="`next` of before")] = -1,
    limit: Limit = 50,
) -> Page[StackRun]:
    """In order. Inputs and results of more than 1 KiB are left out; see the call for them."""
    run = await found(engine, run_id)
    numbers = list(range(after + 1, after + limit + 2))
    listed = await engine.storage.query_stack_runs(task_run_id=run.id, sequence=numbers)
    return page_of([listed_call(call) for call in listed], limit, "sequence")


@get("/runs/{run_id:str}/calls/{sequence:int}", summary="One call of a run")
async def call(engine: TheEngine, run_id: RunId, sequence: FromPath[int]) -> StackRun:
    """With everything that was sent and that came back."""
    run = await found(engine, run_id)
    one = await engine.storage.get_stack_run(f"{run.id}:{sequence}")
    if one is None:
        raise Refused(404, "call_not_found", f"run {run.id} has no call {sequence}")
    return one


@get("/runs/{run_id:str}/log", summary="What a run has printed")
async def log(engine: TheEngine, run_id: RunId) -> Page[LogLine]:
    run = await found(engine, run_id)
    return Page(await engine.get_log(run.id))


@get("/runs/{run_id:str}/children", summary="The runs that a run has started")
async def children(engine: TheEngine, run_id: RunId) -> Page[TaskRun]:
    """Oldest first."""
    run = await found(engine, run_id)
    return Page([listed_run(child) for child in await engine.list_children(run.id)])


@get("/runs/{run_id:str}/accepted-events", summary="The events that a graph accepts now")
async def accepted(engine: TheEngine, run_id: RunId) -> Page[str]:
    run = await found(engine, run_id)
    return Page(await engine.accepted_events(run.id))


@post(
    "/runs/{run_id:str}/answer", status_code=200, within_limits=True, summary="Answer a waiting run"
)
async def answer(
    request: AnyRequest, data: JSONBody[Answer], engine: TheEngine, run_id: RunId
) -> TaskRun:
    """Now, or before it asks."""
    run = await operated(engine, actor_of(request), run_id)
    value = given(request, data.data)
    return shown_run(await engine.answer(run.id, data.name, value, id=data.id))


@post(
    "/runs/{run_id:str}/send",
    status_code=200,
    within_limits=True,
    summary="Send an event to a graph",
)
async def send(
    request: AnyRequest, data: JSONBody[SentEvent], engine: TheEngine, run_id: RunId
) -> TaskRun:
    """One that no active state takes is refused, with those that are accepted."""
    run = await operated(engine, actor_of(request), run_id)
    value = given(request, data.data)
    return shown_run(await engine.send(run.id, data.event, value, id=data.id))


@post("/runs/{run_id:str}/cancel", status_code=200, within_limits=True, summary="End a run")
async def cancel(engine: TheEngine, actor: TheActor, run_id: RunId) -> TaskRun:
    """And its child runs; their calls are given up."""
    return shown_run(await engine.cancel((await operated(engine, actor, run_id)).id))


@post(
    "/runs/{run_id:str}/pause",
    status_code=200,
    within_limits=True,
    summary="Stop a run for a while",
)
async def pause(engine: TheEngine, actor: TheActor, run_id: RunId) -> TaskRun:
    """Until it is unpaused; nothing of it is lost."""
    return shown_run(await engine.pause((await operated(engine, actor, run_id)).id))


@post(
    "/runs/{run_id:str}/unpause",
    status_code=200,
    within_limits=True,
    summary="Let a paused run go on",
)
async def unpause(engine: TheEngine, actor: TheActor, run_id: RunId) -> TaskRun:
    return shown_run(await engine.unpause((await operated(engine, actor, run_id)).id))


@post("/runs/{run_id:str}/retry", status_code=200, summary="Let a failed run go on")
async def retry(engine: TheEngine, run_id: RunId) -> TaskRun:
    """From the call that failed; those that succeeded are not made again."""
    return shown_run(await engine.retry((await found(engine, run_id)).id))


@delete("/runs/{run_id:str}", within_limits=True, summary="Remove a run that is over")
async def remove(engine: TheEngine, actor: TheActor, run_id: RunId) -> None:
    await engine.delete_run((await operated(engine, actor, run_id)).id)


@post("/prune", status_code=200, summary="Remove old runs")
async def prune(data: JSONBody[Pruning], engine: TheEngine) -> Pruned:
    """With `dry_run` nothing is removed."""
    deleted = await engine.prune(
        data.older_than, task=data.task, statuses=data.statuses, dry_run=data.dry_run
    )
    return Pruned(deleted)


HANDLERS = [
    *(start, list_runs, show, wait, calls, call, log, children, accepted, answer, send),
    *(cancel, pause, unpause, retry, remove, prune),
]
