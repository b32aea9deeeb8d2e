"""The JSON documents of `--json`. Every key is always there, so scripts can rely on the shape."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sequential.core import times
from sequential.core.model import Failure, Frame, LogLine, StackRun, TaskFunction, TaskRun

if TYPE_CHECKING:
    from sequential.cli.visits import Story
    from sequential.core.schedule import Scheduled
    from sequential.runner.webhooks import Registered


def run_document(run: TaskRun) -> dict[str, Any]:
    """A run record, without the code and the policy that it carries."""
    took = times.seconds_between(run.started_at or run.created_at, run.ended_at or run.updated_at)
    return {
        "id": run.id,
        "task_identifier": run.task_identifier,
        "status": str(run.status),
        "input": run.input,
        "result": run.result,
        "error": _failure(run.error),
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "duration": max(round(took, 3), 0.0) if run.ended_at else None,
        "wake_at": run.wake_at,
        "deadline": run.deadline,
        "expires_at": run.expires_at,
        "priority": run.priority,
        "parent_run_id": run.parent_run_id,
        "events": [_all_fields(event) for event in run.events],
        "where": _frame(run.where),
        "filename": run.filename,
        "turn": run.turn,
        "crashes": run.crashes,
    }


def full_document(
    run: TaskRun,
    calls: Sequence[StackRun],
    log: Sequence[LogLine],
    children: Sequence[TaskRun] = (),
    story: "Story | None" = None,
) -> dict[str, Any]:
    """A run record with its calls, its child runs, and what it printed; `graph` if it has one."""
    return {
        **run_document(run),
        "graph": story and graph_document(story),
        "stack_runs": [call_document(call) for call in calls],
        "children": [
            {"id": run.id, "task_identifier": run.task_identifier, "status": str(run.status)}
            for run in children
        ],
        "log": [{"at": line.at, "text": line.text} for line in log],
    }


def graph_states(task: TaskFunction) -> list[str] | None:
    """The states of a task's graph in their order; of a graph with mistakes none."""
    if task.config.graph is None:
        return None
    from sequential.cli.visits import short
    from sequential.core.statechart.problems import GraphError
    from sequential.core.task_graph import machine_of

    try:
        machine = machine_of(task.config.graph, task.code, task.identifier)
    except GraphError:
        return []
    return [short(state.id, machine.id) for state in machine.chart.states[1:]]


def graph_document(story: "Story") -> dict[str, Any]:
    """What a run did in its graph, the earliest first; `steps` tell all of each macrostep."""
    return {
        "active": story.active,
        "accepts": list(story.accepts),
        "states": [visit._asdict() for visit in story.visits],
        "transitions": [taken._asdict() for taken in story.taken],
        "handlers": [
            {
                "state": handler.state,
                "handler": handler.name,
                "run_id": handler.run.id if handler.run else None,
                "status": str(handler.run.status if handler.run else handler.call.status),
                "result": handler.call.result,
                "error": _failure(handler.call.error),
                "stack_runs": [call_document(call) for call in handler.calls],
            }
            for handler in story.handlers
        ],
        "steps": list(story.steps),
    }


def call_document(call: StackRun) -> dict[str, Any]:
    """A call; `input` holds its arguments, `size` counts bytes, `duration` seconds."""
    return {
        "id": call.id,
        "sequence": call.sequence,
        "operation": call.operation,
        "status": str(call.status),
        "input": call.input,
        "result": call.result,
        "error": _failure(call.error),
        "attempts": call.attempts,
        "duration": call.duration,
        "size": call.size,
        "line": call.where.line if call.where else None,
        "where": _frame(call.where),
        "parent_stack_run_id": call.parent_stack_run_id,
        "due_at": call.due_at,
        "created_at": call.created_at,
        "updated_at": call.updated_at,
    }


def task_document(
    task: TaskFunction,
    path: str | None,
    runs: Sequence[TaskRun],
    schedules: Sequence["Scheduled"],
    webhooks: Sequence["Registered"],
) -> dict[str, Any]:
    """A task, its schedules and webhooks, how its runs stand, and the newest of them."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[str(run.status)] = counts.get(str(run.status), 0) + 1
    last = runs[0] if runs else None
    config = task.config
    return {
        "name": task.identifier,
        "description": config.description,
        "runtime": config.runtime,
        "states": graph_states(task),
        "inputs": [_all_fields(field) for field in config.inputs],
        "retry": _all_fields(config.retry) if config.retry else None,
        "timeout": config.timeout,
        "ttl": config.ttl,
        "concurrency": config.concurrency,
        "schedules": [schedule_document(one) for one in schedules],
        "webhooks": [webhook_document(one) for one in webhooks],
        "allow": _all_fields(config.allow),
        "limits": _all_fields(config.limits),
        "version": task.version,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "path": path,
        "runs": {"total": len(runs), **counts},
        "last_run": last
        and {"id": last.id, "status": str(last.status), "created_at": last.created_at},
    }


def schedule_document(scheduled: "Scheduled") -> dict[str, Any]:
    """A schedule, where it comes from, and when it had and will have a run."""
    return {
        "task": scheduled.task,
        **_all_fields(scheduled.schedule),
        "origin": scheduled.origin,
        "next": scheduled.next,
        "last": scheduled.last,
        "run": scheduled.run,
        "problem": scheduled.problem,
    }


def webhook_document(registered: "Registered", url: str = "") -> dict[str, Any]:
    """A webhook, where it comes from, and its address, which is a path where no server is known."""
    return {
        "task": registered.task,
        **_all_fields(registered.webhook),
        "origin": registered.origin,
        "url": url or registered.path,
        "problem": registered.problem,
    }


def _all_fields(record: msgspec.Struct) -> dict[str, Any]:
    """A record with the fields that have their default value, too."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    plain: dict[str, Any] = msgspec.to_builtins(values)
    return plain


def _failure(error: Failure | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "type": error.type,
        "message": error.message,
        "code": error.code,
        "traceback": [_frame(frame) for frame in error.traceback],
    }


def _frame(frame: Frame | None) -> dict[str, Any] | None:
    return _all_fields(frame) if frame else None
