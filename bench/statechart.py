"""What an event costs in the interpreter of state graphs, without storing anything."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.table import microseconds, show
from sequential.core.statechart.machine import Machine

EVENTS = 2_000
ROUNDS = 5

Graph = dict[str, Any]
Act = Callable[[], object]


def ring(count: int) -> Graph:
    """States in a ring; NEXT leads on."""
    states = {f"s{i}": {"on": {"NEXT": f"s{(i + 1) % count}"}} for i in range(count)}
    return {"id": "ring", "initial": "s0", "context": {"n": 1}, "states": states}


def regions() -> Graph:
    """Two regions, one of them with a guard."""
    guarded = {"NEXT": {"target": "b", "guard": {"$expr": "context.n < 5"}}}
    back = {"on": {"NEXT": "a"}}
    return {
        "id": "regions",
        "type": "parallel",
        "context": {"n": 1},
        "states": {
            "one": {"initial": "a", "states": {"a": {"on": guarded}, "b": back}},
            "two": {"initial": "a", "states": {"a": {"on": {"NEXT": "b"}}, "b": back}},
        },
    }


def simple() -> Graph:
    """Two functions that call each other for ever."""
    return {"initial": "a", "states": {"a": {"onDone": "b"}, "b": {"onDone": "a"}}}


def sending(graph: Graph, *, as_text: bool = False) -> Act:
    """One event after the other; with the snapshot through JSON if `as_text`."""
    machine = Machine(graph)
    kept = [machine.start(None, 0)[0]]

    def act() -> None:
        snapshot = msgspec.json.decode(msgspec.json.encode(kept[0])) if as_text else kept[0]
        kept[0], _ = machine.send(snapshot, {"type": "NEXT"}, 0)

    return act


def returning(graph: Graph) -> Act:
    """A function has returned: the next one is asked for."""
    machine = Machine(graph)
    kept = [machine.start({"x": 1}, 0)[0]]

    def act() -> None:
        snapshot = msgspec.json.decode(msgspec.json.encode(kept[0]))
        (flight,) = snapshot["invocations"].values()
        kept[0], _ = machine.done(snapshot, flight["key"], {"x": 2}, 0)

    return act


def floor() -> Act:
    """The snapshot of a flat machine to JSON and back."""
    snapshot, _ = Machine(ring(3)).start(None, 0)
    return lambda: msgspec.json.decode(msgspec.json.encode(snapshot))


def seconds(act: Act, times: int = EVENTS) -> float:
    started = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - started) / times


def main() -> None:
    acts = {
        "snapshot to JSON and back (floor)": floor(),
        "flat": sending(ring(3)),
        "flat, snapshot through JSON": sending(ring(3), as_text=True),
        "two regions, one guard": sending(regions()),
        "two regions, one guard, through JSON": sending(regions(), as_text=True),
        "simple graph: returned -> next, through JSON": returning(simple()),
        "200 flat states": sending(ring(200)),
    }
    compiling = {
        "compile flat": lambda: Machine(ring(3)),
        "compile two regions": lambda: Machine(regions()),
        "compile simple": lambda: Machine(simple(), {"a", "b"}),
        "compile 200 states": lambda: Machine(ring(200)),
    }
    figures: dict[str, list[float]] = {}
    for _ in range(ROUNDS):  # in turn, because the machine's speed drifts
        for label, act in acts.items():
            figures.setdefault(label, []).append(seconds(act))
        for label, act in compiling.items():
            figures.setdefault(label, []).append(seconds(act, 20))
    base = min(figures["snapshot to JSON and back (floor)"])
    rows = [
        [label, microseconds(min(all_)), f"{min(all_) / base:.1f}x"]
        for label, all_ in figures.items()
    ]
    show(f"State graphs (best of {ROUNDS} rounds)", ["", "us", "to the floor"], rows)
    long_run()


def long_run() -> None:
    """Ten thousand transitions of one run: the first and the last thousand."""
    act = sending(ring(3), as_text=True)
    thousands = [seconds(act, 1_000) for _ in range(10)]
    rest = statistics.median(thousands[1:-1])
    rows = [
        ["first 1,000", microseconds(thousands[0])],
        ["1,000 in between (median)", microseconds(rest)],
        ["last 1,000", microseconds(thousands[-1])],
    ]
    show("10,000 transitions of one run", ["", "us each"], rows)
    size = len(json.dumps(ring(3)))
    assert size < 1_000, "the graph is small, so that the run is measured"


if __name__ == "__main__":
    main()
