"""Graphs that somebody wrote to do harm: refused, or stopped, with a message."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequential.core.statechart.machine import Machine
from sequential.core.statechart.problems import GraphError
from support.statecharts import Graph, Run, assign, flat, problems, when


def nested(depth: int) -> Graph:
    graph: Graph = {}
    for _ in range(depth):
        graph = {"initial": "a", "states": {"a": graph}}
    return graph


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_states_may_be_nested_fifty_deep() -> None:
    assert problems(nested(50)) == []
    assert Run(nested(50)).status == "active"

    (problem,) = problems(nested(51))
    assert problem.endswith("states are nested more than 50 deep")


@pytest.mark.parametrize(
    "graph",
    [nested(1_000), nested(100_000), {"meta": deep(1_000)}, {"context": {"a": deep(100_000)}}],
)
def test_json_that_is_nested_too_deeply_is_refused(graph: Graph) -> None:
    assert problems(graph) == ["$: the JSON is nested more than 150 deep"]


def test_deep_json_that_is_allowed_can_be_used() -> None:
    guard: Graph = when("true")
    for _ in range(45):
        guard = {"type": "not", "params": {"guard": guard}}
    graph = flat(a={"on": {"GO": {"target": "b", "guard": guard}}}, b={})

    assert Run({**graph, "context": {"a": deep(140)}}).send("GO").value == "a"


def ring(count: int) -> Graph:
    states = {f"s{n}": {"on": {"GO": f"s{(n + 1) % count}"}} for n in range(count)}
    return {"initial": "s0", "states": states}


def test_thousands_of_states_can_be_used_ten_thousand_are_refused() -> None:
    assert Run(ring(4_999)).send("GO", "GO").value == "s2"
    assert "$: more than 5000 states: split the task" in problems(ring(10_000))


def test_a_thousand_regions_may_change_at_once() -> None:
    region = {"initial": "a", "states": {"a": {"on": {"GO": "b"}}, "b": {"on": {"GO": "a"}}}}
    graph = {"type": "parallel", "states": {f"r{n}": region for n in range(1_000)}}

    assert set(Run(graph).send("GO").value.values()) == {"b"}


def test_many_problems_are_cut_off() -> None:
    graph = flat(a={"on": {f"E{n}": f"nowhere{n}" for n in range(5_000)}})

    assert len(problems(graph)) == 100


def test_problems_with_long_names_are_short() -> None:
    (problem,) = problems(flat(a={"on": {"GO": "x" * 100_000}}))

    assert len(problem) < 300


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**63, b"x", (1,), {1: 2}, {"a": {None: 1}}, object()]
)
def test_what_is_not_json_is_refused(value: Any) -> None:
    (problem,) = problems({**flat("a"), "context": {"a": value}})

    assert problem.startswith("$: ")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (assign(n="context.n * context.n"), "the number is too large"),
        (assign(a="[context.a, context.a]"), "more than 100000 items"),
        ({"type": "assign", "params": {"a": {"x": when("context.a"), "y": when("context.a")}}},
         "more than 100000 items"),
        (assign(t="context.t + context.t"), "longer than 1000000 characters"),
        ({"type": "assign", "params": when("{str(context.n): context.a}")}, "the number is too"),
        ({"type": "log", "params": {"all": [when("context.rows"), when("context.n")]}},
         "more than 1000000 items were put together for one event"),
    ],
)  # fmt: skip
def test_what_grows_in_a_cycle_is_stopped(actions: Graph, message: str) -> None:
    grow = [actions] if actions["type"] == "log" else [actions, assign(n="context.n * 2")]
    graph = flat(a={"on": {"GO": "b"}}, b={"always": {"target": "c", "actions": grow}},
                 c={"always": "b"})  # fmt: skip
    graph["context"] = {"n": 2, "a": [1], "t": "x", "rows": [0] * 50_000}

    run = Run(graph).send("GO")

    assert run.status == "error"
    assert message in run.error["message"]
    assert len(json.dumps(run.snapshot)) < 200_000


def test_entering_many_states_in_a_cycle_is_stopped() -> None:
    regions = {f"r{n}": {"initial": "a", "states": {"a": {}}} for n in range(200)}
    p = {"type": "parallel", "states": regions, "always": {"target": "q", "reenter": True}}
    run = Run(flat(p=p, q={"always": "p"}))

    assert "more than 50000 states were entered for one event" in run.error["message"]
    assert len(json.dumps(run.snapshot)) < 10_000


names = st.text(min_size=1, max_size=12).filter(lambda one: "." not in one and one[0] != "#")


@given(st.lists(names, min_size=2, max_size=4, unique=True), st.text(min_size=1, max_size=12))
@settings(deadline=None)
def test_states_and_events_may_have_names_of_any_characters(states: list[str], event: str) -> None:
    if event == "*" or "*" in event or event.startswith("xstate."):
        event = "GO"
    pairs = zip(states, states[1:] + states[:1], strict=True)
    graph = {
        "initial": states[0],
        "states": {
            one: {"on": {event: {"target": [f"#(machine).{next_}"]}}} for one, next_ in pairs
        },
    }

    run = Run(graph).send(event)

    assert run.value == states[1]
    assert run.machine.events(run.snapshot) == [event]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "id type initial states on after always invoke entry exit onDone onError onSuccess "
                "onFail history target output guard actions reenter src params event delay $expr a "
                "b * 10 context tags retry timeoutMs guards state".split()
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(json_values, st.booleans())
@settings(deadline=None)
def test_any_json_is_read_or_refused(graph: Any, has_code: bool) -> None:
    try:
        machine = Machine(graph, ("a",) if has_code else None)
    except GraphError as error:
        assert error.problems  # noqa: PT017
        return
    snapshot, _ = machine.start(None, 0)
    assert snapshot["status"] in ("active", "done", "error")
    json.dumps(snapshot, allow_nan=False)
