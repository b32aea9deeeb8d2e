"""Our interpreter and XState take the same walks; `make oracle` takes many more."""

import pytest

from statechart_oracle import features, generator
from statechart_oracle.__main__ import compare
from statechart_oracle.cases import Case, Step, Walked
from statechart_oracle.comparison import differences, walked_by_us
from statechart_oracle.golden import recorded
from statechart_oracle.shrinking import shrunk
from statechart_oracle.xstate import package, walked_by_xstate

MACHINES = 300


CASES = [generator.case(seed) for seed in range(MACHINES)]


@pytest.fixture(scope="module", autouse=True)
def xstate() -> None:
    try:
        package()
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ours() -> list[Walked]:
    return walked_by_us(CASES)


def test_random_machines(ours: list[Walked]) -> None:
    found = differences(CASES, ours, walked_by_xstate(CASES))

    if found:
        pytest.fail(str(shrunk(min(found, key=lambda one: one.case.size), compare)))


def test_what_is_recorded_is_what_it_does() -> None:
    names = {case.name for case in features.cases()}
    kept = {one.case.name: one.seen for one in recorded() if one.case.name in names}
    cases = features.cases()

    assert dict(zip(kept, walked_by_xstate(cases), strict=True)) == kept


def test_its_own_order_makes_a_difference_in_few_machines(ours: list[Walked]) -> None:
    found = differences(CASES, ours, walked_by_xstate(CASES, entered_order=True))

    assert len(found) < MACHINES / 50


def test_a_difference_is_told_with_the_smallest_graph_that_shows_it() -> None:
    again = {"type": "raise", "params": {"event": {"type": "GO"}, "delay": 10, "id": "same"}}
    count = {"type": "assign", "params": {"n": {"$expr": "context.n + 1"}}}
    says = {"type": "log", "params": {"at": "exit"}}
    a = {"entry": [again, again], "exit": [says], "on": {"GO": {"actions": [count]}, "X": "b"}}
    graph = {"id": "m", "context": {"n": 0}, "initial": "a", "states": {"a": a, "b": {}}}
    steps: list[Step] = [{"send": {"type": "Y"}}, {"advance": 10}, {"send": {"type": "X"}}]

    (found,) = compare([Case("raised twice", graph, steps)])
    small = shrunk(found, compare)

    assert small.case.steps == [{"advance": 10}]
    assert small.case.graph["states"] == {
        "a": {"entry": [again, again], "on": {"GO": {"actions": [count]}}}
    }
    assert 'context, ours:   {"n": 1}\n  context, XState: {"n": 2}' in str(small)
