"""Guards, actions and delays under a name do what they do where they are written out."""

from typing import Any

import pytest

from sequential.core.statechart.bounds import MAX_NAMED
from sequential.core.statechart.machine import Machine
from sequential.core.statechart.problems import GraphError
from statechart_oracle import generator
from statechart_oracle.cases import Case, Observation
from statechart_oracle.walk import Walk
from support.statecharts import Graph, Run, flat, problems, when

COUNT = {"type": "assign", "params": {"n": when("context.n + 1")}}
NAMED: Graph = {
    "context": {"n": 0, "patience": 50},
    "implementations": {
        "guards": {
            "//": "a remark",
            "isMany": when("context.n >= 2"),
            "isQuiet": {"type": "stateIn", "params": {"state": "#m.a"}},
        },
        "actions": {"count": COUNT, "countTwice": [COUNT, {"type": "log", "params": 1}, COUNT]},
        "delays": {"soon": 100, "later": when("context.patience * event.times")},
    },
    **flat(
        a={
            "on": {
                "HIT": {"actions": "count"},
                "TWICE": {"actions": ["countTwice", {"type": "count", "description": "again"}]},
                "GO": {
                    "target": "b",
                    "guard": {"type": "and", "params": {"guards": ["isMany", "isQuiet"]}},
                },
                "WAIT": "c",
            }
        },
        b={"after": {"soon": "a"}},
        c={
            "entry": {"type": "raise", "params": {"event": {"type": "BACK"}, "delay": "soon"}},
            "after": {"later": "b"},
            "on": {"BACK": "a"},
        },
    ),
}


def test_a_guard_holds_under_its_name() -> None:
    run = Run(NAMED, ())
    assert run.send("HIT", "GO").value == "a"
    assert run.send("HIT", "GO").value == "b"


def test_a_name_stands_for_one_or_several_actions() -> None:
    run = Run(NAMED, ()).send("TWICE")
    assert run.context["n"] == 3
    assert run.did == [1]


def test_a_time_is_a_number_or_computed_when_its_state_is_entered() -> None:
    run = Run(NAMED, ()).send("HIT", "HIT", "GO")
    assert run.wait(99).value == "b"
    assert run.wait(1).value == "a"
    run.send("WAIT", times=1)
    assert [timer["due"] for timer in run.snapshot["timers"]] == [200, 150]
    assert run.wait(50).value == "b"


@pytest.mark.parametrize("times", [None, "x", -1])
def test_what_is_no_time_ends_the_run_and_says_where(times: Any) -> None:
    run = Run(NAMED, ()).send("WAIT", times=times)
    assert run.status == "error"
    assert run.error["message"].startswith("$.states.c: ")


@pytest.mark.parametrize(
    ("implementations", "expected"),
    [
        ([], '$.implementations: must be an object of "guards", "actions" and "delays"'),
        ({"guard": {}}, '$.implementations: key "guard": unknown key (did you mean "guards"?)'),
        ({"guards": []}, "$.implementations.guards: must be an object by name"),
        (
            {"guards": {"and": when("1")}},
            '$.implementations.guards["and"]: "and" cannot be a name here: take another',
        ),
        (
            {"actions": {"log": "emit"}},
            '$.implementations.actions["log"]: "log" cannot be a name here: take another',
        ),
        (
            {"guards": {"is": None}},
            '$.implementations.guards["is"]: says nothing: write what the name stands for',
        ),
        (
            {"guards": {"is": when("(")}},
            "$.implementations.guards[\"is\"]: '(': '(' was never closed",
        ),
        (
            {"delays": {"100": 5}},
            (
                '$.implementations.delays["100"]: is a number of milliseconds by itself: take '
                "another name"
            ),
        ),
        (
            {"delays": {"soon": "100"}},
            '$.implementations.delays["soon"]: must be a number of milliseconds, 0 or more',
        ),
    ],
)  # fmt: skip
def test_problems_of_names(implementations: Any, expected: str) -> None:
    graph = {"implementations": implementations, **flat("a")}
    assert problems(graph) == [expected]


def test_names_do_not_name_each_other() -> None:
    graph = {
        "implementations": {
            "guards": {"a": {"type": "not", "params": {"guard": "b"}}, "b": when("true")},
            "actions": {"twice": ["bump", "bump"], "bump": COUNT},
        },
        **flat("a"),
    }
    found = problems(graph)
    assert [one.partition("; ")[0] for one in found] == [
        '$.implementations.guards["a"].params.guard: no guard named "b"',
        '$.implementations.actions["twice"][0]: no action named "bump"',
        '$.implementations.actions["twice"][1]: no action named "bump"',
    ]


def test_a_name_that_is_meant_is_found() -> None:
    graph = NAMED | flat(
        a={"on": {"GO": {"guard": "isMny"}}, "entry": "cout", "after": {"son": "a"}}
    )
    assert [one.partition(";")[0] for one in problems(graph)] == [
        '$.states.a.entry: no action named "cout" (did you mean "count"?)',
        '$.states.a.on["GO"].guard: no guard named "isMny" (did you mean "isMany"?)',
        '$.states.a.after["son"]: no delay named "son" (did you mean "soon"?)',
    ]


def test_what_has_a_name_takes_no_params() -> None:
    given = {"params": {"n": 2}}
    graph = NAMED | flat(
        a={
            "on": {"GO": {"guard": {"type": "isMany", **given}}},
            "entry": {"type": "count", **given},
        }
    )
    assert len(found := problems(graph)) == 2
    assert all('takes no "params"' in one for one in found)


def test_names_do_not_make_a_small_graph_large() -> None:
    many = {"implementations": {"actions": {"x": ["log"] * 1000}}}
    graph = many | flat(a={"entry": ["x"] * (MAX_NAMED // 1000 + 1)})
    with pytest.raises(GraphError, match="names stand for more than"):
        Machine(graph, ())


def renamed(part: Any, names: dict[str, dict[str, Any]]) -> Any:
    """The graph with a name in place of each condition, action and time."""
    if isinstance(part, list):
        return [renamed(one, names) for one in part]
    if not isinstance(part, dict):
        return part
    changed = {key: renamed(one, names) for key, one in part.items()}
    if isinstance(part.get("guard"), dict) and part["guard"].keys() == {"$expr"}:
        changed["guard"] = name = f"guard {len(names['guards'])}"
        names["guards"][name] = part["guard"]
    for word in ("entry", "exit", "actions"):
        if isinstance(part.get(word), list | dict) and part[word]:
            changed[word] = name = f"action {len(names['actions'])}"
            names["actions"][name] = part[word]
    return changed


def observed(graph: Graph, case: Case) -> list[Observation]:
    walk = Walk(graph)
    return [walk.start(case.input), *map(walk.take, case.steps)]


@pytest.mark.parametrize("number", range(60))
def test_names_change_nothing_in_what_random_graphs_do(number: int) -> None:
    case = generator.case(number)
    names: dict[str, dict[str, Any]] = {"guards": {}, "actions": {}}
    graph = {**renamed(case.graph, names), "implementations": names}
    assert names["actions"]
    assert observed(graph, case) == observed(case.graph, case)
