"""Boxes in layers: nothing overlaps, few lines cross, and lines are straight where they can be."""

import random
from itertools import pairwise

import pytest

from sequential.core.diagrams.layers import Item, Link, place


def items(layer: int, count: int, width: float = 10.0) -> list[Item]:
    return [Item(width, 20.0, layer, 5.0) for _ in range(count)]


def crossings(links: list[Link]) -> int:
    count = 0
    for index, one in enumerate(links):
        for other in links[:index]:
            if one.upper.layer == other.upper.layer:
                sides = (one.upper.x - other.upper.x) * (one.lower.x - other.lower.x)
                count += sides < 0
    return count


def test_layers_stand_below_one_another() -> None:
    layers = [items(0, 2), [], items(2, 1)]
    place(layers, [], [], 7.0)
    assert {(item.top, item.bottom) for item in layers[0]} == {(0.0, 20.0)}
    assert (layers[2][0].top, layers[2][0].bottom) == (34.0, 54.0)


def test_a_box_stands_below_the_middle_of_its_neighbours() -> None:
    upper, (lower,) = items(0, 3), items(1, 1)
    place([upper, [lower]], [Link(one, lower) for one in upper], [], 5.0)
    assert lower.x == pytest.approx(sum(one.x for one in upper) / 3)


def test_lines_that_can_go_without_crossing_do() -> None:
    upper, lower = items(0, 6), items(1, 6)
    links = [Link(one, other) for one, other in zip(upper, reversed(lower), strict=True)]
    assert crossings(links) == 0  # all at 0 as yet
    place([upper, lower], links, [], 5.0)
    assert crossings(links) == 0
    assert [link.lower for link in links] == sorted(lower, key=lambda item: item.x)


def test_where_on_a_box_lines_begin_decides_their_order() -> None:
    (wide,), lower = items(0, 1, 100.0), items(1, 4)
    links = [Link(wide, one, 40.0 - 25 * index) for index, one in enumerate(lower)]
    place([[wide], lower], links, [], 5.0)
    assert lower == [link.lower for link in reversed(links)]


@pytest.mark.parametrize("seed", range(30))
def test_nothing_overlaps_whatever_leads_where(seed: int) -> None:
    draw = random.Random(seed)
    layers = [items(number, draw.randrange(1, 8), draw.uniform(0, 90)) for number in range(6)]
    links = [
        Link(draw.choice(upper), draw.choice(lower), draw.uniform(-20, 20))
        for upper, lower in pairwise(layers)
        for _ in range(draw.randrange(12))
    ]
    lines = [[draw.choice(layer) for layer in layers] for _ in range(3)]
    place(layers, links, lines, 5.0)
    for layer in layers:
        for one, other in pairwise(layer):
            assert other.x - one.x >= (one.width + other.width) / 2 + 5.0 - 1e-6


def test_a_line_is_straight_where_nothing_is_in_its_way() -> None:
    line = [Item(0, 0, number, 5.0) for number in range(5)]
    end = items(5, 1)[0]
    start = items(0, 1)
    layers = [[*start, line[0]], *([one] for one in line[1:]), [end]]
    links = [Link(one, other) for one, other in pairwise(line)]
    place(layers, [*links, Link(line[-1], end)], [line], 5.0)
    assert len({round(one.x, 6) for one in line}) == 1
    assert line[0].x >= start[0].x + 10.0 - 1e-6
