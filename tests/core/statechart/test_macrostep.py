"""What follows from one event: the order of actions, `always`, raised events, and errors."""

from typing import Any

import pytest

from support.statecharts import Graph, Run, assign, compound, flat, told, when


def raise_(name: str, **more: Any) -> Graph:
    return {"type": "raise", "params": {"event": {"type": name}, **more}}


def test_all_states_are_left_before_transitions_act_and_states_are_entered() -> None:
    # Trap 4: phase by phase.
    region = {n: told(n, initial=f"{n}1", states={
        f"{n}1": told(f"{n}1", on={"GO": {"target": f"{n}2", "actions": f"go {n}"}}),
        f"{n}2": told(f"{n}2"),
    }) for n in "xy"}  # fmt: skip
    run = Run({"id": "m", "type": "parallel", "states": region}).send("GO")

    assert run.did == ["-y1", "-x1", "go x", "go y", "+x2", "+y2"]


def test_assignments_see_the_data_from_before_all_of_them() -> None:
    graph = flat(a={"on": {"SWAP": {"actions": assign(a="context.b", b="context.a")}}})
    graph["context"] = {"a": 1, "b": 2, "c": 3}

    assert Run(graph).send("SWAP").context == {"a": 2, "b": 1, "c": 3}


def test_the_context_starts_from_the_input() -> None:
    graph = {**flat("a"), "context": {"total": when("input.total * 2"), "plain": [1]}}

    assert Run(graph, input={"total": 4}).context == {"total": 8, "plain": [1]}


def test_always_is_taken_until_none_applies() -> None:
    up = {"target": "a", "guard": when("context.n < 5"), "actions": assign(n="context.n + 1")}
    graph = {**flat(a={"always": [up, "b"]}, b={}), "context": {"n": 0}}

    run = Run(graph)

    assert run.value == "b"
    assert run.context == {"n": 5}


def test_guards_of_always_see_the_event_that_led_there() -> None:
    # Trap 8.
    ways = [{"target": "vip", "guard": when("event.vip")}, "plain"]
    graph = flat("vip", "plain", a={"on": {"GO": "choice"}}, choice={"always": ways})
    graph["initial"] = "a"

    assert Run(graph).send("GO", vip=True).value == "vip"
    assert Run(graph).send("GO").value == "plain"


def test_always_is_looked_at_even_if_no_transition_took_the_event() -> None:
    graph = flat(a={"always": {"target": "b", "guard": when("event.type == 'NEWS'")}}, b={})

    assert Run(graph).send("NEWS").value == "b"


def test_an_always_that_changes_nothing_is_not_taken_twice() -> None:
    run = Run(flat(a={"always": {"actions": "looked"}, "on": {"GO": {"actions": "went"}}}))

    assert run.did == ["looked"]
    assert run.send("GO").did == ["went", "looked"]


def test_raised_events_are_taken_in_order_after_always() -> None:
    entry = [raise_("ONE"), raise_("TWO")]
    on = {"ONE": {"actions": "one"}, "TWO": {"actions": "two"}}
    graph = flat(a={"entry": entry, "always": "b"}, b=told("b", on=on))

    assert Run(graph).did == ["+b", "one", "two"]


def test_raised_events_carry_data() -> None:
    event = {"type": "PAID", "sum": when("context.n + 1")}
    raised = {"type": "raise", "params": {"event": event}}
    on = {"GO": {"actions": raised}, "PAID": {"actions": assign(n="event.sum")}}

    assert Run({**flat(a={"on": on}), "context": {"n": 1}}).send("GO").context == {"n": 2}


def test_log_and_emit_are_for_the_engine() -> None:
    params = {"text": when("event.text"), "do": "invoke", "key": "forged"}
    on = {"GO": {"actions": [{"type": "log", "params": params}, {"type": "xstate.emit"}]}}
    run = Run(flat(a={"on": on})).send("GO", text="hello")

    # Trap 14: params stay apart, so a graph cannot forge an effect.
    log, emit = run.effects[1:]
    assert repr(log) == "LogEffect(params={'text': 'hello', 'do': 'invoke', 'key': 'forged'})"
    assert repr(emit) == "EmitEffect(params={})"


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"always": "a"}, None),
        ({"always": {"target": "b"}}, "no stable state after 1000 microsteps"),
        ({"entry": raise_("X"), "on": {"X": {"actions": raise_("X")}}}, "no stable state after"),
        ({"entry": [raise_("X")] * 1001}, "more than 1000 events are raised and not taken yet"),
    ],
)
def test_what_never_comes_to_rest_ends_with_an_error(graph: Graph, message: str | None) -> None:
    run = Run(flat(a=graph, b={"always": "a"}))

    if message is None:  # it is itself: nothing is left or entered, so it is taken once
        assert run.status == "active"
    else:
        assert run.status == "error"
        assert message in run.error["message"]


def failing(**more: Any) -> Graph:
    """GO has done much before it fails."""
    go = {"target": "b", "actions": [assign(n="context.n + 1"), "act", assign(n="1 + null")]}
    state = told("a", on={"GO": go}, invoke={"src": "work", "id": "work"}, after={"50": "b"})
    return {**flat(a=state, b={}), "context": {"n": 0}, **more}


def test_an_error_in_an_action_ends_the_machine_as_it_was_before_the_event() -> None:
    # Trap 10.
    run = Run(failing()).send("GO")

    assert run.status == "error"
    assert (run.value, run.context) == ("a", {"n": 0})
    assert run.did == []
    assert run.error == {
        "name": "MachineError",
        "message": "$.states.a.on[\"GO\"].actions[2]: '1 + null': a number is needed, not null",
    }
    assert (run.in_flight, run.timers) == ([], [])
    assert [type(effect).__name__ for effect in run.effects] == [
        *("StepEffect", "CancelEffect", "UntimerEffect")
    ]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"on": {"GO": {"guard": when("event.n > 1"), "target": "b"}}}, '$.states.a.on["GO"]: '),
        ({"on": {"GO": {"actions": raise_("X", delay=when("event.n"))}}}, "a delay must be"),
        ({"on": {"GO": {"actions": raise_("X", delay=when("-1"))}}}, "0 or more milliseconds"),
        ({"on": {"GO": "c"}}, "$.states.c: "),
        ({"on": {"GO": {"actions": {"type": "assign", "params": when("1")}}}}, "be an object"),
        ({"on": {"GO": {"actions": raise_(when("'xstate.x'"))}}}, "are reserved"),  # type: ignore[arg-type]
    ],
)
def test_errors_while_the_machine_runs_say_where(state: Graph, message: str) -> None:
    c = {"invoke": {"src": "work", "input": when("1 / 0")}}

    run = Run(flat(a=state, b={}, c=c)).send("GO")

    assert run.status == "error"
    assert message in run.error["message"]


def test_an_error_at_the_start_keeps_the_context() -> None:
    run = Run({**flat(a={"entry": assign(n="1 / 0")}), "context": {"n": 7}})

    assert (run.status, run.context, run.value) == ("error", {"n": 7}, {})
    assert run.send("GO").status == "error"


def test_an_error_of_a_handler_that_nobody_takes_ends_the_machine() -> None:
    # Trap 6.
    run = Run(flat(a={"invoke": {"src": "work", "id": "work", "onDone": "b"}}, b={}))

    run.failed("work", {"name": "KeyError", "message": "id"})

    assert (run.status, run.error) == ("error", {"name": "KeyError", "message": "id"})
    assert run.value == "a"


@pytest.mark.parametrize("name", ["xstate.error.actor.work", "xstate.error.*", "*"])
def test_an_error_of_a_handler_may_be_taken_by_name(name: str) -> None:
    # Quirk 6: `*` hides it.
    inner = {"invoke": {"src": "work", "id": "work"}}
    run = Run({**flat(a=inner, b={}), "on": {name: {"target": ".b"}}}).failed("work")

    assert (run.status, run.value) == ("active", "b")


def test_outcomes_reach_the_transitions_of_their_invoke() -> None:
    invoke = {
        "src": "work",
        "id": "work",
        "input": {"n": when("context.n")},
        "onDone": {"target": "b", "actions": assign(n="event.output.n")},
        "onError": {"target": "c", "actions": assign(n="event.error.message")},
    }
    graph = {**flat(a={"invoke": invoke}, b={}, c={}), "context": {"n": 1}}

    run = Run(graph)
    assert (run.invokes[0].key, run.invokes[0].input) == ("work#1", {"n": 1})

    run.done("work", {"n": 2})
    assert (run.value, run.context, run.in_flight) == ("b", {"n": 2}, [])

    assert Run(graph).failed("work").context == {"n": "no"}


def test_leaving_a_state_cancels_its_handlers_and_timers() -> None:
    state = {"invoke": [{"src": "one"}, {"src": "two"}], "after": {"10": "b"}, "on": {"GO": "b"}}
    run = Run(flat(a=state, b={})).send("GO")

    kinds = [type(effect).__name__ for effect in run.effects[1:]]
    assert sorted(kinds) == ["CancelEffect", "CancelEffect", "UntimerEffect"]
    assert (run.in_flight, run.timers) == ([], [])


def test_the_step_tells_people_what_happened() -> None:
    inner = compound(a={"on": {"GO": "#m.end"}})
    run = Run(flat(outer=inner, end={"always": "#m.last"}, last={})).send("GO")

    step = run.step
    assert (step.event, step.value) == ("GO", "last")
    assert step.left == ("m.outer.a", "m.outer", "m.end")
    assert step.entered == ("m.end", "m.last")
    assert [(one.source, one.event, one.targets) for one in step.taken] == [
        ("m.outer.a", "GO", ("m.end",)),
        ("m.end", "", ("m.last",)),
    ]
