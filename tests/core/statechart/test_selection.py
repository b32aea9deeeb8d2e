"""Which transitions an event takes: the innermost, the most exact, the first that may."""

from typing import Any

import pytest

from support.statecharts import Run, assign, compound, flat, when


def test_an_event_leads_from_one_state_to_the_next() -> None:
    run = Run(flat(a={"on": {"GO": "b"}}, b={"on": {"GO": "a"}}))

    assert run.value == "a"
    assert run.send("GO").value == "b"
    assert run.send("GO").value == "a"


def test_children_are_asked_before_their_parent() -> None:
    inner = compound(a={"on": {"GO": "b"}}, b={})
    graph = flat(outer={**inner, "on": {"GO": "away"}}, away={})

    run = Run(graph).send("GO")

    assert run.value == {"outer": "b"}
    assert run.send("GO").value == "away"  # b has no use for it, so its parent is asked


def test_a_parallel_state_is_asked_only_if_no_region_took_the_event() -> None:
    regions = {
        "left": compound(a={"on": {"GO": "b"}}, b={}),
        "right": compound("c"),
    }
    graph = {"id": "m", "type": "parallel", "states": regions, "on": {"GO": {"actions": "parent"}}}

    run = Run(graph).send("GO")
    assert run.value == {"left": "b", "right": "c"}
    assert run.did == []  # trap 1: the parent's must not fire beside a child's

    assert run.send("GO").did == ["parent"]


def test_every_region_takes_the_event() -> None:
    region = compound(a={"on": {"GO": "b"}}, b={})
    run = Run({"id": "m", "type": "parallel", "states": {"x": region, "y": region}})

    assert run.send("GO").value == {"x": "b", "y": "b"}


def test_of_a_list_the_first_whose_guard_holds_is_taken() -> None:
    ways = [
        {"target": "big", "guard": when("event.n > 100")},
        {"target": "middle", "guard": when("event.n > 10")},
        "small",
    ]
    graph = flat("big", "middle", "small", a={"on": {"GO": ways}})
    graph["initial"] = "a"

    assert Run(graph).send("GO", n=1000).value == "big"
    assert Run(graph).send("GO", n=50).value == "middle"
    assert Run(graph).send("GO", n=1).value == "small"


@pytest.mark.parametrize(
    ("event", "taken"),
    [
        ("order.paid", "exact"),
        ("order.paid.twice", "order.*"),
        ("order.sent", "order.*"),
        ("order", "order.*"),
        ("orders", "*"),
        ("order.item.gone", "order.item.*"),
        ("other", "*"),
    ],
)
def test_an_exact_name_goes_before_wildcards_and_long_ones_before_short(
    event: str, taken: str
) -> None:
    names = {"order.paid": "exact", "*": "*", "order.*": "order.*", "order.item.*": "order.item.*"}
    graph = flat(a={"on": {name: {"actions": action} for name, action in names.items()}})

    assert Run(graph).send(event).did == [taken]


def test_names_match_exactly_not_by_their_beginning() -> None:
    # Trap 9: SCXML would take `order.paid` for `order`.
    run = Run(flat(a={"on": {"order": "b"}}, b={}))

    assert run.send("order.paid").value == "a"


def test_a_wildcard_whose_guard_fails_lets_the_next_one_try() -> None:
    on = {"a.*": {"actions": "long", "guard": when("event.ok")}, "*": {"actions": "short"}}

    assert Run(flat(a={"on": on})).send("a.b", ok=True).did == ["long"]
    assert Run(flat(a={"on": on})).send("a.b").did == ["short"]


def test_a_forbidden_event_does_not_reach_the_ancestors() -> None:
    inner = compound(a={"on": {"GO": {}}}, b={})
    run = Run(flat(outer={**inner, "on": {"GO": "away"}}, away={}))

    before = run.snapshot
    assert run.send("GO").snapshot == before
    assert run.effects == []


def test_an_event_nobody_takes_changes_nothing() -> None:
    run = Run(flat(a={"on": {"GO": "b"}}, b={}))

    snapshot, effects = run.machine.send(run.snapshot, {"type": "WHAT"}, 5)

    assert snapshot is run.snapshot
    assert effects == []


def test_of_conflicting_transitions_the_inner_source_wins() -> None:
    # Both lead out of the parallel state: from the region `x` itself, and from inside `y`.
    regions = {
        "x": {**compound("x1"), "on": {"GO": "#far"}},
        "y": compound(y1={"on": {"GO": "#near"}}),
    }
    graph = flat(p={"type": "parallel", "states": regions}, far={"id": "far"}, near={"id": "near"})

    # Neither source lies in the other: the first in document order wins.
    assert Run(graph).send("GO").value == "far"


def test_of_always_transitions_that_conflict_the_inner_one_wins() -> None:
    ready = when("context.ready")
    regions = {
        "x": compound(x1={"type": "parallel", "always": {"target": "#far", "guard": ready},
                          "states": {"u": compound("u1"), "v": compound(
                              v1={"always": {"target": "v2", "guard": ready}}, v2={})}}),
    }  # fmt: skip
    graph: dict[str, Any] = {
        **flat(p={"type": "parallel", "states": regions}, far={"id": "far"}),
        "context": {"ready": False},
        "on": {"READY": {"actions": assign(ready="true")}},
    }

    run = Run(graph).send("READY")

    # v1 is inside x1: v1 -> v2 wins the first microstep, then x1 leaves.
    assert [taken.source for taken in run.step.taken] == ["m", "m.p.x.x1.v.v1", "m.p.x.x1"]
    assert run.value == "far"


def test_events_are_the_names_that_somebody_listens_to() -> None:
    inner = compound(a={"on": {"NEXT": "b", "HIDDEN": {}}}, b={})
    outer = {**inner, "on": {"HIDDEN": "away", "LEAVE": "away", "data.*": {"actions": "x"}}}
    run = Run(flat(outer=outer, away={"type": "final"}))

    assert run.machine.events(run.snapshot) == ["LEAVE", "NEXT", "data.*"]
    assert run.machine.events(run.send("NEXT").snapshot) == ["HIDDEN", "LEAVE", "data.*"]
    assert run.machine.events(run.send("LEAVE").snapshot) == []
