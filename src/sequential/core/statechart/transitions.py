"""Transitions as a graph writes them: a state's name, an object, or a list of both."""

from typing import Any

from sequential.core.statechart.actions import read_actions
from sequential.core.statechart.definition import State, Transition
from sequential.core.statechart.draft import Draft, places
from sequential.core.statechart.guards import read_guard
from sequential.core.statechart.problems import kind
from sequential.core.statechart.targets import check_together, read_targets
from sequential.core.statechart.vocabulary import TRANSITION_KEYS


def read_transitions(
    draft: Draft, source: State, event: str, spec: Any, where: str
) -> list[Transition]:
    """The transitions of one event of a state, in the order in which they are tried."""
    found = [_transition(draft, source, event, one, place) for one, place in places(spec, where)]
    return [transition for transition in found if transition is not None]


def _transition(
    draft: Draft, source: State, event: str, spec: Any, where: str
) -> Transition | None:
    if isinstance(spec, str):
        spec = {"target": spec}
    if not isinstance(spec, dict):
        draft.problems.error(
            where, f"a transition must be a state's name or an object, this is {kind(spec)}"
        )
        return None
    draft.check_keys(spec, TRANSITION_KEYS, where)
    target = spec.get("target")
    targets = None
    if target not in (None, "", []):
        targets = read_targets(draft, source, target, where)
        check_together(draft, targets, where)
    reenter = spec.get("reenter", False)
    if not isinstance(reenter, bool):
        draft.problems.error(where, f'"reenter" must be true or false, this is {kind(reenter)}')
    return Transition(
        source,
        event,
        targets,
        read_guard(draft, spec.get("guard"), f"{where}.guard"),
        read_actions(draft, spec.get("actions"), f"{where}.actions"),
        bool(reenter),
        draft.problems.author_place(where),
    )
