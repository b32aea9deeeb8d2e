"""What a turn makes of the records of calls, and of the run."""

from collections.abc import Iterable, Sequence

from sequential.core.model import (
    CallStatus,
    Finished,
    Frame,
    Raised,
    StackRun,
    Turn,
    Waiting,
    evolve,
)
from sequential.core.transitions import Event, Happening


def delivered(batch: Sequence[StackRun], turn: int, now: str) -> list[StackRun]:
    """The records of the calls whose outcomes the program was given, in this order."""
    return [
        evolve(call, delivered_turn=turn, delivered_order=order, delivered_at=now)
        for order, call in enumerate(batch)
    ]


def is_given_up(call: StackRun) -> bool:
    """Whether the program has given up a call: it was settled in a turn, and delivered in none."""
    return call.delivered_turn is not None and call.delivered_order is None


def drop(
    numbers: Sequence[int],
    requested: list[StackRun],
    open_calls: Iterable[StackRun],
    turn: int,
    now: str,
) -> list[StackRun]:
    """The records of open calls that the program gave up; new ones are changed in their place."""
    given_up = {"status": CallStatus.CANCELLED, "delivered_turn": turn, "delivered_at": now}
    wanted = set(numbers)
    for index, call in enumerate(requested):
        if call.sequence in wanted:
            requested[index] = evolve(call, **given_up)
    return [
        evolve(call, **given_up, updated_at=now) for call in open_calls if call.sequence in wanted
    ]


def settle_notes(numbers: Sequence[int], requested: list[StackRun], turn: int, now: str) -> None:
    """Make records of what is only to be known; they are delivered in no order, to nobody."""
    wanted = set(numbers)
    done = {"status": CallStatus.COMPLETED, "delivered_turn": turn, "delivered_at": now}
    for index, call in enumerate(requested):
        if call.sequence in wanted:
            requested[index] = evolve(call, **done)


def ending(state: Finished | Raised | Waiting) -> Happening:
    """What happens to the run of a program that has ended like this."""
    match state:
        case Finished(value=value):
            return Happening(Event.COMPLETE, result=value)
        case Raised(error=error):
            return Happening(Event.FAIL, error=error)
        case _:
            raise AssertionError(state)


def place(turn: Turn, calls: Iterable[StackRun]) -> Frame | None:
    """The expression the program waits at: that of the first call it waits for."""
    if not isinstance(turn.state, Waiting):
        return None
    first = turn.state.calls[0]
    return next((call.where for call in calls if call.sequence == first), None)
