"""Guards: conditions of transitions.

`{"$expr": ...}`, and the built-in `and`, `or`, `not` and `stateIn`. In JSON they are spelt
`{"type": "and", "params": {"guards": [...]}}`.
"""

from collections.abc import Callable
from typing import Any

from sequential.core.statechart.definition import Guard, Situation, State
from sequential.core.statechart.draft import Draft
from sequential.core.statechart.expression import Expression, ExpressionError
from sequential.core.statechart.problems import quoted
from sequential.core.statechart.template import EXPRESSION, is_expression
from sequential.core.statechart.vocabulary import GUARD_KEYS, GUARDS, NO_PARAMS

_NEEDED = {"and": "guards", "or": "guards", "not": "guard", "stateIn": "state"}


def read_guard(draft: Draft, spec: Any, where: str) -> Guard | None:
    """The guard of a transition; None when there is none, or when it is a problem."""
    if spec is None:
        return None
    if is_expression(spec):
        return _expression(draft, spec[EXPRESSION], where)
    name: Any = spec
    params: Any = {}
    if isinstance(spec, dict):
        draft.check_keys(spec, GUARD_KEYS, where)
        name, params = spec.get("type"), spec.get("params") or {}
    if not isinstance(name, str) or not isinstance(params, dict):
        draft.problems.error(
            where, 'a guard must be {"$expr": "..."} or {"type": ..., "params": {...}}'
        )
        return None
    if name in draft.guards:
        if params:
            draft.problems.error(where, NO_PARAMS.format(what="guard", name=quoted(name)))
        return draft.guards[name]
    name = name.removeprefix("xstate.") if name.removeprefix("xstate.") in GUARDS else name
    if name not in GUARDS:
        return _unknown(draft, name, where)
    needed = _NEEDED[name]
    if needed not in params:
        draft.problems.error(where, f'guard "{name}" needs "params": {{"{needed}": ...}}')
        return None
    return _built_in(draft, name, params[needed], f"{where}.params.{needed}")


def _expression(draft: Draft, source: str, where: str) -> Guard | None:
    try:
        evaluate = Expression(source).evaluate
    except ExpressionError as error:
        draft.problems.error(where, str(error))
        return None
    return Guard(source, lambda situation: bool(evaluate(situation)))


def _unknown(draft: Draft, name: str, where: str) -> Guard:
    if draft.handlers.are_known:
        draft.problems.error(
            where,
            f"{_missing(draft, name)}; write the condition itself: "
            '{"$expr": "event.role == \'admin\'"}, here or under a name in "implementations"',
        )

    def holds(situation: Situation) -> bool:
        raise ExpressionError(f"no guard named {quoted(name)}")

    return Guard(name, holds)


def _missing(draft: Draft, name: str) -> str:
    if draft.handlers.named(name):
        return f"guard {quoted(name)} is a function of the code, and a guard is an expression"
    return f"no guard named {quoted(name)}{draft.problems.near(name, [*draft.guards, *GUARDS])}"


def _built_in(draft: Draft, name: str, value: Any, where: str) -> Guard | None:
    if name == "stateIn":
        return _state_in(draft, value, where)
    if name == "not":
        inner = read_guard(draft, value, where)
        if inner is None:
            _need(draft, value, where)
            return None
        denied = inner.holds
        return Guard(f"not {_in_brackets(inner)}", lambda situation: not denied(situation))
    if not isinstance(value, list):
        draft.problems.error(where, "must be a list of guards")
        return None
    guards = [read_guard(draft, one, f"{where}[{index}]") for index, one in enumerate(value)]
    tests: list[Callable[[Situation], bool]] = [one.holds for one in guards if one is not None]
    text = f" {name} ".join(_in_brackets(one) for one in guards if one is not None)
    for one in value:
        _need(draft, one, where)
    if name == "and":
        return Guard(text, lambda situation: all(test(situation) for test in tests))
    return Guard(text, lambda situation: any(test(situation) for test in tests))


def _need(draft: Draft, guard: Any, where: str) -> None:
    if guard is None:
        draft.problems.error(where, "a guard is missing here")


def _in_brackets(guard: Guard) -> str:
    return f"({guard.text})" if " " in guard.text else guard.text


def _state_in(draft: Draft, value: Any, where: str) -> Guard | None:
    wanted = _states(draft, value, where)
    if not wanted:
        return None
    text = "in " + ", ".join(state.id for state in wanted)
    return Guard(text, lambda situation: all(state in situation.active for state in wanted))


def _states(draft: Draft, value: Any, where: str) -> list[State]:
    """The states that a value such as `#id`, `"a.b"` or `{"a": "b"}` wants to be active."""
    if isinstance(value, str) and value.startswith("#"):
        state = draft.by_id.get(value[1:])
        if state is None:
            near = draft.problems.near(value, ["#" + one for one in draft.by_id])
            draft.problems.error(where, f"no state has the id {quoted(value[1:])}{near}")
        return [state] if state else []
    found: list[State] = []
    todo: list[tuple[State, Any]] = [(draft.states[0], value)]
    while todo:
        state, part = todo.pop()
        if isinstance(part, str) and part:
            name, _, rest = part.partition(".")
            part = {name: rest or {}}
        if not isinstance(part, dict) or (state is draft.states[0] and not part):
            draft.problems.error(where, 'write "#id", "a.b" or {"a": "b"}')
            return []
        for name, inner in part.items():
            child = state.children.get(name)
            if child is None:
                near = draft.problems.near(name, state.children)
                draft.problems.error(where, f"no state {quoted(name)} in {quoted(state.id)}{near}")
                return []
            found.append(child)
            todo.append((child, inner))
    return found
