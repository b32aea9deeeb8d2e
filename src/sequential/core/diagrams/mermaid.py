"""A state graph as Mermaid text (stateDiagram-v2), which many places draw that show Markdown.

Mermaid has no arrows between a state and what it contains: those begin at a box "anywhere" in it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

from sequential.core.diagrams.arrows import Arrow, arrows_of
from sequential.core.diagrams.marks import Marks
from sequential.core.diagrams.wording import cut, remarks, title
from sequential.core.statechart.definition import Chart, State

# Mermaid has no quoting: `#58;` is a colon. What is invisible is not for a terminal either.
_INVISIBLE = r"\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_SPECIAL = re.compile(rf'[;":#{{}}<>%\\`&{_INVISIBLE}]')
_VISITED = "classDef visited stroke:#b45309,stroke-width:2px"
_ACTIVE = "classDef active fill:#fde68a,stroke:#b45309,stroke-width:3px,color:#1f2937"


def mermaid(chart: Chart, marks: Marks | None = None) -> str:
    """The text of a graph, with the states of a run marked. The same graph gives the same text."""
    return "\n".join(_Writing(chart, marks or Marks()).lines()) + "\n"


class _Writing:
    """States have the ids s0, s1, ...: their names are labels, which may hold anything."""

    def __init__(self, chart: Chart, marks: Marks) -> None:
        self.chart = chart
        self.marks = marks
        self.arrows = arrows_of(chart, marks)
        self.from_anywhere: dict[State, list[Arrow]] = defaultdict(list)
        for arrow in self.arrows:
            if arrow.target.is_within(arrow.source):
                self.from_anywhere[arrow.source].append(arrow)

    def lines(self) -> Iterator[str]:
        root = self.chart.root
        yield "stateDiagram-v2"
        if root.type == "parallel":  # Mermaid has no regions outside of a state
            yield from self._composite(root, 1)
        else:
            yield from self._inside(root, 1)
        for arrow in self.arrows:
            yield from self._arrow(arrow)
        for name, style, ids in (
            ("visited", _VISITED, self.marks.visited - self.marks.active),
            ("active", _ACTIVE, self.marks.active),
        ):
            marked = [f"s{one.order}" for one in self.chart.states if self._is_marked(one, ids)]
            if marked:
                yield f"  {style}"
                yield f"  class {','.join(marked)} {name}"

    def _composite(self, state: State, depth: int) -> Iterator[str]:
        indent = "  " * depth
        yield f'{indent}state "{_escaped(title(state))}" as s{state.order} {{'
        yield from self._inside(state, depth + 1)
        yield f"{indent}}}"

    def _inside(self, state: State, depth: int) -> Iterator[str]:
        indent = "  " * depth
        if state.type == "compound":
            yield f"{indent}[*] --> s{state.first_initial.order}"
            if state in self.from_anywhere:
                yield f'{indent}state "anywhere" as s{state.order}any'
        for child in state.children.values():
            if state.type == "parallel" and child in state.regions[1:]:
                yield f"{indent}--"
            if child.children:
                yield from self._composite(child, depth)
            else:
                yield from self._leaf(child, indent)

    def _leaf(self, state: State, indent: str) -> Iterator[str]:
        own = f"s{state.order}"
        yield f'{indent}state "{_escaped(title(state))}" as {own}'
        for text in [*remarks(state), *([state.description] if state.description else [])]:
            yield f"{indent}{own} : {_escaped(cut(text))}"
        if state.type == "final":
            yield f"{indent}{own} --> [*]"

    def _arrow(self, arrow: Arrow) -> Iterator[str]:
        source, target = arrow.source, arrow.target
        start = f"s{source.order}"
        if target.is_within(source):
            if source.type == "parallel":
                return  # there is no place for "anywhere" beside its regions
            start += "any"
        while source.is_within(target):  # entering it again begins at its initial state
            inner = next(one for one in (source, *source.ancestors()) if one.parent is target)
            target = inner if target.type == "parallel" else target.first_initial
        label = " / ".join(_escaped(cut(text)) for text in arrow.labels)
        if source is self.chart.root and target is source:
            return
        yield f"  {start} --> s{target.order}" + (f" : {label}" if label else "")

    def _is_marked(self, state: State, ids: frozenset[str]) -> bool:
        return state.id in ids and state.is_atomic


def _escaped(text: str) -> str:
    line = " ".join(text.split()) or " "
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", line)
