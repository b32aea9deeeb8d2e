"""A smaller case that still differs: everything is left out that the difference can do without."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from statechart_oracle.cases import Case, Observation, Refused
from statechart_oracle.comparison import Difference

Compare = Callable[[Sequence[Case]], list[Difference]]
_KEPT = {"target", "type", "src", "params", "event", "$expr", "initial", "context"}
_AT_ONCE = 50
_Path = tuple[str | int, ...]


def shrunk(difference: Difference, compare: Compare, walks: int = 3000) -> Difference:
    """Takes out one part after another, the largest first, for so many walks at most."""
    while walks > 0:
        smaller = [one for one in _smaller(difference) if one.size < difference.case.size]
        tried = sorted(smaller, key=lambda one: one.size)
        for begin in range(0, len(tried), _AT_ONCE):
            some = tried[begin : begin + _AT_ONCE]
            walks -= len(some)
            found = [one for one in compare(some) if _is_like(one, difference)]
            if found:
                difference = min(found, key=lambda one: one.case.size)
                break
        else:
            return difference
    return difference


def _is_like(one: Difference, other: Difference) -> bool:
    """An error on one side, because of what was left out, is another difference."""
    return [_ends(one.ours), _ends(one.theirs)] == [_ends(other.ours), _ends(other.theirs)]


def _ends(side: Observation | Refused) -> str:
    return "refused" if isinstance(side, Refused) else str(side.get("status"))


def _smaller(difference: Difference) -> Iterator[Case]:
    case = difference.case
    steps = case.steps[: difference.step]
    yield msgspec.structs.replace(case, steps=steps)
    for number in range(len(steps)):
        yield msgspec.structs.replace(case, steps=steps[:number] + steps[number + 1 :])
    for path in _parts(case.graph, ()):
        yield msgspec.structs.replace(case, steps=steps, graph=_without(case.graph, path))
    for path in _states(case.graph, ()):
        yield msgspec.structs.replace(case, steps=steps, graph=_flattened(case.graph, path))


def _parts(part: Any, path: _Path) -> Iterator[_Path]:
    entries: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(part, dict):
        entries = ((key, one) for key, one in part.items() if key not in _KEPT)
    elif isinstance(part, list) and (len(part) > 1 or path[-1:] in (("actions",), ("entry",))):
        entries = enumerate(part)
    for key, one in entries:
        yield (*path, key)
        yield from _parts(one, (*path, key))


def _without(graph: Any, path: _Path) -> Any:
    graph = copy.deepcopy(graph)
    part = graph
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return graph


def _states(state: Any, path: _Path) -> Iterator[_Path]:
    for name, child in state.get("states", {}).items():
        below = (*path, "states", name)
        if "states" in child:
            yield below
        yield from _states(child, below)


def _flattened(graph: Any, path: _Path) -> Any:
    """The graph with one of its states without children."""
    graph = copy.deepcopy(graph)
    state = graph
    for key in path:
        state = state[key]
    for key in ("states", "initial", "onDone", "type"):
        state.pop(key, None)
    return graph
