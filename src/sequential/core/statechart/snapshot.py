"""The snapshot of a machine: plain JSON, all that is needed to go on in another process.

`value` is exactly XState's: a name, or an object for nested and parallel states. `history` maps
the id of a history state to the ids it would restore. `invocations` maps ids to what is in flight,
`timers` lists what is to come; `seq` numbers both.
"""

from collections.abc import Iterable
from typing import Any

from sequential.core.statechart.definition import Chart, State
from sequential.core.statechart.problems import GraphError, Problem, quoted

VERSION = 1

Snapshot = dict[str, Any]
Active = dict[State, None]


def first_snapshot(machine: str, hash: str, input: Any) -> Snapshot:
    """The snapshot before anything has happened."""
    return {
        "v": VERSION,
        "machine": machine,
        "hash": hash,
        "status": "active",
        "value": None,
        "context": {},
        "input": input,
        "output": None,
        "error": None,
        "history": {},
        "invocations": {},
        "timers": [],
        "seq": 0,
    }


def is_active(snapshot: Snapshot) -> bool:
    """Whether anything can still happen: the machine is not done, stopped or broken."""
    return bool(snapshot["status"] == "active")


def active_of(chart: Chart, snapshot: Snapshot) -> Active:
    """The states that are active in a snapshot, in document order.

    Raises `GraphError` when they are not a configuration of this graph.
    """
    active: Active = {chart.root: None}
    value = snapshot["value"]
    if value is None or (not value and snapshot["status"] != "active"):
        return active  # nothing was entered yet, or the machine broke on the way
    todo: list[tuple[State, Any]] = [(chart.root, value)]
    while todo:
        state, part = todo.pop()
        inner = {part: {}} if isinstance(part, str) else part
        wanted = len(state.regions) if state.type == "parallel" else int(not state.is_atomic)
        if not isinstance(inner, dict) or len(inner) != wanted:
            raise damaged(f"the snapshot does not say what is active in {quoted(state.id)}")
        for name, deeper in inner.items():
            child = state.children.get(name)
            if child is None or child.type == "history":
                raise damaged(
                    f"state {quoted(name)} is not in {quoted(state.id)} any more: "
                    "the graph changed under a run"
                )
            active[child] = None
            todo.append((child, deeper))
    if len(active) > 2:
        return dict.fromkeys(in_document_order(active))
    return active


def recorded_states(chart: Chart, ids: Iterable[str]) -> list[State]:
    """The states that a history state would restore; `GraphError` for one that is gone."""
    try:
        return [chart.by_id[one] for one in ids]
    except KeyError as error:
        raise damaged(f"state {error} of the history is not in the graph any more") from None


def value_of(root: State, active: Iterable[State]) -> Any:
    """The `value` of a configuration."""
    return _value(root, children_of(active))


def _value(state: State, children: dict[State, list[State]]) -> Any:
    inner = children.get(state, [])
    if state.type == "compound" and inner and inner[0].is_atomic:
        return inner[0].name
    return {child.name: _value(child, children) for child in inner}


def children_of(active: Iterable[State]) -> dict[State, list[State]]:
    """The active children of each active state, in the given order."""
    children: dict[State, list[State]] = {}
    for state in active:
        if state.parent is not None:
            children.setdefault(state.parent, []).append(state)
    return children


def in_document_order(states: Iterable[State]) -> list[State]:
    """States as the graph writes them, parents first."""
    return sorted(states, key=_order)


def _order(state: State) -> int:
    return state.order


def damaged(message: str) -> GraphError:
    """The error for a snapshot that is none of this graph."""
    return GraphError([Problem("error", "snapshot", message)])
