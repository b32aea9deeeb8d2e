"""Placing boxes in layers: who stands left of whom, and where, so that few lines cross or bend.

Only numbers here; what the boxes mean is for `layout`. The way is Sugiyama's: a line that passes
layers has a joint in each of them, layers are put in order by the middle of their neighbours, each
box is moved towards its neighbours as far as the others let it, and lines are made straight where
nothing is in their way.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from math import inf

import msgspec

_SWEEPS = 13
_MOST_COUNTED = 4_000  # links whose crossings are counted; more are left in the first order


class Item(msgspec.Struct, eq=False):
    """A box, a label or a joint of a line; `x` is its middle once it was placed."""

    width: float
    height: float
    layer: int
    space: float  # to the next one, at least
    weight: float = 1.0  # how much it insists on its place
    x: float = 0.0
    top: float = 0.0  # of its layer
    bottom: float = 0.0


class Link(msgspec.Struct, eq=False):
    """A piece of a line between neighbouring layers; offsets are from the middles of the items."""

    upper: Item
    lower: Item
    upper_offset: float = 0.0
    lower_offset: float = 0.0


def place(
    layers: Sequence[list[Item]], links: Sequence[Link], lines: Sequence[Sequence[Item]], gap: float
) -> None:
    """Give every item its `x`, and its layer's `top` and `bottom`. The layers are put in order.

    `lines` are the items that should stand in a vertical line: the joints of an arrow.
    """
    above: dict[Item, list[Link]] = defaultdict(list)
    below: dict[Item, list[Link]] = defaultdict(list)
    for link in links:
        above[link.lower].append(link)
        below[link.upper].append(link)
    _order(layers, links, above, below)
    _spread(layers, above, below)
    _straighten(layers, lines)
    y = 0.0
    for layer in layers:
        height = max((item.height for item in layer), default=0.0)
        for item in layer:
            item.top, item.bottom = y, y + height
        y += height + gap


Links = dict[Item, list[Link]]


def _order(layers: Sequence[list[Item]], links: Sequence[Link], above: Links, below: Links) -> None:
    """Sort the layers so that lines cross as little as some sweeps find out."""
    if len(links) > _MOST_COUNTED:
        return
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            _sort(layer, above if down else below, layers, down=down)
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    for layer, found in zip(layers, best, strict=True):
        layer[:] = found


def _sort(layer: list[Item], links: Links, layers: Sequence[list[Item]], *, down: bool) -> None:
    if not layer:
        return
    number = layer[0].layer + (-1 if down else 1)
    if not 0 <= number < len(layers):
        return
    position = {item: index for index, item in enumerate(layers[number])}
    wanted = {}
    for index, item in enumerate(layer):
        others = [
            position[link.upper] + _share(link.upper, link.upper_offset)
            if down
            else position[link.lower] + _share(link.lower, link.lower_offset)
            for link in links[item]
        ]
        wanted[item] = sum(others) / len(others) if others else float(index)
    layer.sort(key=wanted.__getitem__)


def _crossings(layers: Sequence[list[Item]], below: Links) -> int:
    count = 0
    for upper, lower in pairwise(layers):
        position = {item: index for index, item in enumerate(lower)}
        ends = sorted(
            (
                index + _share(item, link.upper_offset),
                position[link.lower] + _share(link.lower, link.lower_offset),
            )
            for index, item in enumerate(upper)
            for link in below[item]
        )
        seen: list[float] = []
        for _, end in ends:
            count += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return count


def _share(item: Item, offset: float) -> float:
    """Where in an item an offset is: from -0.5, its left, to 0.5."""
    return offset / item.width if item.width else 0.0


def _spread(layers: Sequence[list[Item]], above: Links, below: Links) -> None:
    for layer in layers:
        _settle(layer, [0.0] * len(layer))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        last = sweep >= _SWEEPS - 2
        for layer in layers if down else reversed(layers):
            wanted = [
                _wanted(item, above[item] if down or last else (), below[item] if not down or last
                        else ())
                for item in layer
            ]  # fmt: skip
            _settle(layer, wanted)


def _wanted(item: Item, above: Sequence[Link], below: Sequence[Link]) -> float:
    places = [link.upper.x + link.upper_offset - link.lower_offset for link in above]
    places += [link.lower.x + link.lower_offset - link.upper_offset for link in below]
    # What nothing holds on this side is drawn towards the middle, or it would drift away.
    return sum(places) / len(places) if places else 0.7 * item.x


def _settle(layer: Sequence[Item], wanted: Sequence[float]) -> None:
    """Put each item as near to where it wants to be as the order and the spaces allow.

    Items that push one another form a block, whose place is the mean of their wishes.
    """
    blocks: list[tuple[float, float, int]] = []  # place, weight, number of items
    offsets: list[float] = []
    offset = 0.0
    for index, item in enumerate(layer):
        if index:
            offset += _distance(layer[index - 1], item)
        offsets.append(offset)
        place, weight, count = wanted[index] - offset, item.weight, 1
        while blocks and blocks[-1][0] > place:
            other, other_weight, other_count = blocks.pop()
            both = weight + other_weight
            place = (place * weight + other * other_weight) / both
            weight, count = both, count + other_count
        blocks.append((place, weight, count))
    places = [place for place, _, count in blocks for _ in range(count)]
    for item, place, distance in zip(layer, places, offsets, strict=True):
        item.x = place + distance


def _straighten(layers: Sequence[list[Item]], lines: Sequence[Sequence[Item]]) -> None:
    """Put the items of each line below one another, in as few pieces as their layers permit."""
    before: dict[Item, Item] = {}
    after: dict[Item, Item] = {}
    for layer in layers:
        for one, other in pairwise(layer):
            before[other], after[one] = one, other
    for line in lines:
        piece: list[Item] = []
        least, most = -inf, inf
        for item in line:
            low = before[item].x + _distance(before[item], item) if item in before else -inf
            high = after[item].x - _distance(item, after[item]) if item in after else inf
            if max(least, low) > min(most, high):
                _align(piece, least, most)
                piece, least, most = [], -inf, inf
            piece.append(item)
            least, most = max(least, low), min(most, high)
        _align(piece, least, most)


def _align(piece: Sequence[Item], least: float, most: float) -> None:
    if len(piece) > 1:
        x = sum(item.x for item in piece) / len(piece)
        for item in piece:
            item.x = max(least, min(x, most))


def _distance(one: Item, other: Item) -> float:
    """Between the middles of neighbours, at least."""
    return (one.width + other.width) / 2 + max(one.space, other.space)
