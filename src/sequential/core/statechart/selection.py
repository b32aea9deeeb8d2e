"""Which transitions an event takes.

Children are asked before their parent, and a parallel state only if none of its regions took the
event. Within a state the exact name goes first, then wildcards, the longest first; of several
transitions the first whose guard holds.
"""

from collections.abc import Callable, Iterator

from sequential.core.statechart.definition import State, Transition
from sequential.core.statechart.snapshot import children_of

Holds = Callable[[Transition], bool]


def select(active: list[State], event: str, holds: Holds) -> list[Transition]:
    """The transitions for an event, one per region at most."""
    return _below(active[0], children_of(active), event, holds)


def _below(
    state: State, children: dict[State, list[State]], event: str, holds: Holds
) -> list[Transition]:
    found: list[Transition] = []
    for child in children.get(state, ()):
        found += _below(child, children, event, holds)
    if found:
        return found
    for transition in candidates(state, event):
        if holds(transition):
            return [transition]
    return []


def candidates(state: State, event: str) -> Iterator[Transition]:
    """The transitions of a state that wait for this event, in the order in which they are tried."""
    yield from state.on.get(event, ())
    for prefix, name in state.wildcards:
        if name != event and f"{event}.".startswith(prefix):
            yield from state.on[name]


def select_always(active: list[State], holds: Holds) -> list[Transition]:
    """The transitions that wait for no event, one per active leaf at most."""
    found: dict[Transition, None] = {}
    for leaf in active:
        if not leaf.is_atomic:
            continue
        for state in (leaf, *leaf.ancestors()):
            transition = next((one for one in state.always if holds(one)), None)
            if transition is not None:
                found[transition] = None
                break
    return list(found)


def accepted(active: list[State]) -> list[str]:
    """Names of the events that some active state takes, guards aside, sorted."""
    found: set[str] = set()
    for leaf in active:
        if not leaf.is_atomic:
            continue
        forbidden: set[str] = set()
        for state in (leaf, *leaf.ancestors()):
            for event, transitions in state.on.items():
                if event.startswith("xstate.") or event in forbidden:
                    continue
                for transition in transitions:
                    if transition.does_something:
                        found.add(event)
                    elif transition.guard is None:
                        forbidden.add(event)
                        break
    return sorted(found)
