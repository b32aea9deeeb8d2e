"""Actions: what a transition or a state does besides leading on.

Built in are `assign`, `raise`, `cancel`, `log` and `emit`. In JSON they are spelt
`{"type": "assign", "params": {"total": 1}}`.
"""

from typing import Any

from sequential.core.statechart.definition import Action
from sequential.core.statechart.draft import Draft, places
from sequential.core.statechart.problems import kind, quoted
from sequential.core.statechart.template import Template, is_expression
from sequential.core.statechart.vocabulary import ACTION_HINTS, ACTION_KEYS, ACTIONS, RECORD

_SHAPES = {
    "raise": '"params": {"event": {"type": "NAME"}}',
    "cancel": '"params": {"id": "..."}',
    RECORD: '"params": {"state": "..."}',
}
_NEEDED = {"raise": "event", "cancel": "id", RECORD: "state"}
_ALLOWED = {
    "raise": frozenset({"event", "delay", "id"}),
    "cancel": frozenset({"id"}),
    RECORD: frozenset({"state"}),
}


def read_actions(draft: Draft, spec: Any, where: str) -> tuple[Action, ...]:
    """The actions of one or a list of them; what cannot be done is a problem."""
    found = [_action(draft, one, place) for one, place in places(spec, where)]
    return tuple(action for action in found if action is not None)


def _action(draft: Draft, spec: Any, where: str) -> Action | None:
    name, params = spec, None
    if isinstance(spec, dict):
        draft.check_keys(spec, ACTION_KEYS, where)
        name, params = spec.get("type"), spec.get("params")
    if not isinstance(name, str):
        draft.problems.error(where, 'an action must be {"type": "...", "params": {...}}')
        return None
    short = name.removeprefix("xstate.")
    name = short if short in ACTIONS else name
    if name in ACTIONS or name == RECORD:
        params = {} if params is None else params
        _check(draft, name, params, where)
    elif draft.handlers.are_known:
        _unknown(draft, name, where)
    author_place = draft.problems.author_place(where)
    return Action(name, Template(params, f"{where}.params", draft.problems), author_place)


def _unknown(draft: Draft, name: str, where: str) -> None:
    hint = ACTION_HINTS.get(name.removeprefix("xstate."))
    if hint:
        draft.problems.error(where, f"action {quoted(name)} is not supported: {hint}")
        return
    near = draft.problems.near(name, ACTIONS)
    draft.problems.error(
        where,
        f"no action named {quoted(name)}{near}; there are {', '.join(ACTIONS)}: "
        'compute with "$expr", and do work in the function of a state or in "invoke"',
    )


def _check(draft: Draft, name: str, params: Any, where: str) -> None:
    problems = draft.problems
    if name in ("log", "emit") or is_expression(params):
        return  # what an expression gives is checked when it is done
    if not isinstance(params, dict):
        problems.error(where, f'"params" of {name} must be an object, this is {kind(params)}')
        return
    needed = _NEEDED.get(name)
    if needed and needed not in params:
        problems.error(where, f"{name} needs {_SHAPES[name]}")
        return
    for key in params:
        if name in _ALLOWED and key not in _ALLOWED[name]:
            near = problems.near(key, _ALLOWED[name])
            problems.error(where, f"key {quoted(key)}: unknown key of {name}{near}")
    if name == "raise" and not is_expression(params["event"]):
        _check_raised(draft, params["event"], f"{where}.params.event")
    if name == "raise" and "delay" in params:
        _check_delay(draft, params["delay"], f"{where}.params.delay")


def _check_delay(draft: Draft, delay: Any, where: str) -> None:
    if isinstance(delay, str):
        draft.problems.error(where, f"no delay named {quoted(delay)}; write milliseconds")
    elif not is_expression(delay) and (
        isinstance(delay, bool) or not isinstance(delay, int | float) or delay < 0
    ):
        draft.problems.error(where, "must be a number of milliseconds, 0 or more")


def _check_raised(draft: Draft, event: Any, where: str) -> None:
    name = event.get("type") if isinstance(event, dict) else None
    if is_expression(name):
        return
    if not isinstance(name, str) or not name:
        draft.problems.error(where, 'an event is an object with a "type": {"type": "NAME"}')
    elif name.startswith("xstate."):
        draft.problems.error(where, 'event names beginning with "xstate." are reserved')
