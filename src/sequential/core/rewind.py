"""Taking a failed run back to where it can go on: what `retry` writes.

A program that ended with an error of its own did so in a turn, after it was given the outcomes of
some calls. That turn is taken back: what it asked for is dropped, the calls that failed are
performed again, with the keys they had, and the others are handed over as they are. When it was
the engine that gave up (a timeout, a limit, an operator), the last turn was a good one: only the
calls that were given up are taken up again.
"""

from collections.abc import Iterable

from sequential.core import times, values
from sequential.core.model import Amendment, CallStatus, Failure, StackRun, TaskRun, evolve
from sequential.core.transitions import Event, Happening, apply

_UNDELIVERED = {"delivered_turn": None, "delivered_order": None, "delivered_at": None}

_TIMED = ("clock.sleep", "events.wait")  # their time goes on to run while nobody drives the run


def position(run: TaskRun) -> int:
    """The turn that a retry of this run goes back to."""
    return run.turn if run.failed_turn is None else run.failed_turn - 1


def rewind(run: TaskRun, calls: Iterable[StackRun], now: str) -> Amendment:
    """What has to be written so that a run goes on.

    `calls` are those that were not delivered before `position(run)`, as `load_calls` gives them.
    Raises `InvalidTransitionError` for a run that neither failed nor was cancelled.
    """
    again, _ = apply(run, Happening(Event.RETRY), now)
    turn = position(run)
    again = evolve(
        again,
        turn=turn,
        failed_turn=None,
        expires_at=None,
        deadline=times.after(now, run.config.timeout) if run.config.timeout else None,
    )
    calls = list(calls)
    dropped = tuple(call.sequence for call in calls if call.requested_turn > turn)
    kept = [call for call in calls if call.requested_turn <= turn]
    updated = tuple(new for call in kept if (new := _taken_up(call, now)) != call)
    return Amendment(again, updated, dropped)


def _taken_up(call: StackRun, now: str) -> StackRun:
    if not _has_failed(call):
        return evolve(call, **_UNDELIVERED)
    return evolve(
        call,
        status=CallStatus.PENDING,
        result=None,
        error=_reason(call),
        attempts=0,
        due_at=_due_again(call, now),
        duration=None,
        size=None,
        updated_at=now,
        **_UNDELIVERED,
    )


def _reason(call: StackRun) -> Failure | None:
    """Why it is performed again: the service that runs children goes on with one that failed."""
    if call.operation != "tasks.run":
        return None
    return call.error or Failure(type="RuntimeError", message="was given up", code="given_up")


def _due_again(call: StackRun, now: str) -> str | None:
    if call.operation == "events.wait" and call.status is CallStatus.FAILED:
        _, named = values.arguments_from_json(call.input)  # its time was over: it gets it again
        return times.after(now, named["timeout"]) if named.get("timeout") else None
    return call.due_at if call.operation in _TIMED else None


def _has_failed(call: StackRun) -> bool:
    """Whether performing it again may bring another outcome; an HTTP status is data to the call."""
    if call.operation == "http.fetch" and isinstance(call.result, dict):
        status = call.result.get("status")
        return isinstance(status, int) and status >= 400
    return call.status in (CallStatus.FAILED, CallStatus.CANCELLED)
