"""The simple graph.json: a function for each state, and where its outcomes lead."""

from typing import Any

import pytest

from sequential.core.statechart.machine import Machine
from sequential.core.statechart.problems import GraphError
from support.statecharts import Graph, Run, compound, flat, problems, when

END: Graph = {"type": "final"}
GOOD, BAD, REPORTED = {"success": True}, {"success": False}, {"status": "error"}


def simple(**a: Any) -> Graph:
    """State `a` as given; it may lead to `good`, `bad`, `rest` and `sorry`, which end the run."""
    return flat(a=a, good=END, bad=END, rest=END, sorry=END)


@pytest.mark.parametrize(
    ("words", "good", "bad", "reported", "raised"),
    [
        ({"onDone": "rest"}, "rest", "rest", "rest", None),
        ({"onDone": "rest", "onError": "sorry"}, "rest", "rest", "sorry", "sorry"),
        ({"onSuccess": "good", "onFail": "bad"}, "good", "bad", "bad", "bad"),
        ({"onDone": "rest", "onFail": "bad"}, "rest", "bad", "bad", "bad"),
        (
            {"onSuccess": "good", "onFail": "bad", "onError": "sorry"},
            *("good", "bad", "bad", "sorry"),
        ),
        ({"onSuccess": "good", "onDone": "rest"}, "good", "rest", "rest", None),
        (
            {"onSuccess": "good", "onDone": "rest", "onError": "sorry"},
            *("good", "rest", "sorry", "sorry"),
        ),
        ({"onSuccess": "good", "onError": "sorry"}, "good", "sorry", "sorry", "sorry"),
    ],
)
def test_where_the_outcomes_of_a_function_lead(
    words: Graph, good: str, bad: str, reported: str, raised: str | None
) -> None:
    graph = simple(**words)

    assert Run(graph, ("a",)).done("a", GOOD).value == good
    assert Run(graph, ("a",)).done("a", "any text").value == good
    assert Run(graph, ("a",)).done("a", BAD).value == bad
    assert Run(graph, ("a",)).done("a", REPORTED).value == reported
    assert Run(graph, ("a",)).done("a", {"status": "failed"}).value in (bad, reported)

    run = Run(graph, ("a",)).failed("a")
    if raised is None:  # without a place to go the run fails with the error
        assert (run.status, run.error) == ("error", {"name": "ValueError", "message": "no"})
    else:
        assert run.value == raised


def test_results_go_from_function_to_function() -> None:
    graph = flat(a={"onDone": "b"}, b={"onDone": "end"}, end=END)
    run = Run(graph, ("a", "b"), input={"user": 1})

    assert run.invokes[0].input == {"user": 1}  # the first one gets the input of the run
    assert run.done("a", [1, 2]).invokes[0].input == [1, 2]
    assert run.machine.handler_context(run.snapshot, run.invokes[0]) == {
        "state": "b",
        "input": {"user": 1},
        "results": {"a": [1, 2]},
    }

    run.done("b", "report")
    assert (run.status, run.output) == ("done", "report")
    assert run.context == {"data": "report", "results": {"a": [1, 2], "b": "report"}}


def test_the_error_handler_gets_the_error_and_its_result_is_the_output() -> None:
    graph = flat(a={"onDone": "end", "onError": "errorHandler"}, errorHandler=END, end=END)
    run = Run(graph, ("a", "errorHandler")).failed("a")

    assert run.invokes[0].input == {"name": "ValueError", "message": "no"}
    assert run.done("errorHandler", {"error": "no"}).status == "done"
    assert run.output == {"error": "no"}


def test_a_large_result_is_passed_on() -> None:
    graph = flat(a={"onDone": "b"}, b={"onDone": "end"}, end=END)
    rows = list(range(200_000))

    assert Run(graph, ("a", "b")).done("a", rows).invokes[0].input == rows


def test_a_state_with_only_ways_out_waits() -> None:
    waiting = {"on": {"APPROVE": "end"}, "after": {"1000": "late"}}
    run = Run(flat(a={"onDone": "wait"}, wait=waiting, late=END, end=END), ("a",)).done("a", 7)

    assert (run.value, run.in_flight) == ("wait", [])
    assert run.send("APPROVE").output == 7


def test_a_function_and_ways_out_run_beside_each_other() -> None:
    a = {"on": {"STOP": "end"}}
    graph = flat(a=a, end=END)

    stopped = Run(graph, ("a",)).send("STOP")
    assert (stopped.status, stopped.in_flight) == ("done", [])

    waiting = Run(graph, ("a",)).done("a", 7)
    assert (waiting.value, waiting.in_flight) == ("a", [])
    assert waiting.send("STOP").output == 7


def test_guards_of_the_author_are_added_to_ours() -> None:
    ways = [{"target": "good", "guard": when("event.output.n > 1"), "actions": "log"}, "rest"]
    graph = simple(onDone=ways, onFail="bad")

    assert Run(graph, ("a",)).done("a", {"n": 2}).value == "good"
    assert Run(graph, ("a",)).done("a", {"n": 1}).value == "rest"

    run = Run(simple(onSuccess=ways, onDone="bad"), ("a",))
    assert run.done("a", {"n": 2, "success": False}).value == "bad"
    assert Run(simple(onSuccess=ways, onDone="bad"), ("a",)).done("a", {"n": 2}).did == [{}]


def test_a_failure_that_the_author_s_guard_does_not_want_goes_to_the_rest() -> None:
    graph = simple(onFail={"target": "bad", "guard": when("event.output.n > 1")}, onDone="rest")

    assert Run(graph, ("a",)).done("a", {**BAD, "n": 2}).value == "bad"
    assert Run(graph, ("a",)).done("a", {**BAD, "n": 1}).value == "rest"
    assert Run(graph, ("a",)).done("a", {**GOOD, "n": 2}).value == "rest"


def test_both_forms_mix_and_nest() -> None:
    regions = {
        "x": compound(a={"onDone": "end"}, end=END),
        "y": compound(b={"invoke": {"src": "other", "id": "b", "onDone": "end"}}, end=END),
    }
    graph = flat(p={"type": "parallel", "states": regions, "onDone": "end"}, end=END)
    run = Run(graph, ("a", "other"))

    assert run.in_flight == ["p.x.a", "b"]
    run.done("p.x.a", 1).done("b", 2)
    assert (run.status, run.output) == ("done", 1)
    assert run.context["results"] == {"p.x.a": 1}


def test_a_general_graph_is_left_as_it_is() -> None:
    graph = flat(a={"invoke": {"src": "work", "onDone": "end"}}, end=END)

    machine = Machine(graph, ("work",))

    assert not machine.is_simple
    assert machine.start(5, 0)[0]["context"] == {}


@pytest.mark.parametrize(
    ("words", "note"),
    [
        ({"onDone": "rest", "type": "final"}, 'has a way out, so "type": "final" is ignored'),
        ({}, 'has no way out, so it ends the task: write "type": "final"'),
        ({"type": "normal"}, 'has no way out, so it ends the task: write "type": "final"'),
    ],
)
def test_what_the_original_left_open_is_noted(words: Graph, note: str) -> None:
    graph = flat(s={"onDone": "a"}, a=words, rest=END)

    machine = Machine(graph, ("s", "a"))

    assert [str(one) for one in machine.notes] == [f"$.states.a: {note}"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"onSuccess": "good"}, '"onSuccess" alone: add "onFail", "onError" or "onDone"'),
        ({"onFail": "bad"}, '"onFail" alone: add "onDone" for a good result'),
        ({"onError": "bad"}, '"onError" alone: add "onDone" for a good result'),
        ({"onError": "bad", "invoke": {"src": "a"}}, '"onError" beside "invoke": put it inside'),
    ],
)
def test_every_outcome_needs_a_place_to_go(words: Graph, problem: str) -> None:
    graph = {**simple(**words)}
    graph["states"]["b"] = {"onDone": "a"}

    found = problems(graph, ("a", "b"))

    assert len(found) == 1
    assert found[0].startswith(f"$.states.a: {problem}")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"onDone": "god"}, ('$.states.a.onDone: target "god" does not exist: no state "god" in '
         '"m" (did you mean "good"?); states there: a, good, bad, rest, sorry')),
        ({"onDone": [{"target": "good", "guard": when("1")}, "god"]}, "$.states.a.onDone[1]: "),
        ({"onDone": {"target": "good", "cond": 1}}, '$.states.a.onDone: key "cond": renamed '),
        ({"onSuccess": "good", "onFail": "bda"}, '$.states.a.onFail: target "bda"'),
        ({"onSuccess": "good", "onError": "sory"}, '$.states.a.onError: target "sory"'),
        ({"onDone": {"target": "good", "actions": "act"}}, "$.states.a.onDone.actions: no action"),
        ({"onDone": {"target": "good", "actions": ["log", "act"]}},
         "$.states.a.onDone.actions[1]: no action"),
        ({"onFail": {"target": "bad", "guard": "g"}, "onDone": "rest"},
         "$.states.a.onFail.guard: no guard"),
        ({"onFail": {"target": "bad", "guard": when("1 +")}, "onDone": "rest"},
         "$.states.a.onFail.guard: '1 +': invalid syntax"),
        ({"onSuccess": {"target": "good", "guard": when("os")}, "onFail": "bad"},
         "$.states.a.onSuccess.guard: 'os': unknown name"),
        ({"onDone": 7}, "$.states.a.onDone: a target must be a text, this is a number"),
    ],
)  # fmt: skip
def test_problems_name_the_path_of_the_author(words: Graph, problem: str) -> None:
    found = problems(simple(**words), ("a",))

    assert found
    assert all("invoke" not in one.partition(": ")[0] for one in found)
    assert found[0].startswith(problem)


def test_a_missing_function_is_told_at_its_state() -> None:
    assert problems(flat(fetch={"onDone": "end"}, end=END), ("fecth",)) == [
        (
            '$.states.fetch: no function named "fetch" in the code (did you mean "fecth"?); '
            "it has: fecth"
        )
    ]


def test_errors_while_it_runs_name_the_path_of_the_author() -> None:
    graph = simple(onDone=[{"target": "good", "guard": when("event.output.n > 1")}, "rest"])

    run = Run(graph, ("a",)).done("a", {})

    assert run.error["message"].startswith("$.states.a.onDone[0]: 'event.output.n > 1': ")


@pytest.mark.parametrize("name", ["data", "results"])
def test_the_names_of_the_simple_form_are_reserved(name: str) -> None:
    graph = {**simple(onDone="good"), "context": {name: 1, "own": 2}}

    (problem,) = problems(graph, ("a",))
    assert problem.startswith(f'$.context.{name}: the name "{name}" belongs to the results')


def test_the_context_of_the_author_stays() -> None:
    graph = {**simple(onDone="good"), "context": {"own": when("input.x")}}

    assert Run(graph, ("a",), input={"x": 3}).context == {
        "own": 3,
        "data": {"x": 3},
        "results": {},
    }


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("fetchUsers", "fetchUsers"),
        ("fetchUsers", "fetch_users"),
        ("fetch-users", "fetch_users"),
        ("Fetch Users", "fetch_users"),
        ("parseHTMLPage", "parse_html_page"),
    ],
)
def test_a_function_is_found_by_the_name_as_written_or_in_snake_case(
    name: str, function: str
) -> None:
    graph: Graph = {"initial": name, "states": {name: {"onDone": "end"}, "end": END}}

    (invoke,) = Run(graph, (function,)).invokes

    assert (invoke.src, invoke.handler) == (name, function)


def test_one_function_may_handle_all_states() -> None:
    graph = flat(fetchUsers={"onDone": "report"}, report={"onDone": "end"}, end=END)
    run = Run(graph, ("workflow",), entry="workflow")

    (invoke,) = run.invokes
    assert invoke.handler == "workflow"
    assert run.machine.handler_context(run.snapshot, invoke)["state"] == "fetchUsers"

    run.done("fetchUsers", 1)
    assert run.invokes[0].handler == "workflow"
    assert run.done("report", 2).status == "done"  # a final state needs no function


def test_the_one_function_is_called_only_if_none_is_named_like_a_state() -> None:
    graph = flat(a={"onDone": "b"}, b={"onDone": "end"}, end=END)

    with pytest.raises(GraphError, match='no function named "b" in the code'):
        Machine(graph, ("a", "main"), entry="main")


def test_the_one_function_does_not_stand_in_for_one_that_is_named() -> None:
    graph = flat(a={"onDone": "b"}, b={"invoke": {"src": "wrok", "onDone": "end"}}, end=END)

    with pytest.raises(GraphError, match='no function named "wrok" in the code'):
        Machine(graph, ("main",), entry="main")
