"""Actions: what a transition or a state does besides leading on.

Built in are `assign`, `raise`, `cancel`, `log` and `emit`. In JSON they are spelt
`{"type": "assign", "params": {"total": 1}}`.
"""

from typing import Any

from sequential.core.statechart.definition import Action
from sequential.core.statechart.draft import Draft, places
from sequential.core.statechart.problems import kind, quoted
from sequential.core.statechart.template import Template, is_expression
from sequential.core.statechart.vocabulary import (
    ACTION_HINTS,
    ACTION_KEYS,
    ACTIONS,
    NO_PARAMS,
    RECORD,
)

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
    return tuple(
        action for one, place in places(spec, where) for action in _actions(draft, one, place)
    )


def _actions(draft: Draft, spec: Any, where: str) -> tuple[Action, ...]:
    """One action, or all that a name of `implementations` stands for."""
    name = spec.get("type") if isinstance(spec, dict) else spec
    if not isinstance(name, str) or name not in draft.actions:
        action = _action(draft, spec, where)
        return () if action is None else (action,)
    if isinstance(spec, dict):
        draft.check_keys(spec, ACTION_KEYS, where)
        if spec.get("params"):
            draft.problems.error(where, NO_PARAMS.format(what="action", name=quoted(name)))
    return draft.actions_named(name, where)


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
        if name == "raise":
            params = _with_delay(draft, params)
    elif draft.handlers.are_known:
        _unknown(draft, name, where)
    author_place = draft.problems.author_place(where)
    return Action(name, Template(params, f"{where}.params", draft.problems), author_place)


def _unknown(draft: Draft, name: str, where: str) -> None:
    hint = ACTION_HINTS.get(name.removeprefix("xstate."))
    if hint:
        draft.problems.error(where, f"action {quoted(name)} is not supported: {hint}")
        return
    if draft.handlers.named(name):
        draft.problems.error(
            where,
            f"action {quoted(name)} is a function of the code, and is run by a state: "
            f'write "invoke": {{"src": {quoted(name)}}}, or one of {", ".join(ACTIONS)}',
        )
        return
    near = draft.problems.near(name, [*draft.actions, *ACTIONS])
    draft.problems.error(
        where,
        f"no action named {quoted(name)}{near}; there are {', '.join(ACTIONS)}: "
        'name others in "implementations", and do work in the function of a state or in "invoke"',
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
        delay, place = params["delay"], f"{where}.params.delay"
        if isinstance(delay, str) and delay not in draft.delays:
            draft.problems.error(place, unknown_delay(draft, delay))
        elif not isinstance(delay, str):
            check_delay(draft, delay, place)


def _with_delay(draft: Draft, params: Any) -> Any:
    """The parameters of `raise`, with what the name of its delay stands for."""
    delay = params.get("delay") if isinstance(params, dict) else None
    if isinstance(delay, str) and delay in draft.delays:
        return {**params, "delay": draft.delays[delay].spec}
    return params


def unknown_delay(draft: Draft, name: str) -> str:
    """What to write in place of a name that is not known."""
    near = draft.problems.near(name, draft.delays)
    return (
        f"no delay named {quoted(name)}{near}; write milliseconds, as in 60000 for a minute, "
        'or name them in "implementations"'
    )


def check_delay(draft: Draft, delay: Any, where: str) -> None:
    """Refuse what is no time; what an expression gives is checked when it is done."""
    if not is_expression(delay) and (
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
