"""Our interpreter does what XState did when it was recorded; needs no Node."""

import pytest

from statechart_oracle import features
from statechart_oracle.cases import Case, Walked
from statechart_oracle.comparison import differences, walked_by_us
from statechart_oracle.golden import FILE, Recorded, recorded
from statechart_oracle.walk import Walk

RECORDED = {one.case.name: one for one in recorded()}
BY_HAND = features.cases()
RANDOM = [one for name, one in RECORDED.items() if name.startswith("seed ")]


def walked(case: Case) -> Walked:
    walk = Walk(case.graph, anew=True)
    return [walk.start(case.input), *map(walk.take, case.steps)]


@pytest.mark.parametrize("case", BY_HAND, ids=[case.name for case in BY_HAND])
def test_a_graph_written_by_hand(case: Case) -> None:
    assert differences([case], [walked(case)], [RECORDED[case.name].seen]) == []


def test_random_graphs_through_three_processes() -> None:
    cases = [one.case for one in RANDOM]

    found = differences(cases, walked_by_us(cases), [one.seen for one in RANDOM])

    smallest = min(found, key=lambda one: one.case.size, default=None)
    assert smallest is None, f"{len(found)} of {len(cases)} differ, of which {smallest}"


def test_the_recording_is_of_the_graphs_that_are_here_and_small() -> None:
    assert [RECORDED[case.name].case for case in BY_HAND] == BY_HAND
    assert len(RANDOM) == 500
    assert FILE.stat().st_size < 300 * 1024


def test_the_recording_has_walks_of_every_kind() -> None:
    ends = [one.seen[-1]["status"] for one in RANDOM]
    changes = sum(changed(one) for one in RANDOM)

    assert {ends.count(kind) > 20 for kind in ("active", "done", "error")} == {True}
    assert changes > 2000


def changed(one: Recorded) -> int:
    return sum(before != after for before, after in zip(one.seen, one.seen[1:], strict=False))
