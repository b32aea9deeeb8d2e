"""The inside of each box: its children in rows, with the lines between them."""

import msgspec

from sequential.core.diagrams.arrows import Arrow
from sequential.core.diagrams.layers import Item, Link, place
from sequential.core.diagrams.routes import Leg, Routes
from sequential.core.diagrams.text_size import text_width
from sequential.core.diagrams.wording import cut, remarks, title
from sequential.core.statechart.definition import State

TITLE, SMALL = 13, 11  # sizes of the two fonts, in pixels
ROW = 14  # height of a line of small text
_PADDING, _GAP, _BELOW_HEADER = 18, 18, 12
_SPACE = {"box": 34.0, "label": 16.0, "joint": 14.0}
_MOST_JOINTS = 3_000  # of one box; lines beyond it are drawn straight


class Chain(msgspec.Struct, eq=False):
    """What a leg passes inside a box, in the direction of the arrow; without children of it."""

    leg: Leg
    items: list[Item]
    label: Item | None


class Frame(msgspec.Struct, eq=False):
    """A box with all that is in it, still without a place of its own."""

    state: State
    title: str
    remarks: list[str]
    width: float
    height: float
    header: float
    loop: Arrow | None = None
    inner: "dict[State, tuple[Frame, Item]]" = {}
    chains: list[Chain] = []
    dot: Item | None = None  # where the initial state is pointed to from
    ports: dict[Arrow, float] = {}  # where arrows pass its edge, from its left
    left: float = 0.0  # what to take away from the `x` of items
    above: float = 0.0  # what to add to their `top`

    @property
    def loop_width(self) -> float:
        """The room that an arrow to itself takes at its right."""
        return 34 + labels_width(self.loop) if self.loop else 0.0


def labels_width(arrow: Arrow) -> float:
    """The width of the label of an arrow, in pixels."""
    return max((text_width(cut(text), SMALL) + 6 for text in arrow.labels), default=0.0)


def frame(state: State, routes: Routes, loops: dict[State, Arrow], name: str = "") -> Frame:
    """The frame of a state, by those of its children."""
    text = cut(name or title(state))
    lines = [cut(line) for line in remarks(state)]
    width = max([text_width(text, TITLE) + 28, *[text_width(line, SMALL) + 24 for line in lines]])
    height = 34.0 + ROW * len(lines)
    if state.type == "history":
        width = height = 30.0
    made = Frame(state, text, lines, max(width, 30.0), height, height, loops.get(state))
    if state.children:
        _fill(made, routes, {one: frame(one, routes, loops) for one in state.children.values()})
    if made.loop:
        made.height = max(made.height, 20.0 + ROW * len(made.loop.labels))
    return made


def _fill(outer: Frame, routes: Routes, frames: dict[State, Frame]) -> None:
    """Place the children of a box and make it as large as they need it."""
    ranks = routes.ranks[outer.state]
    outer.inner = {
        one: (
            made,
            Item(made.width + made.loop_width, made.height, 2 * ranks[one] + 2, _SPACE["box"]),
        )
        for one, made in frames.items()
    }
    legs = routes.legs.get(outer.state, [])
    turns = any(leg.way == "turn" for leg in legs)  # their labels stand below the last row
    work = _Filling(outer, 2 * max(ranks.values()) + (4 if turns else 3))
    if outer.state.type == "compound":
        work.point_to(outer.state.first_initial)
    for leg in legs:
        work.lay(leg)
    work.finish()


class _Filling:
    """The items and links of one box, on their way into layers."""

    def __init__(self, outer: Frame, last: int) -> None:
        self.outer = outer
        self.last = last
        self.layers: list[list[Item]] = [[] for _ in range(last + 1)]
        self.links: list[Link] = []
        self.ports: dict[Arrow, Item] = {}
        self.joints = 0
        for _, item in outer.inner.values():
            self.layers[item.layer].append(item)

    def point_to(self, initial: State) -> None:
        """Put the dot above the initial state."""
        self.outer.dot = dot = self._add(Item(8, 8, 0, _SPACE["joint"]))
        frame_, item = self.outer.inner[initial]
        joint = self._add(Item(0, 0, 1, _SPACE["joint"], 2.0))
        self.links.append(Link(dot, joint))
        self.links.append(Link(joint, item, 0.0, -frame_.loop_width / 2))

    def lay(self, leg: Leg) -> None:
        """Lead the leg of an arrow through the layers."""
        start = self._end(leg, leg.start, at_top=leg.way == "down")
        end = self._end(leg, leg.end, at_top=leg.way == "up")
        step = -1 if leg.way == "up" else 1
        between = range(start.layer + step, end.layer, step)
        if leg.way == "turn":
            between = range(start.layer + 1, start.layer + 2)
        labels = leg.arrow.labels if leg.is_middle else []
        chain = Chain(leg, [], None)
        for layer in between:
            if labels and chain.label is None:
                size = labels_width(leg.arrow), float(ROW * len(labels) + 2)
                chain.label = self._add(Item(*size, layer, _SPACE["label"], 2.0))
                chain.items.append(chain.label)
            elif self.joints < _MOST_JOINTS:
                self.joints += 1
                chain.items.append(self._add(Item(0, 0, layer, _SPACE["joint"], 4.0)))
        for one, other in zip([start, *chain.items], [*chain.items, end], strict=True):
            self._link(leg, one, other, start, end)
        if leg.start is None:
            chain.items.insert(0, start)
        if leg.end is None:
            chain.items.append(end)
        self.outer.chains.append(chain)

    def finish(self) -> None:
        """Place all, and fit the box around it."""
        outer = self.outer
        place(self.layers, self.links, [chain.items for chain in outer.chains], _GAP)
        items = [item for layer in self.layers for item in layer]
        left = min(item.x - item.width / 2 for item in items) - _PADDING
        right = max(item.x + item.width / 2 for item in items) + _PADDING
        top, bottom = min(item.top for item in items), max(item.bottom for item in items)
        spare = max(outer.width - (right - left), 0.0)
        outer.width = right - left + spare
        outer.left = left - spare / 2
        outer.above = outer.header + _BELOW_HEADER - top
        outer.height = outer.above + bottom + (0 if self.layers[self.last] else _PADDING)
        outer.ports = {arrow: item.x - outer.left for arrow, item in self.ports.items()}
        if outer.state.type == "parallel":
            for region, item in outer.inner.values():  # side by side, of one height
                if region.state.type != "history":
                    region.height = item.height = item.bottom - item.top

    def _add(self, item: Item) -> Item:
        self.layers[item.layer].append(item)
        return item

    def _end(self, leg: Leg, child: State | None, *, at_top: bool) -> Item:
        """The child that a leg starts or ends at, else a new item at the edge of the box."""
        if child is not None:
            return self.outer.inner[child][1]
        port = self._add(Item(0, 0, 0 if at_top else self.last, _SPACE["joint"], 0.5))
        self.ports[leg.arrow] = port
        return port

    def _link(self, leg: Leg, one: Item, other: Item, start: Item, end: Item) -> None:
        if abs(one.layer - other.layer) != 1:
            return  # joints were left out
        offsets = {
            item: self._offset(leg.arrow, child)
            for item, child in ((start, leg.start), (end, leg.end))
            if child is not None
        }
        upper, lower = (one, other) if one.layer < other.layer else (other, one)
        self.links.append(Link(upper, lower, offsets.get(upper, 0.0), offsets.get(lower, 0.0)))

    def _offset(self, arrow: Arrow, child: State) -> float:
        """Where the arrow meets a child, from the middle of its item."""
        made, item = self.outer.inner[child]
        port = made.ports.get(arrow)
        return (made.width / 2 if port is None else port) - item.width / 2
