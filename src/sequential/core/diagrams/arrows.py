"""The arrows of a drawing: all transitions from one state to another are one arrow."""

import msgspec

from sequential.core.diagrams.marks import Marks
from sequential.core.diagrams.wording import label
from sequential.core.statechart.definition import Chart, State
from sequential.core.statechart.lint import transitions_of


class Arrow(msgspec.Struct, eq=False):
    """Leads from a state to another, or to itself; `labels` has no text twice."""

    source: State
    target: State
    labels: list[str]
    is_taken: bool = False

    @property
    def is_loop(self) -> bool:
        """Whether it leads to where it begins."""
        return self.source is self.target


def arrows_of(chart: Chart, marks: Marks) -> list[Arrow]:
    """All arrows of a graph, in document order of their sources."""
    found: dict[tuple[State, State], Arrow] = {}
    for source in chart.states:
        for transition in transitions_of(source):
            text = label(transition)
            for target in transition.targets or ():
                arrow = found.setdefault((source, target), Arrow(source, target, []))
                if text and text not in arrow.labels:
                    arrow.labels.append(text)
                arrow.is_taken |= marks.is_taken(transition, target)
    for history in chart.states:
        if history.type == "history":
            for target in history.targets:
                found.setdefault((history, target), Arrow(history, target, []))
    return list(found.values())
