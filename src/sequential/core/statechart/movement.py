"""Which states transitions leave and enter (SCXML, appendix D, with XState's rules).

A transition moves within its *domain*: everything active below the domain is left, and the targets
are entered with all that belongs to them.
"""

from collections.abc import Iterable, Mapping, Sequence

from sequential.core.statechart.definition import Chart, State, Transition
from sequential.core.statechart.snapshot import Active, in_document_order, recorded_states

History = Mapping[str, Sequence[str]]  # ids to restore, by the id of a history state
Domains = dict[Transition, State | None]  # None: everything, the machine itself too


def initial_transition(chart: Chart) -> Transition:
    """The transition that starts a machine: it enters all initial states."""
    return Transition(chart.root, "", tuple(_initial_states(chart.root)), reenter=True)


def _initial_states(state: State) -> list[State]:
    found = [state]
    inner = [state.first_initial] if state.type == "compound" else state.regions
    for child in inner:
        found += _initial_states(child)
    return found


def effective_targets(
    chart: Chart, history: History, targets: Iterable[State]
) -> dict[State, None]:
    """The targets, with history states replaced by what they mean now."""
    found: dict[State, None] = {}
    for target in targets:
        if target.type != "history":
            found[target] = None
        elif target.id in history:
            found.update(dict.fromkeys(recorded_states(chart, history[target.id])))
        else:
            found.update(effective_targets(chart, history, target.default_targets))
    return found


def domain_of(chart: Chart, history: History, transition: Transition) -> State | None:
    """The state below which the transition leaves and enters; None for the whole machine."""
    source, given = transition.source, transition.targets or ()
    targets = effective_targets(chart, history, given)
    # XState would enter a source that a history target resolves to without leaving it first.
    returns = source in targets and any(one.type == "history" for one in given)
    if not (transition.reenter or returns) and all(
        target is source or target.is_within(source) for target in targets
    ):
        return source
    first, *rest = [*targets, source]
    for ancestor in first.ancestors():
        if all(one.is_within(ancestor) for one in rest):
            return ancestor
    return None if transition.reenter else chart.root


def domains_of(chart: Chart, history: History, transitions: Iterable[Transition]) -> Domains:
    """The domains of the transitions."""
    return {one: domain_of(chart, history, one) for one in transitions}


def compatible(chart: Chart, history: History, transitions: list[Transition]) -> list[Transition]:
    """The transitions without those that lose a conflict.

    Two transitions conflict when they would leave the same state. The one whose source lies inside
    the other's source wins, else the first. Since domains lie inside each other or apart, only
    domains above and below have to be looked at.
    """
    if len(transitions) < 2:
        return transitions
    kept: dict[Transition, None] = {}
    at: dict[State, list[Transition]] = {}  # by domain
    under: dict[State, list[Transition]] = {}  # by each ancestor of the domain
    for transition in transitions:
        domain = _leaving_domain(chart, history, transition)
        if domain is None:
            kept[transition] = None
            continue
        rivals = [*at.get(domain, ()), *under.get(domain, ())]
        for ancestor in domain.ancestors():
            rivals += at.get(ancestor, ())
        rivals = [rival for rival in rivals if rival in kept]
        if any(not transition.source.is_within(rival.source) for rival in rivals):
            continue
        for rival in rivals:
            del kept[rival]
        kept[transition] = None
        at.setdefault(domain, []).append(transition)
        for ancestor in domain.ancestors():
            under.setdefault(ancestor, []).append(transition)
    return list(kept)


def _leaving_domain(chart: Chart, history: History, transition: Transition) -> State | None:
    """The domain, if anything is left there."""
    if not transition.targets:
        return None
    domain = domain_of(chart, history, transition)
    if domain is None:
        return chart.root
    return None if domain.is_atomic else domain


def exit_set(active: Active, transitions: Iterable[Transition], domains: Domains) -> list[State]:
    """The active states that the transitions leave, in reverse document order."""
    within = {domains[transition] for transition in transitions if transition.targets}
    if None in within:
        return in_document_order(active)[::-1]
    leaving = [state for state in active if any(one in within for one in state.ancestors())]
    return in_document_order(leaving)[::-1]


class Entering:
    """The states that transitions enter.

    `by_default` are those that were not asked for by name: the actions of their `initial`
    transition run.
    """

    def __init__(self, chart: Chart, history: History) -> None:
        self.chart = chart
        self.history = history
        self.by_default: set[State] = set()
        self._states: dict[State, None] = {}
        self._entered_below: set[State] = set()  # states with a descendant in `_states`

    def add(self, transition: Transition, domain: State | None) -> None:
        """Add what a transition enters."""
        source, targets = transition.source, transition.targets or ()
        for target in targets:
            if target.type != "history" and (
                transition.reenter or source is not target or source is not domain
            ):
                self._enter(target)
                self.by_default.add(target)
            self._descend(target)
        limit = None if source.parent is None and transition.reenter else domain
        for state in effective_targets(self.chart, self.history, targets):
            ancestors = list(state.ancestors(domain))
            if domain is not None and domain.type == "parallel":
                ancestors.append(domain)
            self._climb(ancestors, limit)

    def states(self) -> list[State]:
        """All states to enter, in document order."""
        return in_document_order(self._states)

    def _enter(self, state: State) -> None:
        self._states[state] = None
        for ancestor in state.ancestors():
            if ancestor in self._entered_below:
                break
            self._entered_below.add(ancestor)

    def _descend(self, state: State) -> None:
        """Enter what belongs to a state: its initial state, its regions, its history."""
        if state.type == "history":
            self._restore(state)
        elif state.type == "compound":
            initial = state.first_initial
            if initial.type != "history":
                self._enter(initial)
                self.by_default.add(initial)
            self._descend(initial)
            self._climb(initial.ancestors(state), None)
        elif state.type == "parallel":
            for region in state.regions:
                if region not in self._entered_below:
                    self._enter(region)
                    self.by_default.add(region)
                    self._descend(region)

    def _restore(self, history: State) -> None:
        parent = history.container
        recorded = self.history.get(history.id)
        if recorded is None:
            states = history.default_targets
            if not history.targets and parent.type == "compound":
                self.by_default.add(parent)
        else:
            states = recorded_states(self.chart, recorded)
        for state in states:
            if state.type != "history":
                self._enter(state)
            self._descend(state)
        for state in states:
            self._climb(state.ancestors(parent), None)

    def _climb(self, ancestors: Iterable[State], limit: State | None) -> None:
        """Enter the states above a target up to the domain, and the other regions of each."""
        for ancestor in ancestors:
            if limit is None or ancestor.is_within(limit):
                self._enter(ancestor)
            if ancestor.type == "parallel":
                for region in ancestor.regions:
                    if region not in self._entered_below:
                        self._enter(region)
                        self._descend(region)
