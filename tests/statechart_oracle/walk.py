"""What our interpreter does with statecharts: `python -m statechart_oracle.walk`, JSON lines.

A line is a leg of a walk: the graph, some of the steps, and the luggage of the leg before, which
another process may have walked. Within a leg, too, the snapshot becomes text after every step; and
if it is asked for, every step has a machine of its own, made from the text of the graph.
"""

import json
import sys
import traceback
from typing import Any

from sequential.core.statechart.effects import Effect, LogEffect
from sequential.core.statechart.machine import Machine
from statechart_oracle.cases import Graph, Observation, Step

START = 1_700_000_000_000  # milliseconds since 1970


class Walk:
    """One run of a graph, at the hands of a script."""

    def __init__(
        self, graph: Graph, *, now: int = START, snapshot: str | None = None, anew: bool = False
    ) -> None:
        self._graph = json.dumps(graph)
        self._made = Machine(graph, None)
        self._anew = anew
        self._stored = snapshot
        self.now = now

    @property
    def stored(self) -> str:
        assert self._stored is not None, "it has not started"
        return self._stored

    def start(self, input: Any) -> Observation:
        return self._observed(*self._machine().start(input, self.now))

    def take(self, step: Step) -> Observation:
        """Raises `ValueError` for an unknown step."""
        snapshot = json.loads(self.stored)
        match step:
            case {"send": event}:
                return self._observed(*self._machine().send(snapshot, event, self.now))
            case {"advance": milliseconds}:
                return self._advance(milliseconds)
            case {"resolve": [name, output]} if name in snapshot["invocations"]:
                key = snapshot["invocations"][name]["key"]
                return self._observed(*self._machine().done(snapshot, key, output, self.now))
            case {"reject": [name, error]} if name in snapshot["invocations"]:
                key = snapshot["invocations"][name]["key"]
                return self._observed(*self._machine().failed(snapshot, key, error, self.now))
            case {"resolve": _} | {"reject": _} | {"restart": _}:
                return self._observed(snapshot, [])
        raise ValueError(f"what is {step}?")

    def _advance(self, milliseconds: int) -> Observation:
        """Due timers, earliest first, each with the snapshot that the one before has left."""
        self.now += milliseconds
        effects: list[Effect] = []
        while due := [t for t in json.loads(self.stored)["timers"] if t["due"] <= self.now]:
            first = min(due, key=lambda timer: timer["due"])
            snapshot, more = self._machine().fire(json.loads(self.stored), first["key"], self.now)
            self._stored = json.dumps(snapshot)
            effects += more
        return self._observed(json.loads(self.stored), effects)

    def _machine(self) -> Machine:
        return Machine(json.loads(self._graph), None) if self._anew else self._made

    def _observed(self, snapshot: dict[str, Any], effects: list[Effect]) -> Observation:
        self._stored = json.dumps(snapshot)
        alive = snapshot["invocations"]
        return {
            "value": snapshot["value"],
            "context": snapshot["context"],
            "status": snapshot["status"],
            "output": snapshot["output"],
            "error": snapshot["error"],
            "trace": [effect.params for effect in effects if isinstance(effect, LogEffect)],
            "invocations": sorted([name, one["src"], one["input"]] for name, one in alive.items()),
            "timers": sorted(timer["event"]["type"] for timer in snapshot["timers"]),
            "history": {name: sorted(states) for name, states in snapshot["history"].items()},
        }


def leg(line: dict[str, Any]) -> dict[str, Any]:
    """The observations of one leg, and the luggage for the next."""
    luggage = line["luggage"]
    walk = Walk(line["graph"], anew=line["anew"], **luggage or {})
    seen = [] if luggage else [walk.start(line["input"])]
    seen += [walk.take(step) for step in line["steps"]]
    return {"seen": seen, "luggage": {"now": walk.now, "snapshot": walk.stored}}


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            answer = leg(json.loads(line))
        except Exception:
            answer = {"refused": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
