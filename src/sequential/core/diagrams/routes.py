"""The way of an arrow through nested boxes: one leg in each box that it passes.

An arrow between `a.b` and `c.d` leaves `a` at its lower edge, leads from `a` to `c`, and comes into
`c` at its upper edge; one that leads back goes upwards all the way.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import msgspec

from sequential.core.diagrams.arrows import Arrow
from sequential.core.diagrams.ranks import rank_children
from sequential.core.statechart.definition import Chart, State

Way = Literal["down", "up", "turn"]  # a turn goes down first: it leads to a box in the same row


class Leg(msgspec.Struct, eq=False):
    """The part of an arrow inside one box.

    Without a child to start or end at it is at the edge of the box. The middle leg has the label.
    """

    arrow: Arrow
    start: State | None
    end: State | None
    way: Way
    is_middle: bool = False


class Routes(msgspec.Struct, eq=False):
    """Rows of the children of each state, and the legs that arrows have in it."""

    ranks: dict[State, dict[State, int]]
    legs: dict[State, list[Leg]]


def route(chart: Chart, arrows: Iterable[Arrow]) -> Routes:
    """Decide which way each arrow goes; loops have no legs."""
    meetings = [(arrow, _meeting(arrow)) for arrow in arrows if not arrow.is_loop]
    pairs: dict[State, list[tuple[State, State]]] = defaultdict(list)
    for arrow, box in meetings:
        start, end = _child(box, arrow.source), _child(box, arrow.target)
        if start is not None and end is not None:
            pairs[box].append((start, end))
    ranks = {one: rank_children(one, pairs[one]) for one in chart.states if one.children}
    legs: dict[State, list[Leg]] = defaultdict(list)
    for arrow, box in meetings:
        start, end = _child(box, arrow.source), _child(box, arrow.target)
        way = _way(ranks[box], start, end)
        out: Way = "up" if way == "up" else "down"
        into: Way = "down" if way == "down" else "up"
        for outer in arrow.source.ancestors(box) if start is not None else ():
            legs[outer].append(Leg(arrow, _child(outer, arrow.source), None, out))
        legs[box].append(Leg(arrow, start, end, way, is_middle=True))
        for outer in arrow.target.ancestors(box) if end is not None else ():
            legs[outer].append(Leg(arrow, None, _child(outer, arrow.target), into))
    return Routes(ranks, legs)


def _meeting(arrow: Arrow) -> State:
    """The innermost box that both ends are in; an end that contains the other is that box."""
    source, target = arrow.source, arrow.target
    if target.is_within(source):
        return source
    if source.is_within(target):
        return target
    return next(one for one in source.ancestors() if target.is_within(one))


def _child(box: State, state: State) -> State | None:
    """The child of the box that the state is, or is in; None for the box itself."""
    if state is box:
        return None
    child = state
    for one in state.ancestors(box):
        child = one
    return child


def _way(ranks: dict[State, int], start: State | None, end: State | None) -> Way:
    if start is None:
        return "down"
    if end is None:
        return "up"
    if ranks[start] == ranks[end]:
        return "turn"
    return "down" if ranks[start] < ranks[end] else "up"
