"""Where a transition leads: `sibling`, `sibling.child`, `.child`, `#id`, `#id.child`."""

from typing import Any

from sequential.core.statechart.definition import State
from sequential.core.statechart.draft import Draft, listed
from sequential.core.statechart.problems import kind, names, quoted

_MOST_TARGETS = 100


def read_targets(draft: Draft, source: State, spec: Any, where: str) -> tuple[State, ...]:
    """The states meant by one target or a list of them; those that do not exist are problems.

    Of a state and one inside it the inner one is meant: it brings the other with it.
    """
    all_ = [_target(draft, source, one, where) for one in listed(spec)]
    found = dict.fromkeys(state for state in all_ if state is not None)
    outer = {above for state in found for above in state.ancestors()}
    return tuple(state for state in found if state not in outer)


def check_together(draft: Draft, targets: tuple[State, ...], where: str) -> None:
    """Refuse targets that exclude each other."""
    if len(targets) > _MOST_TARGETS:
        draft.problems.error(where, f"more than {_MOST_TARGETS} targets")
        return
    for index, one in enumerate(targets):
        for other in targets[index + 1 :]:
            if _parting(one, other).type != "parallel":
                draft.problems.error(
                    where,
                    f"targets {quoted(one.name)} and {quoted(other.name)} "
                    "cannot be active together",
                )
                return


def _parting(one: State, other: State) -> State:
    """The closest state that contains both."""
    return next(state for state in one.ancestors() if other.is_within(state))


def _target(draft: Draft, source: State, target: Any, where: str) -> State | None:
    problems = draft.problems
    if not isinstance(target, str):
        problems.error(where, f"a target must be a text, this is {kind(target)}")
        return None
    if target.startswith("#"):
        return _by_id(draft, target[1:], where)
    if target.startswith("."):
        return _down(draft, source, target[1:], target, where)
    if source.parent is None:
        problems.error(
            where, f'a target on the machine itself must be written {quoted("." + target)} or "#id"'
        )
        return None
    return _down(draft, source.parent, target, target, where)


def _by_id(draft: Draft, path: str, where: str) -> State | None:
    parts = path.split(".")
    for count in range(len(parts), 0, -1):  # an id may hold dots itself
        state = draft.by_id.get(".".join(parts[:count]))
        if state is not None:
            rest = ".".join(parts[count:])
            return _down(draft, state, rest, "#" + path, where) if rest else state
    near = draft.problems.near("#" + path, ["#" + one for one in draft.by_id])
    draft.problems.error(where, f"no state has the id {quoted(path)}{near}")
    return None


def _down(draft: Draft, state: State, path: str, target: str, where: str) -> State | None:
    for name in path.split("."):
        child = state.children.get(name)
        if child is None:
            there = f"; states there: {names(state.children)}" if state.children else ""
            draft.problems.error(
                where,
                f"target {quoted(target)} does not exist: no state {quoted(name)} in "
                f"{quoted(state.id)}{draft.problems.near(name, state.children)}{there}",
            )
            return None
        state = child
    return state
