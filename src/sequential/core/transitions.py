"""How a run moves from one status to the next.

This file owns the life of a run: which events may happen in which status, and what follows from
them. It knows nothing of storage, workers or programs; it is told what happened and when.

A run is *pending* from the moment it is written until a worker claims it. A claim gives the worker
a lease, and the run is *running* while the lease lasts: the worker delivers outcomes, advances the
program and commits, turn by turn. When the program waits for something far away, the worker parks
the run: it is *suspended*, waits in storage and costs no memory, until it is claimed again. If the
worker dies instead, its lease runs out and the run is claimed while still *running*: nothing is
lost, because every turn was committed. An answer that comes from outside does not move a run; it
only makes it due, so it may arrive in any status that is not final.

An operator may pause a run that is not final. A *paused* run keeps its journal and its snapshot,
but nobody may claim it. Unpausing makes it suspended and due at once, whatever it was before: the
next worker finds out what it waits for. The worker that was driving it finds its lease gone at the
next commit, and its last turn is not written.

A run ends *completed* with the program's result, *failed* with the error that the program did not
catch (or that the engine met on its behalf: a timeout, a limit), or *cancelled*. A failed run can
be retried, and so can one that was cancelled: it is then suspended and due at once.

An event that the table does not list raises `InvalidTransitionError` and changes nothing.
"""

from enum import StrEnum
from typing import Any

import msgspec

from sequential.core.model import CallStatus, Failure, Status, TaskRun, evolve
from sequential.errors import InvalidTransitionError


class Event(StrEnum):
    """What can happen to a run."""

    CLAIM = "claim"  # a worker took the lease
    ADVANCE = "advance"  # a turn was committed and the program waits for calls
    PARK = "park"  # the worker gave the run back to storage
    ANSWER = "answer"  # an outcome arrived while nobody delivered it
    COMPLETE = "complete"  # the program returned
    FAIL = "fail"  # the program, or the engine on its behalf, gave up
    PAUSE = "pause"
    UNPAUSE = "unpause"
    CANCEL = "cancel"
    RETRY = "retry"


class Effect(StrEnum):
    """What the shell has to do once the new record is committed."""

    PERFORM_CALLS = "perform_calls"  # hand open calls to their services
    CANCEL_CALLS = "cancel_calls"  # open calls will not be needed any more
    RELEASE_LEASE = "release_lease"  # stop driving and close the program
    WAKE_WORKERS = "wake_workers"  # the run is due: tell those who look for work
    NOTIFY_WAITERS = "notify_waiters"  # the run is over: tell those who wait for its result


_S, _E = Status, Event

TABLE: dict[tuple[Status, Event], Status] = {
    (_S.PENDING, _E.CLAIM): _S.RUNNING,
    (_S.PENDING, _E.ANSWER): _S.PENDING,
    (_S.PENDING, _E.FAIL): _S.FAILED,
    (_S.PENDING, _E.PAUSE): _S.PAUSED,
    (_S.PENDING, _E.CANCEL): _S.CANCELLED,
    (_S.RUNNING, _E.CLAIM): _S.RUNNING,
    (_S.RUNNING, _E.ADVANCE): _S.RUNNING,
    (_S.RUNNING, _E.ANSWER): _S.RUNNING,
    (_S.RUNNING, _E.PARK): _S.SUSPENDED,
    (_S.RUNNING, _E.COMPLETE): _S.COMPLETED,
    (_S.RUNNING, _E.FAIL): _S.FAILED,
    (_S.RUNNING, _E.PAUSE): _S.PAUSED,
    (_S.RUNNING, _E.CANCEL): _S.CANCELLED,
    (_S.SUSPENDED, _E.CLAIM): _S.RUNNING,
    (_S.SUSPENDED, _E.ANSWER): _S.SUSPENDED,
    (_S.SUSPENDED, _E.FAIL): _S.FAILED,
    (_S.SUSPENDED, _E.PAUSE): _S.PAUSED,
    (_S.SUSPENDED, _E.CANCEL): _S.CANCELLED,
    (_S.PAUSED, _E.ANSWER): _S.PAUSED,
    (_S.PAUSED, _E.UNPAUSE): _S.SUSPENDED,
    (_S.PAUSED, _E.CANCEL): _S.CANCELLED,
    (_S.FAILED, _E.RETRY): _S.SUSPENDED,
    (_S.CANCELLED, _E.RETRY): _S.SUSPENDED,
}

EFFECTS: dict[Event, tuple[Effect, ...]] = {
    _E.CLAIM: (Effect.PERFORM_CALLS,),
    _E.ADVANCE: (Effect.PERFORM_CALLS,),
    _E.PARK: (Effect.RELEASE_LEASE,),
    _E.ANSWER: (Effect.WAKE_WORKERS,),
    _E.COMPLETE: (Effect.CANCEL_CALLS, Effect.RELEASE_LEASE, Effect.NOTIFY_WAITERS),
    _E.FAIL: (Effect.CANCEL_CALLS, Effect.RELEASE_LEASE, Effect.NOTIFY_WAITERS),
    _E.PAUSE: (Effect.RELEASE_LEASE,),
    _E.UNPAUSE: (Effect.WAKE_WORKERS,),
    _E.CANCEL: (Effect.CANCEL_CALLS, Effect.RELEASE_LEASE, Effect.NOTIFY_WAITERS),
    _E.RETRY: (Effect.WAKE_WORKERS,),
}

CALL_TABLE: dict[CallStatus, frozenset[CallStatus]] = {
    CallStatus.PENDING: frozenset(
        {CallStatus.IN_PROGRESS, CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.CANCELLED}
    ),
    CallStatus.IN_PROGRESS: frozenset(
        {CallStatus.PENDING, CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.CANCELLED}
    ),
    CallStatus.COMPLETED: frozenset(),
    CallStatus.FAILED: frozenset(),
    CallStatus.CANCELLED: frozenset(),
}


class Happening(msgspec.Struct, frozen=True):
    """An event with what belongs to it; fields an event has no use for stay empty."""

    event: Event
    token: str | None = None  # claim: the lease's fencing token
    until: str | None = None  # claim: when the lease ends
    wake_at: str | None = None  # advance, park, answer: when a worker should look next
    result: Any = None  # complete
    error: Failure | None = None  # fail, cancel


def apply(run: TaskRun, happening: Happening, now: str) -> tuple[TaskRun, tuple[Effect, ...]]:
    """The run after an event, and what the shell has to do about it.

    Raises `InvalidTransitionError`, changing nothing, when the run's status forbids the event.
    """
    event = happening.event
    status = TABLE.get((run.status, event))
    if status is None:
        raise InvalidTransitionError(_refusal(run, event))
    run = evolve(run, status=status, updated_at=now, **_changes(run, happening, now))
    if status.is_final:
        run = evolve(run, ended_at=now, wake_at=None)
    if status is not Status.RUNNING:
        run = evolve(run, lease_token=None, lease_until=None)
    return run, EFFECTS[event]


def _changes(run: TaskRun, happening: Happening, now: str) -> dict[str, Any]:
    match happening.event:
        case Event.CLAIM:
            return {
                "lease_token": happening.token,
                "lease_until": happening.until,
                "started_at": run.started_at or now,
            }
        case Event.ADVANCE | Event.PARK:
            return {"wake_at": happening.wake_at}
        case Event.ANSWER:
            has_begun = run.status is not Status.PENDING  # else it begins when it should
            return {"wake_at": happening.wake_at or now} if has_begun else {}
        case Event.COMPLETE:
            return {"result": happening.result, "error": None}
        case Event.FAIL | Event.CANCEL:
            return {"error": happening.error}
        case Event.UNPAUSE:
            return {"wake_at": now}
        case Event.RETRY:
            return {"wake_at": now, "error": None, "ended_at": None, "crashes": 0}
        case Event.PAUSE:
            return {}


def _refusal(run: TaskRun, event: Event) -> str:
    possible = sorted(e.value for (s, e) in TABLE if s is run.status)
    rest = f"only {', '.join(possible)}" if possible else "nothing more can happen to it"
    return f"run {run.id} is {run.status.value}: {event.value} is not possible, {rest}"


def check_call_move(old: CallStatus, new: CallStatus) -> None:
    """Raise `InvalidTransitionError` if a call cannot go from `old` to `new`."""
    if new not in CALL_TABLE[old]:
        raise InvalidTransitionError(f"a call that is {old.value} cannot become {new.value}")


def diagram() -> str:
    """The table as Mermaid text; the state diagram in the documentation is made from it."""
    arrows: dict[tuple[Status, Status], list[str]] = {}
    for (source, event), target in TABLE.items():
        arrows.setdefault((source, target), []).append(event.value)
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    lines += [f"    {s.value} --> {t.value}: {', '.join(e)}" for (s, t), e in arrows.items()]
    lines += [f"    {s.value} --> [*]" for s in Status if s.is_final]
    return "\n".join(lines) + "\n"
