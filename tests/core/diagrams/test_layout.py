"""Where things are in a drawing: boxes in boxes, beside one another, and lines that meet them."""

import math

import pytest

from sequential.core.diagrams.frames import ROW, labels_width
from sequential.core.diagrams.layout import Box, Drawing, Line, draw
from sequential.core.diagrams.marks import Marks
from support.drawings import FULFILMENT, HOSTILE, Graph, chart, random_graphs

Rectangle = tuple[float, float, float, float]


def drawn(graph: Graph) -> Drawing:
    return draw(chart(graph), Marks())


def rectangle(box: Box) -> Rectangle:
    return box.x, box.y, box.x + box.width, box.y + box.height


def label(line: Line) -> Rectangle:
    width, height = labels_width(line.arrow), ROW * len(line.arrow.labels)
    left = line.x if line.arrow.is_loop else line.x - width / 2
    return left, line.y - height / 2, left + width, line.y + height / 2


def overlap(one: Rectangle, other: Rectangle) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > 0.01 and down > 0.01


def is_inside(one: Rectangle, other: Rectangle) -> bool:
    starts = one[0] >= other[0] - 0.01 and one[1] >= other[1] - 0.01
    return starts and one[2] <= other[2] + 0.01 and one[3] <= other[3] + 0.01


def is_on_edge(x: float, y: float, box: Box) -> bool:
    left, top, right, bottom = rectangle(box)
    edges = (top, bottom, top + box.header if box.state.children else top)
    return left <= x <= right and any(math.isclose(y, edge, abs_tol=0.01) for edge in edges)


@pytest.mark.parametrize("graph", [FULFILMENT, HOSTILE, *random_graphs(120)])
def test_nothing_covers_anything_else(graph: Graph) -> None:
    drawing = drawn(graph)
    boxes = drawing.boxes
    page = (0.0, 0.0, drawing.width, drawing.height)
    assert all(is_inside(rectangle(box), page) for box in boxes.values())
    for state, box in boxes.items():
        inside = [boxes[child] for child in state.children.values()]
        for child in inside:
            assert is_inside(rectangle(child), rectangle(box))
            assert child.y >= box.y + box.header
            assert not any(
                overlap(rectangle(child), rectangle(one)) for one in inside if one is not child
            )
    labels = [label(line) for line in drawing.lines if line.arrow.labels]
    leaves = [rectangle(box) for state, box in boxes.items() if not state.children]
    for index, one in enumerate(labels):
        assert is_inside(one, page)
        assert not any(overlap(one, other) for other in labels[:index])
        assert not any(overlap(one, leaf) for leaf in leaves)


@pytest.mark.parametrize("graph", [FULFILMENT, HOSTILE, *random_graphs(120)])
def test_lines_lead_from_box_to_box(graph: Graph) -> None:
    drawing = drawn(graph)
    for line in drawing.lines:
        first, last = line.stops[0], line.stops[-1]
        source, target = drawing.boxes[line.arrow.source], drawing.boxes[line.arrow.target]
        if line.arrow.is_loop:
            assert first.x == source.x + source.width
        else:
            assert is_on_edge(first.x, first.start, source)
            assert is_on_edge(last.x, last.end, target)


def by_name(drawing: Drawing) -> dict[str, Box]:
    return {state.name: box for state, box in drawing.boxes.items()}


def test_the_longest_way_decides_the_row() -> None:
    on = {"a": {"on": {"X": "b", "Y": "end"}}, "b": {"on": {"X": "c"}}, "c": {"on": {"X": "end"}}}
    boxes = by_name(drawn({"initial": "a", "states": {"end": {}, **on}}))
    rows = [boxes[name].y for name in ("a", "b", "c", "end")]
    assert rows == sorted(set(rows))


def test_the_initial_state_is_at_the_top_whatever_leads_back_to_it() -> None:
    states = {"lost": {"on": {"X": "a"}}, "a": {"on": {"X": "b"}}, "b": {"on": {"X": "a"}}}
    boxes = by_name(drawn({"initial": "a", "states": states}))
    assert boxes["a"].y == boxes["lost"].y < boxes["b"].y


def test_regions_stand_side_by_side() -> None:
    boxes = by_name(drawn(FULFILMENT))
    payment, stock = boxes["payment"], boxes["stock"]
    assert (payment.y, payment.height) == (stock.y, stock.height)
    assert payment.x + payment.width < stock.x


def test_what_nothing_else_leads_to_stays_near() -> None:
    boxes = by_name(drawn(FULFILMENT))
    one, other = sorted((boxes["prepare"], boxes["cancelled"]), key=lambda box: box.x)
    assert other.x - (one.x + one.width) < 150


def test_lines_that_meet_a_box_meet_it_at_different_points() -> None:
    states: Graph = {name: {"on": {"GO": "end"}} for name in "abcdef"}
    drawing = drawn({"initial": "a", "states": {**states, "end": {}}})
    assert len({line.stops[-1].x for line in drawing.lines}) == 6


def chain(length: int) -> Graph:
    """Each state leads to the next, and to the last."""
    states: Graph = {
        f"s{number}": {"on": {"NEXT": f"s{number + 1}", "FAIL": "failed"}}
        for number in range(length)
    }
    return {"initial": "s0", "states": {**states, f"s{length}": {}, "failed": {}}}


def nested(depth: int) -> Graph:
    graph: Graph = {"initial": "x", "states": {"x": {"on": {"A": "y"}}, "y": {}}}
    for _ in range(depth):
        graph = {"initial": "x", "states": {"x": graph, "y": {"on": {"B": "x"}}}}
    return graph


@pytest.mark.parametrize("graph", [chain(1_000), nested(48)], ids=["long", "deep"])
def test_large_graphs_are_drawn(graph: Graph) -> None:
    compiled = chart(graph)
    drawing = draw(compiled, Marks())
    assert list(drawing.boxes) == compiled.states
    numbers = [value for box in drawing.boxes.values() for value in rectangle(box)]
    assert all(math.isfinite(number) for number in numbers)
