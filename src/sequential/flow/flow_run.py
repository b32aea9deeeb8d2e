"""A flow as a run: how its record begins, and what its callers see of it."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from sequential.core import ids, times
from sequential.core.model import Allow, Failure, InputField, StackRun, Status, TaskConfig, TaskRun
from sequential.core.names import check_field_name, check_run_id
from sequential.errors import InvalidNameError
from sequential.flow.flow_calls import arguments, ends_at, request_id, requests
from sequential.flow.flow_task import FetchRequest, FlowStatus, FlowTask
from sequential.flow.script import as_task, original, task_name

FILENAME = "flow.py"  # of the source, in tracebacks; an engine's runs have the file's path there
UNNAMED = "flow"  # the task that runs without a name are listed under
_OWN_ID = re.compile(r"task-([0-9]{1,15})-([0-9a-f]{20})\Z")
_STATUS = {
    Status.PENDING: FlowStatus.RUNNING,
    Status.RUNNING: FlowStatus.RUNNING,
    Status.SUSPENDED: FlowStatus.PAUSED,
    Status.PAUSED: FlowStatus.PAUSED,
    Status.COMPLETED: FlowStatus.COMPLETED,
    Status.FAILED: FlowStatus.ERROR,
    Status.CANCELLED: FlowStatus.ERROR,
}


def new_flow_id(milliseconds: int, entropy: bytes) -> str:
    """An id as the original made them, `task-<milliseconds>-<random>`; `entropy` is 10 bytes."""
    return f"task-{milliseconds}-{entropy.hex()}"


def run_id_of(flow_id: str) -> str:
    """The id of the run of a flow. Those of generated ids sort by time; a run's own id is itself.

    Runs of other ids sort before all others.
    """
    if found := _OWN_ID.match(flow_id):
        return ids.run_id(int(found[1]), bytes.fromhex(found[2]))
    try:
        return check_run_id(flow_id)
    except InvalidNameError:
        return ids.run_id(0, hashlib.sha256(flow_id.encode()).digest())


def new_run(
    flow_id: str, name: str | None, code: str, input: dict[str, Any], ttl: float, now: str
) -> TaskRun:
    """The run of a new flow. A worker that finds it may do nothing in its name."""
    expires_at = times.after(now, ttl)
    task = UNNAMED if name is None else task_name(name)
    return TaskRun(
        id=run_id_of(flow_id),
        task_identifier=task,
        status=Status.PENDING,
        input=input,
        created_at=now,
        updated_at=now,
        wake_at=expires_at,
        deadline=expires_at,
        filename=FILENAME,
        config=TaskConfig(
            name=task,
            inputs=tuple(InputField(field, "any") for field in input if _can_be_parameter(field)),
            description=flow_id if name is None else name,
            timeout=ttl,
            allow=Allow(hosts=(), services=(), secrets=()),
        ),
        code=as_task(code, task),
    )


def _can_be_parameter(field: str) -> bool:
    """Whether the entry function can have a parameter that is filled with this field."""
    try:
        return bool(check_field_name(field))
    except InvalidNameError:
        return False


def is_flow(run: TaskRun) -> bool:
    """Whether a run is a flow's, to be advanced by its callers only."""
    return run.filename == FILENAME and run.config.allow.hosts == ()


def flow_task(
    flow_id: str, run: TaskRun, calls: Iterable[StackRun], *, log: str = "", revision: int = 0
) -> FlowTask:
    """What a caller sees of a run, with its calls that are not delivered."""
    status = _STATUS[run.status]
    calls = list(calls) if status in (FlowStatus.PAUSED, FlowStatus.RUNNING) else []
    waiting = requests(calls)
    wake_at = None
    if status is FlowStatus.PAUSED and not waiting:
        wake_at = min((end for call in calls if (end := ends_at(call))), default=run.updated_at)
    return FlowTask(
        id=flow_id,
        name=run.config.description,
        code=original(run.code),
        status=status,
        result=run.value if status is FlowStatus.COMPLETED else None,
        error=_error_of(run) if status is FlowStatus.ERROR else None,
        fetch_requests=tuple(_request(flow_id, call) for call in waiting),
        wake_at=wake_at,
        created_at=run.created_at,
        updated_at=run.updated_at,
        expires_at=None if run.status.is_final else run.deadline,
        log=log,
        revision=revision,
    )


def _request(flow_id: str, call: StackRun) -> FetchRequest:
    options = dict(arguments(call))
    return FetchRequest(request_id(flow_id, call), options.pop("url"), options)


def _error_of(run: TaskRun) -> str:
    if run.error is None:
        return "the task was cancelled"
    return f"{run.error}{_place(run.error)}"


def _place(failure: Failure) -> str:
    lines = [frame.line for frame in failure.traceback if frame.file == FILENAME]
    return f" (line {lines[-1]})" if lines else ""
