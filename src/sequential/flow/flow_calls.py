"""What becomes of the calls of a flow: the caller's requests, sleeps, and what nobody performs."""

from collections.abc import Iterable
from typing import Any

from sequential.core import times, values
from sequential.core.model import CallStatus, Failure, Outcome, StackRun, evolve
from sequential.errors import InvalidTransitionError

FETCH, SLEEP = "http.fetch", "clock.sleep"
LONGEST = 1e12  # seconds


def requests(calls: Iterable[StackRun]) -> list[StackRun]:
    """The requests among these calls that wait for an answer, in the order they were made."""
    found = [c for c in calls if c.operation == FETCH and not c.status.is_settled]
    return sorted((c for c in found if _refusal(c) is None), key=lambda call: call.sequence)


def request_id(flow_id: str, call: StackRun) -> str:
    """The id under which the caller knows a request."""
    return f"{flow_id}:{call.sequence}"


def arguments(call: StackRun) -> dict[str, Any]:
    """What a call was given by name."""
    return values.arguments_from_json(call.input)[1]


def ends_at(call: StackRun) -> str | None:
    """When a sleep is over; None for other calls."""
    if call.operation != SLEEP or call.status.is_settled or _refusal(call):
        return None
    return times.after(call.created_at, float(arguments(call)["seconds"]))


def asked(flow_id: str, calls: Iterable[StackRun], wanted: str | None) -> StackRun:
    """The request that an answer is for; raises `InvalidTransitionError` if none waits for it."""
    waiting = requests(calls)
    if not waiting:
        raise InvalidTransitionError(
            f"task {flow_id} waits for no request: resume it without a response"
        )
    for call in waiting:
        if wanted in (None, request_id(flow_id, call)):
            return call
    listed = ", ".join(request_id(flow_id, call) for call in waiting)
    raise InvalidTransitionError(
        f"request {ascii(wanted)[:200]} was answered already, or never made: "
        f"task {flow_id} waits for {listed}"
    )


def why_not(flow_id: str, calls: Iterable[StackRun]) -> str:
    """Why a task cannot be resumed without a response."""
    if waiting := requests(calls):
        return (
            f"task {flow_id} waits for request {request_id(flow_id, waiting[0])}: give a response"
        )
    until = min((end for call in calls if (end := ends_at(call))), default="its time")
    return f"task {flow_id} sleeps until {until}: resume it then"


def arrived(call: StackRun, now: str) -> StackRun | None:
    """A call with its outcome if that is there: from the caller, or because it needs none."""
    if call.status.is_settled:
        return call
    if (refusal := _refusal(call)) is not None:
        return settled(call, Outcome(error=refusal), call.created_at)
    end = ends_at(call)
    return settled(call, Outcome(), end) if end is not None and end <= now else None


def settled(call: StackRun, outcome: Outcome, now: str) -> StackRun:
    return evolve(
        call,
        status=CallStatus.COMPLETED if outcome.error is None else CallStatus.FAILED,
        result=outcome.value,
        error=outcome.error,
        attempts=1,
        due_at=None,
        size=len(values.dumps(outcome.value)) if outcome.error is None else None,
        updated_at=max(now, call.updated_at),
    )


def _refusal(call: StackRun) -> Failure | None:
    """Why nobody performs a call, as the exception that the program gets for it."""
    if call.operation == FETCH:
        url = arguments(call).get("url")
        if isinstance(url, str):
            return None
        return Failure("TypeError", f"url must be text, not {type(url).__name__}", "invalid_call")
    if call.operation == SLEEP:
        seconds = arguments(call).get("seconds")
        if (
            isinstance(seconds, int | float)
            and type(seconds) is not bool
            and 0 <= seconds <= LONGEST
        ):
            return None
        message = (
            f"sleep() needs a number of seconds from 0 to {LONGEST:g}, not {str(seconds)[:40]}"
        )
        return Failure("ValueError", message, "invalid_call")
    return Failure(
        "RuntimeError",
        f"SequentialFlow performs fetch and sleep, not {call.operation}: run this task with "
        "Engine, which has services, events and other tasks",
        "unknown_service",
    )
