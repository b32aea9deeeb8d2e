"""The journal: a run's calls in order, and the order in which their outcomes were delivered.

It is the truth about a run. A program that is started again and given the same outcomes in the
same groups, in the same order and with the same clock asks for the same calls; so any state of the
program can be made again, and a snapshot only saves the time. Before an old outcome is handed to a
program, the call it belongs to must be the one the program asks for now: same number, same
fingerprint. If it is not, the program is another one than the journal's, and going on would give
it somebody else's answers.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sequential.core import ids, values
from sequential.core.model import (
    Call,
    CallStatus,
    Commit,
    Outcome,
    StackRun,
    Status,
    TaskRun,
    Turn,
    evolve,
)
from sequential.errors import NonDeterminismError


class Entry(msgspec.Struct, frozen=True):
    """One turn: what was delivered, at what time, and what the program then asked for."""

    turn: int
    clock: str
    delivered: tuple[StackRun, ...]
    requested: tuple[StackRun, ...]

    @property
    def outcomes(self) -> list[tuple[int, Outcome]]:
        return [(call.sequence, outcome_of(call)) for call in self.delivered]


def entries(calls: Iterable[StackRun], started_at: str, after: int = 0) -> list[Entry]:
    """The turns after turn number `after`, from the calls that took part in them.

    Turn 1 starts the program and delivers nothing. The calls may come in any order.
    """
    delivered: dict[int, list[StackRun]] = {}
    requested: dict[int, list[StackRun]] = {}
    for call in calls:
        if call.requested_turn > after:
            requested.setdefault(call.requested_turn, []).append(call)
        if call.delivered_turn is not None and call.delivered_turn > after:
            if call.delivered_order is None:
                continue  # the program gave it up in that turn
            delivered.setdefault(call.delivered_turn, []).append(call)
    turns = sorted(delivered.keys() | requested.keys())
    return [
        _entry(turn, started_at, delivered.get(turn, []), requested.get(turn, [])) for turn in turns
    ]


def _entry(
    turn: int, started_at: str, delivered: list[StackRun], requested: list[StackRun]
) -> Entry:
    delivered.sort(key=lambda call: call.delivered_order or 0)
    requested.sort(key=lambda call: call.sequence)
    clock = delivered[0].delivered_at if delivered else None
    return Entry(turn, clock or started_at, tuple(delivered), tuple(requested))


def fingerprint(operation: str, arguments: Any) -> str:
    """A short digest of a call's operation and arguments (a tree made by `core.values`)."""
    return hashlib.sha256(values.dumps([operation, arguments])).hexdigest()[:16]


def stack_run(run_id: str, call: Call, turn: int, now: str) -> StackRun:
    """The record of a call that a program asked for in `turn`."""
    return StackRun(
        id=ids.stack_run_id(run_id, call.sequence),
        task_run_id=run_id,
        operation=call.operation,
        status=CallStatus.PENDING,
        input=call.arguments,
        created_at=now,
        updated_at=now,
        sequence=call.sequence,
        fingerprint=fingerprint(
            call.operation, call.arguments if call.identity is None else call.identity
        ),
        where=call.where,
        requested_turn=turn,
    )


def outcome_of(call: StackRun) -> Outcome:
    """The outcome of a settled call, as it is handed to the program."""
    return Outcome(value=call.result, error=call.error)


def committed(stored: TaskRun, commit: Commit) -> TaskRun:
    """The record that a commit leaves behind, given the one that is stored.

    Answers may have come since the step began: they stay, except for the events it has taken, and
    a run that is parked without having seen all of them is due at once. The time of the lease is
    for `renew` to move.
    """
    run = commit.run
    events = tuple(event for event in stored.events if event.id not in commit.taken)
    unseen = run.status is Status.SUSPENDED and stored.answers != run.answers
    return evolve(
        run,
        answers=stored.answers,
        events=events,
        wake_at=run.updated_at if unseen else run.wake_at,
        lease_until=stored.lease_until if run.lease_token else None,
    )


def check_delivery(entry: Entry, waiting: Iterable[int]) -> None:
    """Raise `NonDeterminismError` unless the program waits for what was delivered to it."""
    expected = set(waiting)
    for call in entry.delivered:
        if call.sequence not in expected:
            raise NonDeterminismError(_difference(call, None))


def check_turn(entry: Entry, turn: Turn) -> None:
    """Raise `NonDeterminismError` unless a replayed turn asked for what the journal says."""
    asked = [stack_run("", call, entry.turn, entry.clock) for call in turn.calls]
    for expected, actual in zip(entry.requested, asked, strict=False):
        same = expected.sequence == actual.sequence and expected.fingerprint == actual.fingerprint
        if not same:
            raise NonDeterminismError(_difference(expected, actual))
    if len(entry.requested) > len(asked):
        raise NonDeterminismError(_difference(entry.requested[len(asked)], None))
    if len(asked) > len(entry.requested):
        raise NonDeterminismError(_difference(None, asked[len(entry.requested)]))


def _difference(expected: StackRun | None, actual: StackRun | None) -> str:
    known = expected or actual
    assert known is not None
    lines = [
        f"call {known.sequence} differs: the journal does not fit this source",
        f"  expected  {_shown(expected)}",
        f"  actual    {_shown(actual)}",
    ]
    if expected and actual and expected.operation == actual.operation:
        if expected.sequence != actual.sequence:
            difference = f"the number is {expected.sequence}, actual {actual.sequence}"
        else:
            difference = _first_difference(expected.input, actual.input)
        lines += [f"  first difference: {difference}"]
    return "\n".join(lines)


def _shown(call: StackRun | None) -> str:
    if call is None:
        return "(no call)"
    arguments = values.dumps(call.input).decode()
    arguments = arguments if len(arguments) <= 200 else arguments[:197] + "..."
    place = f"  at {call.where.file}:{call.where.line}" if call.where else ""
    source = f"  {call.where.source.strip()}" if call.where and call.where.source else ""
    return f"{call.operation} {arguments}{place}{source}"


def _first_difference(expected: Any, actual: Any, path: str = "") -> str:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in [*expected, *actual]:
            below = f"{path}.{key}" if path else key
            if key not in expected or key not in actual:
                return f"{below} is only {'expected' if key in expected else 'actual'}"
            if _differ(expected[key], actual[key]):
                return _first_difference(expected[key], actual[key], below)
        return f"{path or 'the value'} has its keys in another order"
    if isinstance(expected, list) and isinstance(actual, list):
        for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
            if _differ(one, other):
                return _first_difference(one, other, f"{path}[{index}]")
        return f"{path or 'the value'} has {len(expected)} items, actual {len(actual)}"
    return f"{path or 'the value'} is {_brief(expected)}, actual {_brief(actual)}"


def _differ(one: Any, other: Any) -> bool:
    """As the fingerprint sees it: 1, 1.0 and true are equal in Python, yet not the same."""
    return values.dumps(one) != values.dumps(other)


def _brief(tree: Any) -> str:
    text = values.dumps(tree).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def deliverable(calls: Sequence[StackRun], waiting: Iterable[int]) -> list[StackRun]:
    """Of the calls whose outcome is known, those the program can take now, in their given order."""
    wanted = set(waiting)
    return [call for call in calls if call.status.is_settled and call.sequence in wanted]
