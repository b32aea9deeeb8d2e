"""What a drawing marks: where a run is, and which way it came."""

from collections.abc import Iterable
from typing import Any

import msgspec

from sequential.core.statechart.definition import Chart, State, Transition
from sequential.core.statechart.snapshot import active_of


class Marks(msgspec.Struct, frozen=True):
    """Ids of states, and the transitions taken as (source, event, target)."""

    active: frozenset[str] = frozenset()
    visited: frozenset[str] = frozenset()
    taken: frozenset[tuple[str, str, str]] = frozenset()

    def is_taken(self, transition: Transition, target: State) -> bool:
        """Whether the run went this way."""
        return (transition.source.id, transition.event, target.id) in self.taken


def marks_of(chart: Chart, steps: Iterable[dict[str, Any]]) -> Marks:
    """The marks of a run; `steps` are the `graph.step` notes of its journal, oldest first.

    Raises `GraphError` for the steps of another graph.
    """
    value: Any = None
    visited: set[str] = set()
    taken: set[tuple[str, str, str]] = set()
    for step in steps:
        value = step["value"]
        visited.update(step["entered"])
        for one in step["taken"]:
            taken |= {(one["source"], one["event"], target) for target in one["targets"] or ()}
    active = active_of(chart, {"value": value, "status": "active"})
    here = frozenset(state.id for state in active) if value is not None else frozenset()
    return Marks(here, frozenset(visited) | here, frozenset(taken))
