"""Which children of a state stand in which row: arrows lead down, except those that lead back."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sequential.core.statechart.definition import State

Pairs = Iterable[tuple[State, State]]


def rank_children(state: State, pairs: Pairs) -> dict[State, int]:
    """The row of each child, from 0, by the longest way to it that does not go round in a circle.

    `pairs` are the arrows between children. The regions of a parallel state stand side by side.
    """
    children = list(state.children.values())
    if state.type != "compound":
        return dict.fromkeys(children, 0)
    following: dict[State, list[State]] = defaultdict(list)
    for source, target in pairs:
        following[source].append(target)
    first = [state.first_initial, *children]
    order, forward = _without_circles(first, following)
    ranks = dict.fromkeys(children, 0)
    for one in order:
        for other in forward[one]:
            ranks[other] = max(ranks[other], ranks[one] + 1)
    return ranks


def _without_circles(
    first: Sequence[State], following: dict[State, list[State]]
) -> tuple[list[State], dict[State, list[State]]]:
    """The states so that arrows lead forward, and the arrows without those that close a circle.

    Nor does an arrow count that leads into what was reached before: the initial state stays first.
    """
    done: list[State] = []
    forward: dict[State, list[State]] = defaultdict(list)
    reached_from: dict[State, State] = {}
    for start in first:
        if start in reached_from:
            continue
        reached_from[start] = start
        path = [(start, iter(following[start]))]
        on_path = {start}
        while path:
            state, rest = path[-1]
            other = next(rest, None)
            if other is None:
                path.pop()
                on_path.discard(state)
                done.append(state)
            elif other not in on_path and reached_from.get(other, start) is start:
                forward[state].append(other)
                if other not in reached_from:
                    reached_from[other] = start
                    on_path.add(other)
                    path.append((other, iter(following[other])))
    return done[::-1], forward
