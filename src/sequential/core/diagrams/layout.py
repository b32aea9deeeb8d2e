"""Where everything is in a drawing, in pixels from its upper left corner."""

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from sequential.core.diagrams.arrows import Arrow, arrows_of
from sequential.core.diagrams.frames import Chain, Frame, frame
from sequential.core.diagrams.layers import Item
from sequential.core.diagrams.marks import Marks
from sequential.core.diagrams.routes import route
from sequential.core.statechart.definition import Chart, State

_MARGIN = 8


class Box(msgspec.Struct, eq=False):
    """The rectangle of a state; `header` is the height of its texts."""

    state: State
    title: str
    remarks: list[str]
    x: float
    y: float
    width: float
    height: float
    header: float


class Stop(msgspec.Struct):
    """A piece of a line that goes straight up or down at `x`; `turn` is where it changes over."""

    x: float
    start: float
    end: float
    turn: bool = False


Dot = tuple[Stop, Stop]  # where it is, and where it points to


class Line(msgspec.Struct, eq=False):
    """An arrow that is drawn; its label has its middle at (`x`, `y`)."""

    arrow: Arrow
    stops: list[Stop]
    x: float = 0.0
    y: float = 0.0


class Drawing(msgspec.Struct):
    """All that is to be drawn, boxes from the outside in; `dots` point to initial states."""

    width: float
    height: float
    boxes: dict[State, Box]
    lines: list[Line]
    dots: list[Dot]


def draw(chart: Chart, marks: Marks, name: str = "") -> Drawing:
    """Lay out a graph; `name` is what is written above it, else its id."""
    arrows = arrows_of(chart, marks)
    loops = {arrow.source: arrow for arrow in arrows if arrow.is_loop}
    outer = frame(chart.root, route(chart, arrows), loops, name)
    placing = _Placing()
    placing.put(outer, _MARGIN, _MARGIN)
    lines = [placing.line(arrow) for arrow in arrows if not arrow.is_loop]
    placing.spread_ends(lines)
    lines += [placing.loop(arrow) for arrow in loops.values()]
    width = outer.width + outer.loop_width + 2 * _MARGIN
    return Drawing(
        width, outer.height + 2 * _MARGIN, placing.boxes, lines, list(placing.dots.values())
    )


class _Placing:
    """Gives the frames their places, and collects what they hold."""

    def __init__(self) -> None:
        self.boxes: dict[State, Box] = {}
        self.dots: dict[State, Dot] = {}  # by the state that they point to
        self.chains: dict[Arrow, list[tuple[Frame, Chain]]] = defaultdict(list)

    def put(self, one: Frame, x: float, y: float) -> None:
        """Place a frame and all in it; the items of its chains become absolute."""
        self.boxes[one.state] = Box(
            one.state, one.title, one.remarks, x, y, one.width, one.height, one.header
        )
        for made, item in one.inner.values():
            self._move(item, one, x, y)
            spare = item.bottom - item.top - made.height
            self.put(made, item.x - item.width / 2, item.top + spare / 2)
        for chain in one.chains:
            self.chains[chain.leg.arrow].append((one, chain))
            for item in chain.items:
                self._move(item, one, x, y)
        if one.dot is not None:
            self._move(one.dot, one, x, y)
            middle = one.dot.top + 4
            first = self._end(one.state.first_initial, below=False)
            self.dots[one.state.first_initial] = Stop(one.dot.x, middle, middle), first

    def line(self, arrow: Arrow) -> Line:
        """The line of an arrow, from box to box; its ends still at the middle of their sides."""
        legs = sorted(self.chains[arrow], key=lambda pair: _sequence(arrow, pair[0].state, pair[1]))
        line = Line(arrow, [])
        first, last = legs[0][1].leg, legs[-1][1].leg
        if first.start is not None:
            line.stops.append(self._end(arrow.source, below=first.way != "up"))
        for one, chain in legs:
            line.stops += self._stops(one, chain)
            if chain.label is not None:
                line.x, line.y = chain.label.x, (chain.label.top + chain.label.bottom) / 2
        if last.end is not None:
            line.stops.append(self._end(arrow.target, below=last.way != "down"))
        return line

    def loop(self, arrow: Arrow) -> Line:
        """An arrow from the right side of a box to itself."""
        box = self.boxes[arrow.source]
        x, y = box.x + box.width, box.y + min(box.height / 2, 40.0)
        return Line(arrow, [Stop(x, y - 8, y + 8)], x + 32, y)

    def spread_ends(self, lines: list[Line]) -> None:
        """Let arrows that meet a box at one side not meet it at one point."""
        ends: dict[tuple[State, float], list[tuple[float, Stop]]] = defaultdict(list)
        for state, (dot, end) in self.dots.items():
            ends[state, end.start].append((dot.x, end))
        for line in lines:
            for state, own, next_one in (
                (line.arrow.source, line.stops[0], line.stops[1]),
                (line.arrow.target, line.stops[-1], line.stops[-2]),
            ):
                if own.start == own.end and not self._is_header(line.arrow, state):
                    ends[state, own.start].append((next_one.x, own))
        for (state, _), found in ends.items():
            box = self.boxes[state]
            step = min(22.0, box.width * 0.7 / len(found))
            found.sort(key=lambda pair: pair[0])
            for index, (_, stop) in enumerate(found):
                stop.x = box.x + box.width / 2 + step * (index - (len(found) - 1) / 2)

    def _is_header(self, arrow: Arrow, state: State) -> bool:
        other = arrow.target if state is arrow.source else arrow.source
        return other.is_within(state)

    def _end(self, state: State, *, below: bool) -> Stop:
        box = self.boxes[state]
        y = box.y + box.height if below else box.y
        return Stop(box.x + box.width / 2, y, y)

    def _stops(self, one: Frame, chain: Chain) -> Iterator[Stop]:
        box = self.boxes[one.state]
        for item in chain.items:
            if _is_at_edge(chain, item):
                top = box.y + box.header if chain.leg.is_middle else box.y
                y = top if item.layer == 0 else box.y + box.height
                yield Stop(item.x, y, y)
            elif chain.leg.way == "up":
                yield Stop(item.x, item.bottom, item.top)
            else:
                yield Stop(item.x, item.top, item.bottom, turn=chain.leg.way == "turn")

    def _move(self, item: Item, one: Frame, x: float, y: float) -> None:
        item.x += x - one.left
        item.top += y + one.above
        item.bottom += y + one.above


def _is_at_edge(chain: Chain, item: Item) -> bool:
    starts = chain.leg.start is None and item is chain.items[0]
    return starts or (chain.leg.end is None and item is chain.items[-1])


def _sequence(arrow: Arrow, box: State, chain: Chain) -> tuple[int, int]:
    """The legs in the direction of the arrow: out of boxes, across, into boxes."""
    if chain.leg.is_middle:
        return 1, 0
    leaves = arrow.source.is_within(box) and not arrow.target.is_within(box)
    return (0, -box.order) if leaves else (2, box.order)
