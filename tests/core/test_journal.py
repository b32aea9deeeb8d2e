"""The journal: turns made of calls in any order, and what no longer fits them."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core import journal
from sequential.core.journal import Entry
from sequential.core.model import (
    Call,
    CallStatus,
    Failure,
    Frame,
    Outcome,
    StackRun,
    Turn,
    Waiting,
    evolve,
)
from sequential.errors import NonDeterminismError

STARTED = "2026-01-01T00:00:00.000Z"


def a_call(sequence: int = 0, method: str = "get", line: int = 0, **arguments: Any) -> Call:
    source = f"x = await services.api.{method}(...)"
    where = Frame("code.py", line, source=f"    {source}") if line else None
    return Call(sequence, "api", method, arguments, where)


def recorded(call: Call, requested: int = 1, **changes: Any) -> StackRun:
    return evolve(journal.stack_run("run", call, requested, STARTED), **changes)


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Turns as they might have happened: each asks for calls, and takes some that are open."""
    open_calls: list[int] = []
    sequence = 0
    turns: list[tuple[list[int], list[int]]] = []
    for _ in range(draw(st.integers(1, 8))):
        some = st.lists(st.sampled_from(open_calls), unique=True) if open_calls else st.just([])
        delivered: list[int] = draw(some)
        if turns and not delivered:
            continue  # without a delivery there is no turn but the first
        requested = list(range(sequence, sequence + draw(st.integers(0, 3))))
        sequence += len(requested)
        open_calls = [call for call in open_calls if call not in delivered] + requested
        turns.append((delivered, requested))
    calls: dict[int, StackRun] = {}
    for number, (delivered, requested) in enumerate(turns, 1):
        for one in requested:
            calls[one] = recorded(a_call(one), number)
        for order, one in enumerate(delivered):
            calls[one] = evolve(
                calls[one],
                status=CallStatus.COMPLETED,
                result=one,
                delivered_turn=number,
                delivered_order=order,
                delivered_at=f"clock {number}",
            )
    return [
        Entry(
            number,
            f"clock {number}" if delivered else STARTED,
            tuple(calls[one] for one in delivered),
            tuple(calls[one] for one in requested),
        )
        for number, (delivered, requested) in enumerate(turns, 1)
        if delivered or requested
    ]


@given(histories(), st.randoms(), st.integers(0, 9))
def test_calls_in_any_order_make_the_turns_that_happened(
    history: list[Entry], shuffle: Any, after: int
) -> None:
    calls = [call for entry in history for call in entry.requested]
    calls = [
        next((c for e in history for c in e.delivered if c.id == call.id), call) for call in calls
    ]
    shuffle.shuffle(calls)
    assert journal.entries(calls, STARTED) == history
    assert journal.entries(calls, STARTED, after) == [e for e in history if e.turn > after]


def test_outcomes_come_in_the_order_in_which_they_were_delivered() -> None:
    failure = Failure("OSError", "no")
    late = recorded(a_call(1), result="b", delivered_turn=2, delivered_order=0, delivered_at="t")
    early = recorded(a_call(0), error=failure, delivered_turn=2, delivered_order=1)
    first, second = journal.entries([early, late], STARTED)
    assert (first.turn, first.clock, first.outcomes) == (1, STARTED, [])
    assert (second.turn, second.clock) == (2, "t")
    assert second.outcomes == [(1, Outcome("b")), (0, Outcome(None, failure))]


def test_a_run_without_calls_has_an_empty_journal() -> None:
    assert journal.entries([], STARTED) == []


def test_the_record_of_a_new_call() -> None:
    call = a_call(3, line=7, a=1)
    assert recorded(call, 2) == StackRun(
        id="run:3",
        task_run_id="run",
        operation="api.get",
        status=CallStatus.PENDING,
        input={"a": 1},
        created_at=STARTED,
        updated_at=STARTED,
        sequence=3,
        fingerprint=journal.fingerprint("api.get", {"a": 1}),
        where=call.where,
        requested_turn=2,
    )


@pytest.mark.parametrize(
    ("operation", "arguments", "expected"),
    [
        ("http.fetch", {"url": "https://example.com/"}, "3f15566a9277e16a"),
        ("clock.sleep", {"$call": [[1.5], {}]}, "00035b09c6afb91e"),
        ("api.get", {"a": {"$set": [1, 2]}, "ü": None}, "31974f9775035e15"),
    ],
)
def test_fingerprints_stay_the_same_in_later_versions(
    operation: str, arguments: Any, expected: str
) -> None:
    """Pinned: a run that an older version started must go on."""
    assert journal.fingerprint(operation, arguments) == expected


def test_a_fingerprint_is_of_operation_and_arguments() -> None:
    different = [("a.b", {}), ("a.c", {}), ("a.b", {"x": 1}), ("a.b", {"x": 1.0})]
    different += [("a.b", {"x": True}), ("a.b", {"x": "1"}), ("a.b", [])]
    assert len({journal.fingerprint(*pair) for pair in different}) == len(different)


def entry(*calls: Call, delivered: tuple[StackRun, ...] = ()) -> Entry:
    return Entry(1, STARTED, delivered, tuple(recorded(call) for call in calls))


def turn(*calls: Call) -> Turn:
    return Turn(Waiting(tuple(call.sequence for call in calls)), calls)


def difference(expected: Entry, actual: Turn) -> list[str]:
    with pytest.raises(NonDeterminismError) as caught:
        journal.check_turn(expected, actual)
    return str(caught.value).splitlines()


def test_the_same_calls_pass_wherever_they_stand_in_the_source() -> None:
    calls = [a_call(0, line=1, a=1), a_call(1, line=2)]
    moved = [a_call(0, line=11, a=1), a_call(1)]
    journal.check_turn(entry(*calls), turn(*moved))
    journal.check_turn(entry(), turn())


def test_another_call_is_shown_beside_the_expected_one() -> None:
    assert difference(entry(a_call(4, line=3, a=1)), turn(a_call(4, "put", line=5, b="x"))) == [
        "call 4 differs: the journal does not fit this source",
        '  expected  api.get {"a":1}  at code.py:3  x = await services.api.get(...)',
        '  actual    api.put {"b":"x"}  at code.py:5  x = await services.api.put(...)',
    ]


def test_a_call_that_is_missing() -> None:
    calls = a_call(0), a_call(1, line=2)
    lines = difference(entry(*calls), turn(calls[0]))
    assert lines[0].startswith("call 1 differs")
    assert lines[1].startswith("  expected  api.get {}  at code.py:2")
    assert lines[2:] == ["  actual    (no call)"]


def test_a_call_too_many() -> None:
    calls = a_call(0), a_call(1)
    assert difference(entry(calls[0]), turn(*calls)) == [
        "call 1 differs: the journal does not fit this source",
        "  expected  (no call)",
        "  actual    api.get {}",
    ]


def test_the_first_of_several_differences_is_shown() -> None:
    lines = difference(entry(a_call(0), a_call(1), a_call(2)), turn(a_call(0), a_call(1, a=1)))
    assert lines[0].startswith("call 1 differs")


def test_the_same_call_of_another_number() -> None:
    lines = difference(entry(a_call(0)), turn(a_call(1)))
    assert lines[-1] == "  first difference: the number is 0, actual 1"


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        ({"a": 1}, {"a": 2}, "a is 1, actual 2"),
        ({"a": {"b": [1, {"c": "x"}]}}, {"a": {"b": [1, {"c": "y"}]}}, 'a.b[1].c is "x", actual'),
        ({"a": 1}, {"a": 1, "b": 2}, "b is only actual"),
        ({"a": {"b": 1, "c": 1}}, {"a": {"b": 1}}, "a.c is only expected"),
        ({"a": [1, 2]}, {"a": [1]}, "a has 2 items, actual 1"),
        ({"a": [1]}, {"a": {"b": 1}}, 'a is [1], actual {"b":1}'),
        ({"a": 1}, {"a": 1.0}, "a is 1, actual 1.0"),
        ({"a": [0]}, {"a": [False]}, "a[0] is 0, actual false"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "the value has its keys in another order"),
        ({"x": {"a": 1, "b": 2}}, {"x": {"b": 2, "a": 1}}, "x has its keys in another order"),
        ({"$call": [[1], {}]}, {"$call": [[2], {}]}, "$call[0][0] is 1, actual 2"),
        ([{"a": 1}], [{"b": 1}], "[0].a is only expected"),
        ([1], [1, 2], "the value has 1 items, actual 2"),
        (1, None, "the value is 1, actual null"),
        ({"a": "x" * 99}, {"a": "y"}, f'a is "{"x" * 56}..., actual "y"'),
    ],
)
def test_the_first_difference_of_the_arguments_is_named(
    expected: Any, actual: Any, words: str
) -> None:
    calls = [Call(0, "api", "get", arguments) for arguments in (expected, actual)]
    last = difference(entry(calls[0]), turn(calls[1]))[-1]
    assert last.startswith(f"  first difference: {words}")


KEYS = st.text("ab", min_size=1)
TREES = st.recursive(
    st.integers() | st.text("ab"), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)


@given(TREES, st.data())
def test_every_difference_is_named_in_a_few_lines(expected: Any, data: st.DataObject) -> None:
    actual = data.draw(st.just([expected]) | st.just({"a": expected}) | st.integers())
    calls = [Call(0, "api", "get", arguments) for arguments in (expected, actual)]
    if journal.fingerprint("", expected) != journal.fingerprint("", actual):
        lines = difference(entry(calls[0]), turn(calls[1]))
        assert len(lines) == 4
        assert re.fullmatch(r"  first difference: \S.* (actual|expected)\b.*", lines[3])


def test_long_arguments_are_cut() -> None:
    lines = difference(entry(a_call(a="x" * 5000)), turn(a_call(a="y")))
    assert len(lines[1]) < 250
    assert lines[1].endswith("...")


def test_an_outcome_can_only_go_where_it_is_waited_for() -> None:
    settled = recorded(a_call(2, line=9), delivered_turn=2, delivered_order=0)
    delivery = entry(delivered=(settled,))
    journal.check_delivery(delivery, [1, 2, 3])
    journal.check_delivery(entry(), [])
    with pytest.raises(NonDeterminismError) as caught:
        journal.check_delivery(delivery, [1, 3])
    assert str(caught.value).splitlines() == [
        "call 2 differs: the journal does not fit this source",
        "  expected  api.get {}  at code.py:9  x = await services.api.get(...)",
        "  actual    (no call)",
    ]


def test_deliverable_are_settled_calls_that_are_waited_for_in_their_given_order() -> None:
    calls = [recorded(a_call(n), status=status) for n, status in enumerate(CallStatus)]
    calls.reverse()
    assert [call.sequence for call in journal.deliverable(calls, range(9))] == [4, 3, 2]
    assert [call.sequence for call in journal.deliverable(calls, [0, 2, 4])] == [4, 2]
    assert journal.deliverable(calls, []) == []
