"""What happens to a run from outside: answers it waits for, and what an operator asks of it."""

from collections.abc import Iterable

from sequential.core.model import (
    Amendment,
    CallStatus,
    RunEvent,
    StackRun,
    TaskRun,
    evolve,
)
from sequential.core.transitions import Effect, Event, Happening, apply


def answered(run: TaskRun, event: RunEvent | None, now: str) -> TaskRun:
    """The run with one more answer, due at once; the same one if it has this event already.

    A run that nobody has driven yet keeps the time it is to begin at. Raises
    `InvalidTransitionError` when the run is over.
    """
    if event is not None and any(known.id == event.id for known in run.events):
        return run
    changed, _ = apply(run, Happening(Event.ANSWER), now)
    events = run.events if event is None else (*run.events, event)
    return evolve(changed, events=events, answers=run.answers + 1)


def operated(run: TaskRun, calls: Iterable[StackRun], happening: Happening, now: str) -> Amendment:
    """What an operator's wish makes of a run; `calls` are those that were not delivered.

    Raises `InvalidTransitionError` when the run's status forbids it.
    """
    changed, effects = apply(run, happening, now)
    if Effect.CANCEL_CALLS not in effects:
        return Amendment(changed)
    given_up = tuple(
        evolve(call, status=CallStatus.CANCELLED, updated_at=now)
        for call in calls
        if not call.status.is_settled
    )
    return Amendment(changed, given_up)
