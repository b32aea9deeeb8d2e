"""The states of a graph as a tree: names, ids and types, before anything refers to them."""

from typing import Any

from sequential.core.statechart.bounds import MAX_DEPTH, MAX_STATES
from sequential.core.statechart.definition import State
from sequential.core.statechart.draft import Draft
from sequential.core.statechart.problems import a, below, kind, names, quoted
from sequential.core.statechart.vocabulary import MACHINE_KEYS, STATE_KEYS, TYPE_HINTS, TYPES

Specs = dict[State, dict[str, Any]]


def read_tree(draft: Draft, graph: dict[str, Any]) -> Specs:
    """What each state was written as, in document order; the first one is the machine."""
    specs: Specs = {}
    identity = graph.get("id", "(machine)")
    if not isinstance(identity, str) or not identity:
        draft.problems.error("$", f'"id" must be a text, this is {kind(identity)}')
        identity = "(machine)"
    _state(draft, specs, graph, _Place(identity, "$", None, 0, identity))
    draft.states.extend(specs)
    return specs


class _Place:
    def __init__(self, name: str, where: str, parent: State | None, depth: int, id: str) -> None:
        self.name, self.where, self.parent, self.depth, self.id = name, where, parent, depth, id


def _state(draft: Draft, specs: Specs, spec: Any, place: _Place) -> State:
    if not isinstance(spec, dict):
        draft.problems.error(place.where, f"a state must be an object, this is {kind(spec)}")
        spec = {}
    draft.check_keys(spec, STATE_KEYS if place.parent else MACHINE_KEYS, place.where)
    inner = draft.object(spec.get("states"), f"{place.where}.states", "of states by name")
    state = State(
        place.name,
        _identity(draft, spec, place),
        _type(draft, spec, inner, place),
        place.parent,
        len(specs),
        place.where,
        description=str(spec.get("description") or ""),
    )
    specs[state] = spec
    draft.by_id[state.id] = state
    _children(draft, specs, inner, state, place)
    state.last = len(specs) - 1
    return state


def _identity(draft: Draft, spec: dict[str, Any], place: _Place) -> str:
    given = spec.get("id") if place.parent else place.id
    if given is not None and (not isinstance(given, str) or not given):
        draft.problems.error(place.where, f'"id" must be a text, this is {kind(given)}')
        given = None
    identity = given or place.id
    if identity in draft.by_id:
        draft.problems.error(place.where, f"id {quoted(identity)} is used twice")
    return identity


def _type(draft: Draft, spec: dict[str, Any], inner: dict[str, Any], place: _Place) -> str:
    type_ = spec.get("type")
    if type_ is not None and type_ not in TYPES:
        hint = TYPE_HINTS.get(type_) if isinstance(type_, str) else None
        near = draft.problems.near(type_, TYPES)
        message = f'"type": {quoted(type_)} '
        message += f"is not supported: {hint}" if hint else f"is not one of {names(TYPES)}{near}"
        draft.problems.error(place.where, message)
        type_ = None
    type_ = type_ or ("compound" if inner else "history" if spec.get("history") else "atomic")
    if type_ in ("atomic", "final", "history") and inner:
        draft.problems.error(place.where, f"{a(type_)} state cannot have child states")
    if type_ in ("compound", "parallel") and not inner:
        draft.problems.error(place.where, f'{a(type_)} state needs "states" with something in it')
    if place.parent is None and type_ in ("final", "history"):
        draft.problems.error(place.where, f"the machine itself cannot be {a(type_)} state")
    return str(type_)


def _children(
    draft: Draft, specs: Specs, inner: dict[str, Any], state: State, place: _Place
) -> None:
    if inner and place.depth >= MAX_DEPTH:
        draft.problems.error(place.where, f"states are nested more than {MAX_DEPTH} deep")
        return
    for name, spec in inner.items():
        if len(specs) >= MAX_STATES:
            draft.problems.error("$", f"more than {MAX_STATES} states: split the task")
            return
        where = below(f"{place.where}.states", name)
        if not name or "." in name or name.startswith("#"):
            draft.problems.error(
                where, 'the name of a state must not be empty, hold "." or begin with "#"'
            )
        path = f"{_path(state)}.{name}"
        child = _state(draft, specs, spec, _Place(name, where, state, place.depth + 1, path))
        state.children[name] = child
        (state.histories if child.type == "history" else state.regions).append(child)
    if state.type == "parallel" and inner and not state.regions:
        draft.problems.error(place.where, "a parallel state needs a child that is not history")


def _path(state: State) -> str:
    """Machine id and names: the id that a state has if it is given none."""
    steps = [state, *state.ancestors()]
    return ".".join([steps[-1].id, *[one.name for one in reversed(steps[:-1])]])
