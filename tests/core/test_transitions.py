"""Every event in every status: what the table allows, with what effects, and what it refuses."""

import pytest

from sequential.core.model import CallStatus, Failure, Status, TaskRun, evolve
from sequential.core.transitions import (
    CALL_TABLE,
    Effect,
    Event,
    Happening,
    apply,
    check_call_move,
    diagram,
)
from sequential.errors import InvalidTransitionError

BEFORE, NOW, LATER = (f"2026-01-01T00:00:0{n}.000Z" for n in (0, 1, 2))
ERROR = Failure("ValueError", "no")
OVER = (Effect.CANCEL_CALLS, Effect.RELEASE_LEASE, Effect.NOTIFY_WAITERS)

# Written down a second time on purpose: a change of the table has to be meant.
ALLOWED = {
    "pending": {
        "claim": "running",
        "answer": "pending",
        "fail": "failed",
        "pause": "paused",
        "cancel": "cancelled",
    },
    "running": {
        "claim": "running",
        "advance": "running",
        "park": "suspended",
        "answer": "running",
        "complete": "completed",
        "fail": "failed",
        "pause": "paused",
        "cancel": "cancelled",
    },
    "suspended": {
        "claim": "running",
        "answer": "suspended",
        "fail": "failed",
        "pause": "paused",
        "cancel": "cancelled",
    },
    "paused": {"answer": "paused", "unpause": "suspended", "cancel": "cancelled"},
    "completed": {},
    "failed": {"retry": "suspended"},
    "cancelled": {"retry": "suspended"},
}
EFFECTS = {
    "claim": (Effect.PERFORM_CALLS,),
    "advance": (Effect.PERFORM_CALLS,),
    "park": (Effect.RELEASE_LEASE,),
    "answer": (Effect.WAKE_WORKERS,),
    "complete": OVER,
    "fail": OVER,
    "pause": (Effect.RELEASE_LEASE,),
    "unpause": (Effect.WAKE_WORKERS,),
    "cancel": OVER,
    "retry": (Effect.WAKE_WORKERS,),
}
PAIRS = [(status, event) for status in Status for event in Event]
GOOD = [(s, e, Status(ALLOWED[s][e])) for s, e in PAIRS if e in ALLOWED[s]]
BAD = [(s, e) for s, e in PAIRS if e not in ALLOWED[s]]


def a_run(status: Status) -> TaskRun:
    """A run with every field set that an event may touch."""
    return TaskRun(
        id="r",
        task_identifier="t",
        status=status,
        input={},
        result="old" if status is Status.COMPLETED else None,
        error=Failure("OSError", "old") if status is Status.FAILED else None,
        created_at=BEFORE,
        updated_at=BEFORE,
        started_at=None if status is Status.PENDING else BEFORE,
        ended_at=BEFORE if status.is_final else None,
        turn=7,
        wake_at=BEFORE,
        crashes=2,
        lease_token="old" if status is Status.RUNNING else None,
        lease_until=BEFORE if status is Status.RUNNING else None,
    )


def a_happening(event: Event) -> Happening:
    """Everything an event might carry, so that what does not belong to it has to be ignored."""
    return Happening(event, token="new", until=LATER, wake_at=LATER, result="new", error=ERROR)


def test_the_pairs_are_all_there_are() -> None:
    assert len(GOOD) + len(BAD) == len(Status) * len(Event) == 70
    assert len(GOOD) == 23


@pytest.mark.parametrize(("status", "event", "target"), GOOD)
def test_an_event_in_the_table(status: Status, event: Event, target: Status) -> None:
    before = a_run(status)
    run, effects = apply(before, a_happening(event), NOW)
    assert run.status is target
    assert effects == EFFECTS[event]
    assert run.updated_at == NOW
    assert before == a_run(status)


@pytest.mark.parametrize(("status", "event", "target"), GOOD)
def test_an_event_changes_these_fields_and_no_other(
    status: Status, event: Event, target: Status
) -> None:
    before = a_run(status)
    expected = evolve(before, status=target, updated_at=NOW)
    if event is Event.CLAIM:
        started = before.started_at or NOW
        expected = evolve(expected, lease_token="new", lease_until=LATER, started_at=started)
    if event in (Event.ADVANCE, Event.PARK, Event.ANSWER) and status is not Status.PENDING:
        expected = evolve(expected, wake_at=LATER)
    if event in (Event.UNPAUSE, Event.RETRY):
        expected = evolve(expected, wake_at=NOW)
    if event is Event.RETRY:
        expected = evolve(expected, error=None, ended_at=None, crashes=0)
    if event is Event.COMPLETE:
        expected = evolve(expected, result="new")
    if event in (Event.FAIL, Event.CANCEL):
        expected = evolve(expected, error=ERROR)
    if target in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
        expected = evolve(expected, ended_at=NOW, wake_at=None)
    if target is not Status.RUNNING:
        expected = evolve(expected, lease_token=None, lease_until=None)
    assert apply(before, a_happening(event), NOW)[0] == expected


@pytest.mark.parametrize(("status", "event"), BAD)
def test_an_event_that_is_not_in_the_table_changes_nothing(status: Status, event: Event) -> None:
    run = a_run(status)
    with pytest.raises(InvalidTransitionError) as caught:
        apply(run, a_happening(event), NOW)
    assert run == a_run(status)
    message = str(caught.value)
    assert message.startswith(f"run r is {status}: {event} is not possible, ")
    assert all(possible in message for possible in ALLOWED[status])
    assert ALLOWED[status] or message.endswith("nothing more can happen to it")


def test_an_answer_without_a_time_makes_the_run_due_at_once() -> None:
    run, _ = apply(a_run(Status.SUSPENDED), Happening(Event.ANSWER), NOW)
    assert run.wake_at == NOW


def test_a_run_parked_without_a_time_waits_for_an_answer() -> None:
    run, _ = apply(a_run(Status.RUNNING), Happening(Event.PARK), NOW)
    assert run.wake_at is None


def test_a_second_claim_keeps_the_time_of_the_first() -> None:
    first, _ = apply(a_run(Status.PENDING), Happening(Event.CLAIM, token="a", until=LATER), NOW)
    again, _ = apply(first, Happening(Event.CLAIM, token="b", until=LATER), LATER)
    assert (first.started_at, again.started_at) == (NOW, NOW)
    assert again.lease_token == "b"


CALL_MOVES = {
    "pending": {"in_progress", "completed", "failed", "cancelled"},
    "in_progress": {"pending", "completed", "failed", "cancelled"},
}


@pytest.mark.parametrize("old", CallStatus)
@pytest.mark.parametrize("new", CallStatus)
def test_every_move_of_a_call(old: CallStatus, new: CallStatus) -> None:
    assert set(CALL_TABLE) == set(CallStatus)
    if new in CALL_MOVES.get(old, set()):
        check_call_move(old, new)
    else:
        with pytest.raises(InvalidTransitionError, match=f"{old} cannot become {new}"):
            check_call_move(old, new)


def test_the_diagram_draws_every_pair_once() -> None:
    first, start, *arrows = diagram().splitlines()
    assert (first, start) == ("stateDiagram-v2", "    [*] --> pending")
    drawn: list[tuple[str, str, str]] = []
    ends = []
    for arrow in arrows:
        source, target = arrow.split(" --> ")
        if target == "[*]":
            ends.append(source.strip())
            continue
        target, events = target.split(": ")
        drawn += [(source.strip(), event, target) for event in events.split(", ")]
    assert sorted(drawn) == sorted((str(s), str(e), str(t)) for s, e, t in GOOD)
    assert ends == ["completed", "failed", "cancelled"]
