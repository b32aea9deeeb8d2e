"""What holds for every graph, whatever happens to its run."""

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sequential.core.statechart.definition import State
from sequential.core.statechart.effects import (
    CancelEffect,
    Effect,
    InvokeEffect,
    TimerEffect,
    UntimerEffect,
)
from sequential.core.statechart.machine import Machine
from statechart_oracle.generator import EVENTS, case

Snapshot = dict[str, Any]
Result = tuple[Snapshot, list[Effect]]

choices = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)
seeds = st.integers(0, 5_000)


def happen(machine: Machine, snapshot: Snapshot, choice: tuple[int, int], now: int) -> Result:
    """One of the things that can happen to a run."""
    kind, which = choice
    timers = snapshot["timers"]
    flights = sorted(snapshot["invocations"].values(), key=lambda one: str(one["key"]))
    if kind < 2 and flights:
        return machine.done(snapshot, flights[which % len(flights)]["key"], {"id": which}, now)
    if kind == 2 and flights:
        return machine.failed(snapshot, flights[which % len(flights)]["key"], {"name": "E"}, now)
    if kind < 5 and timers:
        return machine.fire(snapshot, min(timers, key=lambda one: one["due"])["key"], now)
    return machine.send(snapshot, {"type": EVENTS[which % len(EVENTS)], "size": which}, now)


def walk(seed: int, script: list[tuple[int, int]]) -> tuple[Machine, list[Result]]:
    """A random machine, and what every step of a script gave."""
    made = case(seed)
    machine = Machine(made.graph)
    results = [machine.start(made.input, 0)]
    for number, choice in enumerate(script):
        results.append(happen(machine, results[-1][0], choice, number * 10))
    return machine, results


@given(seeds, choices)
@settings(max_examples=60, deadline=None)
def test_the_value_is_a_legal_configuration(seed: int, script: list[tuple[int, int]]) -> None:
    machine, results = walk(seed, script)

    for snapshot, _ in results:
        if snapshot["status"] == "error" and not snapshot["value"]:
            continue  # it broke at the start
        active = {machine.chart.by_id[one] for one in machine.active(snapshot)}
        for state in active:
            assert state.type != "history"
            assert state.parent is None or state.parent in active
            assert len(active & set(state.regions)) == _wanted(state)


def _wanted(state: State) -> int:
    return {"compound": 1, "parallel": len(state.regions)}.get(state.type, 0)


@given(seeds, choices)
@settings(max_examples=60, deadline=None)
def test_the_same_input_gives_the_same_result(seed: int, script: list[tuple[int, int]]) -> None:
    assert walk(seed, script)[1] == walk(seed, script)[1]


@given(seeds, choices)
@settings(max_examples=30, deadline=None)
def test_going_on_after_a_restore_is_going_on(seed: int, script: list[tuple[int, int]]) -> None:
    made = case(seed)
    _, results = walk(seed, script)
    stored = json.dumps(results[0][0], sort_keys=True)

    for number, choice in enumerate(script):
        machine = Machine(json.loads(json.dumps(made.graph)))
        snapshot, effects = happen(machine, json.loads(stored), choice, number * 10)
        assert (snapshot, effects) == results[number + 1]
        stored = json.dumps(snapshot, sort_keys=True)


@given(seeds, choices)
@settings(max_examples=60, deadline=None)
def test_effects_and_snapshot_tell_the_same_story(seed: int, script: list[tuple[int, int]]) -> None:
    machine, results = walk(seed, script)
    open_: dict[str, str] = {}  # what the engine has been asked for and not been told to forget

    for number, (snapshot, effects) in enumerate(results):
        before = results[number - 1][0] if number else None
        if before is not None:  # what was delivered is not open any more
            gone = keys(before) - keys(snapshot)
            told = {e.key for e in effects if isinstance(e, CancelEffect | UntimerEffect)}
            assert len(gone - told) <= 1
            for key in gone - told:
                del open_[key]
        for effect in effects:
            if isinstance(effect, InvokeEffect | TimerEffect):
                assert effect.key not in open_
                open_[effect.key] = effect.id
            elif isinstance(effect, CancelEffect | UntimerEffect):
                del open_[effect.key]
        assert set(open_) == keys(snapshot)
        pending = {e.key for e in machine.pending(snapshot)}
        assert pending == keys(snapshot)


def keys(snapshot: Snapshot) -> set[str]:
    flights = {one["key"] for one in snapshot["invocations"].values()}
    return flights | {timer["key"] for timer in snapshot["timers"]}


@given(seeds, choices, st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_stale_keys_change_nothing(seed: int, script: list[tuple[int, int]], number: int) -> None:
    machine, results = walk(seed, script)
    snapshot = results[-1][0]
    everything = set().union(*[keys(one) for one, _ in results]) | {f"x#{number}"}

    for stale in everything - keys(snapshot):
        assert machine.done(snapshot, stale, 1, 0) == (snapshot, [])
        assert machine.failed(snapshot, stale, 1, 0) == (snapshot, [])
        assert machine.fire(snapshot, stale, 0) == (snapshot, [])


@given(seeds, choices)
@settings(max_examples=60, deadline=None)
def test_nothing_that_was_given_is_changed(seed: int, script: list[tuple[int, int]]) -> None:
    made = case(seed)
    graph = copy.deepcopy(made.graph)
    machine = Machine(made.graph)
    snapshot, _ = machine.start(made.input, 0)
    for number, choice in enumerate(script):
        before = copy.deepcopy(snapshot)
        after, _ = happen(machine, snapshot, choice, number * 10)
        assert snapshot == before
        snapshot = after
    assert made.graph == graph


@given(seeds, choices)
@settings(max_examples=60, deadline=None)
def test_what_is_offered_is_taken_and_the_rest_is_refused(
    seed: int, script: list[tuple[int, int]]
) -> None:
    machine, results = walk(seed, script)
    snapshot = results[-1][0]

    for name in EVENTS:
        event = {"type": name, "size": 1}
        after, effects = machine.send(snapshot, event, 0)
        if machine.can(snapshot, event):
            assert after is not snapshot
            assert effects
            assert any(_matches(name, one) for one in machine.events(snapshot))


def _matches(name: str, descriptor: str) -> bool:
    return name == descriptor or (
        descriptor.endswith("*") and f"{name}.".startswith(descriptor.removesuffix("*"))
    )
