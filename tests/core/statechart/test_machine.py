"""The door: keys, restores, and what can be asked of a snapshot."""

import json
import pickle
from typing import Any

import pytest

from sequential.core.model import RetryPolicy
from sequential.core.statechart.effects import InvokeEffect, TimerEffect
from sequential.core.statechart.machine import Machine
from sequential.core.statechart.problems import GraphError
from sequential.errors import InvalidInputError, InvalidTaskError
from support.statecharts import Graph, Run, assign, compound, flat, when

ORDER: Graph = {
    "id": "order",
    "initial": "charge",
    "context": {"total": when("input.total")},
    "output": when("event.output"),
    "states": {
        "charge": {
            "invoke": {
                "src": "charge",
                "id": "charge",
                "input": when("context.total"),
                "retry": {"max": 5},
                "timeoutMs": 30_000,
                "onError": "failed",
                "onDone": {"target": "approval", "actions": [assign(receipt="event.output.id")]},
            }
        },
        "approval": {
            "on": {
                "APPROVE": {"target": "shipped", "guard": when("event.role == 'admin'")},
                "REJECT": "failed",
            },
            "after": {"86400000": "failed"},
        },
        "shipped": {"type": "final", "output": when("context.receipt")},
        "failed": {"type": "final"},
    },
}


def test_an_order_from_start_to_end() -> None:
    machine = Machine(ORDER, {"charge"})

    snapshot, effects = machine.start({"total": 120}, 1_000)
    assert snapshot == {
        "v": 1,
        "machine": "order",
        "hash": machine.hash,
        "status": "active",
        "value": "charge",
        "context": {"total": 120},
        "input": {"total": 120},
        "output": None,
        "error": None,
        "history": {},
        "invocations": {
            "charge": {"key": "charge#1", "src": "charge", "state": "order.charge", "input": 120}
        },
        "timers": [],
        "seq": 1,
    }
    assert effects[1:] == [
        InvokeEffect(
            *("charge#1", "charge", "charge", "order.charge", 120),
            handler="charge",
            retry=RetryPolicy(retries=5),
            timeout=30_000,
        )
    ]

    snapshot, effects = machine.done(snapshot, "charge#1", {"id": "r-9"}, 3_000)
    name = "xstate.after.86400000.order.approval"
    assert effects[1:] == [TimerEffect(f"{name}#2", name, 86_403_000, {"type": name})]

    assert machine.events(snapshot) == ["APPROVE", "REJECT"]
    assert not machine.can(snapshot, {"type": "APPROVE"})
    assert machine.can(snapshot, {"type": "APPROVE", "role": "admin"})

    snapshot, _ = machine.send(snapshot, {"type": "APPROVE", "role": "admin"}, 4_000)
    assert (snapshot["status"], snapshot["output"]) == ("done", "r-9")


def test_snapshots_survive_json_another_process_and_other_orders_of_keys() -> None:
    # Trap 11: timers and history are in it.
    run = Run(ORDER, input={"total": 1}).done("charge", {"id": 1})
    text = json.dumps(run.snapshot, sort_keys=True)

    other = Machine(ORDER)
    (timer,) = json.loads(text)["timers"]
    snapshot, _ = other.fire(json.loads(text), timer["key"], timer["due"])

    assert snapshot["value"] == "failed"


def test_the_snapshot_that_was_given_is_not_changed() -> None:
    machine = Machine(ORDER)
    snapshot, _ = machine.start({"total": 1}, 0)
    before = json.dumps(snapshot)

    machine.done(snapshot, "charge#1", {"id": 1}, 0)
    machine.failed(snapshot, "charge#1", {"name": "E", "message": ""}, 0)

    assert json.dumps(snapshot) == before


@pytest.mark.parametrize("key", ["charge#2", "charge", "", "xstate.after.1.x#1"])
def test_a_key_that_is_not_in_flight_changes_nothing(key: str) -> None:
    machine = Machine(ORDER)
    snapshot, _ = machine.start({"total": 1}, 0)

    assert machine.done(snapshot, key, 1, 0) == (snapshot, [])
    assert machine.failed(snapshot, key, 1, 0) == (snapshot, [])
    assert machine.fire(snapshot, key, 0) == (snapshot, [])


def test_an_outcome_that_is_delivered_twice_counts_once() -> None:
    run = Run(ORDER, input={"total": 1})
    key = run.key("charge")
    run.done("charge", {"id": 1})

    assert run.machine.done(run.snapshot, key, {"id": 2}, 0) == (run.snapshot, [])


def test_a_state_that_is_entered_again_has_another_key() -> None:
    graph = flat(a={"invoke": {"src": "f", "id": "f"}, "on": {"GO": "b"}}, b={"on": {"GO": "a"}})
    run = Run(graph)
    old = run.key("f")
    run.send("GO", "GO")

    assert run.key("f") != old
    assert run.machine.done(run.snapshot, old, 1, 0) == (run.snapshot, [])


@pytest.mark.parametrize(
    "event", [{}, {"type": ""}, {"type": 1}, [], "GO", None, {"type": "xstate.done.actor.charge"}]
)
def test_what_is_no_event_is_refused(event: Any) -> None:
    machine = Machine(ORDER)
    snapshot, _ = machine.start({"total": 1}, 0)

    with pytest.raises(InvalidInputError, match=r"an event is an object|are reserved"):
        machine.send(snapshot, event, 0)
    with pytest.raises(InvalidInputError, match=r"an event is an object|are reserved"):
        machine.can(snapshot, event)


def test_events_may_have_fields_of_any_name() -> None:
    # Trap 13: routing data travels beside the event.
    fields = {"key": "charge#1", "actorId": "charge", "output": 1, "error": 2, "do": "invoke"}
    graph = flat(a={"on": {"GO": {"actions": assign(got="event")}}})

    assert Run(graph).send("GO", **fields).context["got"] == {**fields, "type": "GO"}


def test_a_guard_that_fails_with_an_error_does_not_accept() -> None:
    graph = flat(a={"on": {"GO": {"target": "b", "guard": when("event.n > 1")}}}, b={})
    run = Run(graph)

    assert not run.machine.can(run.snapshot, {"type": "GO"})
    assert run.machine.can(run.snapshot, {"type": "GO", "n": 2})


def test_a_machine_is_stuck_when_nothing_can_happen_any_more() -> None:
    graph = flat(a={"on": {"GO": "b", "WORK": "c"}}, b={}, c={"after": {"1": "b"}})
    run = Run(graph)

    assert not run.machine.is_stuck(run.snapshot)
    assert not run.machine.is_stuck(run.send("WORK").snapshot)
    assert run.machine.is_stuck(run.wait(1).snapshot)
    assert run.machine.active(run.snapshot) == ["m", "m.b"]


def test_what_a_snapshot_waits_for_can_be_asked_for_again() -> None:
    run = Run(ORDER, input={"total": 1})
    assert run.machine.pending(run.snapshot) == run.effects[1:]

    run.done("charge", {"id": 1})
    assert run.machine.pending(run.snapshot) == run.effects[1:]


def test_child_tasks_are_told_from_functions() -> None:
    graph = flat(a={"invoke": {"src": "task:report", "id": "r"}})

    (invoke,) = Run(graph, ()).invokes
    assert (invoke.src, invoke.task, invoke.handler) == ("task:report", "report", None)


def test_the_graph_is_hashed_as_it_is_written() -> None:
    # Trap 12: the order of the keys has a meaning.
    there = flat(a={"on": {"GO": "b"}}, b={"on": {"GO": "a"}})
    back = {**there, "states": dict(reversed(there["states"].items()))}

    assert Machine(there).hash != Machine(back).hash
    assert Machine(there).hash == Machine(json.loads(json.dumps(there))).hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "gone"}, 'state "gone" is not in "order" any more: the graph changed'),
        ({"value": {}}, 'does not say what is active in "order"'),
        ({"value": None, "status": "done"}, None),
        ({"value": {"charge": {}, "approval": {}}}, "does not say what is active"),
        ({"value": ["charge"]}, "does not say what is active"),
        ({"value": 7}, "does not say what is active"),
        ({"value": {"charge": "x"}}, 'does not say what is active in "order.charge"'),
    ],
)
def test_a_snapshot_of_another_graph_is_refused(changes: Graph, message: str | None) -> None:
    machine = Machine(ORDER)
    snapshot, _ = machine.start({"total": 1}, 0)
    snapshot = {**snapshot, **changes}

    if message is None:
        assert machine.send(snapshot, {"type": "GO"}, 0) == (snapshot, [])
        return
    with pytest.raises(GraphError) as refusal:
        machine.send(snapshot, {"type": "GO"}, 0)
    assert message in str(refusal.value)


def test_handlers_and_histories_that_are_gone_are_refused() -> None:
    region = compound("x", h={"type": "history"})
    graph = flat(a={"on": {"GO": "b.h"}, "invoke": {"src": "f", "id": "f"}}, b=region)
    run = Run(graph)
    flights = {"gone": run.snapshot["invocations"]["f"]}

    with pytest.raises(GraphError, match='invoke "gone" is not in the graph any more'):
        run.machine.done({**run.snapshot, "invocations": flights}, "f#1", 1, 0)
    with pytest.raises(GraphError, match='invoke "gone" is not in the graph any more'):
        run.machine.pending({**run.snapshot, "invocations": flights})
    with pytest.raises(GraphError, match="of the history is not in the graph any more"):
        run.machine.send({**run.snapshot, "history": {"m.b.h": ["gone"]}}, {"type": "GO"}, 0)


def test_the_error_can_cross_a_process_border() -> None:
    with pytest.raises(InvalidTaskError) as refusal:
        Machine({"states": {"a": {}}})

    copy = pickle.loads(pickle.dumps(refusal.value))
    assert isinstance(copy, GraphError)
    assert str(copy) == str(refusal.value) == (
        'graph.json: $: no "initial" state; add "initial": "a"'
    )  # fmt: skip
    assert copy.problems == refusal.value.problems  # type: ignore[attr-defined]
    assert str(GraphError()) == "The graph cannot be used: correct its graph.json."


def test_ten_thousand_transitions_leave_a_small_snapshot() -> None:
    graph = flat(
        a={"onDone": "b"}, b={"on": {"GO": "c"}}, c={"after": {"5": "a"}, "exit": assign(n="1")}
    )
    machine = Machine(graph, ("a",))
    snapshot, _ = machine.start({"x": 1}, 0)
    sizes = []
    for round_ in range(3_334):
        (flight,) = snapshot["invocations"].values()
        snapshot, _ = machine.done(snapshot, flight["key"], {"round": 7}, round_)
        snapshot, _ = machine.send(snapshot, {"type": "GO"}, round_)
        (timer,) = snapshot["timers"]
        snapshot, _ = machine.fire(snapshot, timer["key"], round_)
        sizes.append(len(json.dumps(snapshot)))

    assert snapshot["seq"] == 3_334 * 2 + 1
    assert max(sizes) - min(sizes) < 20  # the digits of `seq`
