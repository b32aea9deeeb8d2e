"""A state graph as one SVG text: no scripts, no fonts, nothing from elsewhere.

Styles and the arrow head are the drawing's own, so several may stand in one page. It is readable
on light and on dark screens. Screen readers get the states and the ways between them as text.
"""

import hashlib
import re
from collections.abc import Iterator
from html import escape

from sequential.core.diagrams.frames import ROW, labels_width
from sequential.core.diagrams.layout import Box, Drawing, Line, Stop, draw
from sequential.core.diagrams.marks import Marks
from sequential.core.diagrams.wording import cut
from sequential.core.statechart.definition import Chart, State

# What XML cannot hold, and what would play tricks with the writing direction or on a terminal.
_NOT_SHOWN = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

# Each pair is a selector with what it says; {} is the drawing's own id.
_LIGHT = """
text{font:13px system-ui,sans-serif;text-anchor:middle;fill:#1f2937}
.small{font-size:11px;fill:#4b5563}
.page{fill:#fff}
.box{fill:#eef2ff;stroke:#6366f1;stroke-width:1.2}
.outer{fill:#fff;stroke:#6b7280}
.region{stroke-dasharray:5 3}
.final{fill:#ecfdf5;stroke:#059669}
.visited{stroke:#b45309;stroke-width:1.8}
.active{fill:#fde68a;stroke:#b45309;stroke-width:3}
.outer.active{fill:#fff;stroke-width:2}
.rule{stroke:#9ca3af;stroke-width:.6}
.line{fill:none;stroke:#6b7280;stroke-width:1.2}
.taken{stroke:#b45309;stroke-width:2.4}
.head,.dot{fill:#6b7280}
.taken-head{fill:#b45309}
.ground{fill:#fff;fill-opacity:.88}
"""
_DARK = """
text{fill:#e5e7eb}
.small{fill:#cbd5e1}
.page{fill:#111827}
.box{fill:#1e1b4b;stroke:#818cf8}
.outer{fill:#111827;stroke:#6b7280}
.final{fill:#022c22;stroke:#34d399}
.visited{stroke:#fbbf24}
.active{fill:#78350f;stroke:#fbbf24}
.outer.active{fill:#111827}
.line{stroke:#9ca3af}
.taken{stroke:#fbbf24}
.head,.dot{fill:#9ca3af}
.taken-head{fill:#fbbf24}
.ground{fill:#111827}
"""


def svg(chart: Chart, marks: Marks | None = None, name: str = "") -> str:
    """The drawing of a graph, with the states and ways of a run marked.

    `name` is written above it, else the graph's id. The same graph gives the same text.
    """
    marks = marks or Marks()
    drawing = draw(chart, marks, name)
    named = _text(name or chart.root.name)
    described = _text("\n".join(_sentences(chart, drawing, marks)))
    body = "\n".join(_parts(drawing, marks))
    own = "graph-" + hashlib.sha256(f"{named}\n{described}\n{body}".encode()).hexdigest()[:10]
    size = f'width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    view = f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}"'
    spoken = f'role="img" aria-labelledby="{own}-title {own}-text"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{own}" {size} {view} {spoken}>\n'
        f'<title id="{own}-title">{named}</title>\n'
        f'<desc id="{own}-text">{described}</desc>\n'
        f"<style>{_style(own)}</style>\n"
        f"<defs>{_head(own, 'head')}{_head(own, 'taken-head')}</defs>\n"
        f"{body.replace('url(#', f'url(#{own}-')}\n</svg>\n"
    )


def _style(own: str) -> str:
    """The styles, all below the id of the drawing."""
    return f"{_scoped(_LIGHT, own)}@media(prefers-color-scheme:dark){{{_scoped(_DARK, own)}}}"


def _scoped(rules: str, own: str) -> str:
    scoped = []
    for rule in rules.split("\n")[1:-1]:
        selectors, _, properties = rule.partition("{")
        all_ = ",".join(f"#{own} {one}" for one in selectors.split(","))
        scoped.append(f"{all_}{{{properties}")
    return "".join(scoped)


def _head(own: str, kind: str) -> str:
    shape = f'<path class="{kind}" d="M0,0 9,4.5 0,9z"/>'
    size = 'viewBox="0 0 9 9" refX="9" refY="4.5" markerWidth="9" markerHeight="9"'
    attributes = f'{size} markerUnits="userSpaceOnUse" orient="auto"'
    return f'<marker id="{own}-{kind}" {attributes}>{shape}</marker>'


def _parts(drawing: Drawing, marks: Marks) -> Iterator[str]:
    """Boxes, then lines, then labels: what is written later covers what was before."""
    yield f'<rect class="page" width="{drawing.width:.0f}" height="{drawing.height:.0f}"/>'
    for box in drawing.boxes.values():
        yield from _box(box, marks)
    for dot in drawing.dots:
        yield f'<circle class="dot" cx="{dot[0].x:.1f}" cy="{dot[0].start:.1f}" r="4"/>'
        yield _path(list(dot), "line", "head")
    for line in drawing.lines:
        kind, head = ("line taken", "taken-head") if line.arrow.is_taken else ("line", "head")
        yield _loop(line, kind, head) if line.arrow.is_loop else _path(line.stops, kind, head)
    for line in drawing.lines:
        yield from _label(line)


def _box(box: Box, marks: Marks) -> Iterator[str]:
    state = box.state
    classes = " ".join(_classes(state, marks))
    about = [box.title if state.parent is None else _path_to(state), state.description]
    yield f"<g><title>{_text(': '.join(filter(None, about)))}</title>"
    round_ = 15 if state.type == "history" else 8
    yield _rectangle(classes, box.x, box.y, box.width, box.height, round_)
    if state.type == "final":
        yield _rectangle(classes, box.x + 3, box.y + 3, box.width - 6, box.height - 6, 6)
    if state.children:
        y = box.y + box.header
        yield f'<path class="rule" d="M{box.x:.1f},{y:.1f} h{box.width:.1f}"/>'
    middle = box.x + box.width / 2
    first = 20.0 if state.type == "history" else 22.0
    yield f'<text x="{middle:.1f}" y="{box.y + first:.1f}">{_text(box.title)}</text>'
    for index, remark in enumerate(box.remarks):
        y = box.y + 36 + ROW * index
        yield f'<text class="small" x="{middle:.1f}" y="{y:.1f}">{_text(remark)}</text>'
    yield "</g>"


def _classes(state: State, marks: Marks) -> Iterator[str]:
    yield "box"
    if state.children:
        yield "outer"
    if state.type == "final":
        yield "final"
    if state.parent is not None and state.parent.type == "parallel":
        yield "region"
    if state.id in marks.visited:
        yield "visited"
    if state.id in marks.active:
        yield "active"


def _rectangle(kind: str, x: float, y: float, width: float, height: float, round_: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="{round_:.0f}"/>'
    )


def _path(stops: list[Stop], kind: str, head: str) -> str:
    """A smooth line: straight within rows, bent between them."""
    x, y = stops[0].x, stops[0].end
    way = [f"M{x:.1f},{y:.1f}"]
    has_turned = False
    for stop in stops[1:]:
        if stop.turn:
            middle = (stop.start + stop.end) / 2
            way.append(f"Q{x:.1f},{middle:.1f} {stop.x:.1f},{middle:.1f}")
            x, y, has_turned = stop.x, middle, True
            continue
        if has_turned:
            way.append(f"Q{stop.x:.1f},{y:.1f} {stop.x:.1f},{stop.start:.1f}")
            has_turned = False
        elif abs(stop.x - x) > 0.05:
            middle = (y + stop.start) / 2
            end = f"{stop.x:.1f},{stop.start:.1f}"
            way.append(f"C{x:.1f},{middle:.1f} {stop.x:.1f},{middle:.1f} {end}")
        else:
            way.append(f"V{stop.start:.1f}")
        if stop.end != stop.start:  # a piece without length would turn the head of the arrow
            way.append(f"V{stop.end:.1f}")
        x, y = stop.x, stop.end
    return f'<path class="{kind}" d="{" ".join(way)}" marker-end="url(#{head})"/>'


def _loop(line: Line, kind: str, head: str) -> str:
    x, start, end = line.stops[0].x, line.stops[0].start, line.stops[0].end
    way = f"M{x:.1f},{start:.1f} C{x + 34:.1f},{start - 6:.1f} {x + 34:.1f},{end + 6:.1f}"
    return f'<path class="{kind}" d="{way} {x:.1f},{end:.1f}" marker-end="url(#{head})"/>'


def _label(line: Line) -> Iterator[str]:
    labels = line.arrow.labels
    if not labels:
        return
    width, height = labels_width(line.arrow), ROW * len(labels)
    x, top = line.x, line.y - height / 2
    if line.arrow.is_loop:
        x += width / 2
    yield _rectangle("ground", x - width / 2, top, width, height, 3)
    for index, label in enumerate(labels):
        y = top + ROW * index + 11
        full = f"<title>{_text(label)}</title>" if cut(label) != label else ""
        yield f'<text class="small" x="{x:.1f}" y="{y:.1f}">{full}{_text(cut(label))}</text>'


def _sentences(chart: Chart, drawing: Drawing, marks: Marks) -> Iterator[str]:
    """The graph in words: what a screen reader says."""
    yield f"A graph of {len(chart.states) - 1} states."
    here = [_path_to(state) for state in chart.states if state.id in marks.active]
    if here:
        yield f"Active: {', '.join(here[1:] or here)}."
    for state in chart.states:
        if state.initial is not None:
            yield f"{_path_to(state)} begins in {state.initial.name}."
    for line in drawing.lines:
        arrow = line.arrow
        of = f" ({', '.join(arrow.labels)})" if arrow.labels else ""
        yield f"{_path_to(arrow.source)} leads to {_path_to(arrow.target)}{of}."


def _path_to(state: State) -> str:
    """The names that lead to a state, without the machine's."""
    if state.parent is None:
        return "It"
    return ".".join(one.name for one in [*reversed([*state.ancestors()][:-1]), state])


def _text(text: str) -> str:
    return escape(_NOT_SHOWN.sub("\ufffd", text))
