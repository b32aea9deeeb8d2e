"""From graph.json to the compiled graph, with all problems at once."""

import math
from typing import Any

import msgspec

from sequential.core.model import RetryPolicy
from sequential.core.statechart.actions import read_actions, unknown_delay
from sequential.core.statechart.bounds import (
    MAX_DELAY,
    MAX_NESTING,
    MAX_NUMBER,
)
from sequential.core.statechart.definition import Chart, Delay, Invocation, State
from sequential.core.statechart.draft import Draft, places
from sequential.core.statechart.handlers import TASK_PREFIX, Handlers
from sequential.core.statechart.implementations import read_implementations
from sequential.core.statechart.problems import Problems, a, keyed, kind, names, quoted
from sequential.core.statechart.targets import read_targets
from sequential.core.statechart.template import Template
from sequential.core.statechart.times import milliseconds
from sequential.core.statechart.transitions import read_transitions
from sequential.core.statechart.tree import read_tree
from sequential.core.statechart.vocabulary import INITIAL_KEYS, INVOKE_KEYS


def check_json(graph: Any, problems: Problems) -> None:
    """Raise `GraphError` for what is no JSON object, or is nested too deeply to be read."""
    if not isinstance(graph, dict):
        problems.error("$", f"a graph must be an object, this is {kind(graph)}")
        problems.check()
    stack: list[tuple[Any, int]] = [(graph, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_NESTING:
            problems.error("$", f"the JSON is nested more than {MAX_NESTING} deep")
            break
        if why := _not_json(value):
            problems.error("$", why)
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            stack.extend((one, depth + 1) for one in inner)
    problems.check()


def _not_json(value: Any) -> str | None:
    match value:
        case dict():
            return None if all(isinstance(key, str) for key in value) else "keys must be texts"
        case list() | str() | bool() | None:
            return None
        case int():
            return None if -MAX_NUMBER < value < MAX_NUMBER else "a number is too large"
        case float():
            return None if math.isfinite(value) else "NaN and Infinity are not JSON"
    return f"{type(value).__name__} is not JSON"


def read_chart(graph: dict[str, Any], handlers: Handlers, problems: Problems) -> Chart:
    """The compiled graph. What is wrong goes to `problems`: use it only if there is no error."""
    draft = Draft(handlers, problems)
    specs = read_tree(draft, graph)
    read_implementations(draft, graph.get("implementations"))
    for state, spec in specs.items():
        _wire(draft, state, spec)
    context = graph.get("context")
    if context is not None and not isinstance(context, dict):
        problems.error("$.context", f"the context must be an object, this is {kind(context)}")
    return Chart(
        draft.states[0],
        draft.states,
        draft.by_id,
        draft.invocations,
        Template(context or {}, "$.context", problems),
    )


def _wire(draft: Draft, state: State, spec: dict[str, Any]) -> None:
    """Fill in all of a state that refers to other states, or to code."""
    where = state.where
    state.entry = read_actions(draft, spec.get("entry"), f"{where}.entry")
    state.exit = read_actions(draft, spec.get("exit"), f"{where}.exit")
    if "output" in spec:
        state.output = Template(spec["output"], f"{where}.output", draft.problems)
    _initial(draft, state, spec)
    if state.type == "history":
        _history(draft, state, spec)
        return
    for event, transitions in draft.object(spec.get("on"), f"{where}.on", "by event").items():
        place = keyed(f"{where}.on", event)
        _check_event(draft, event, place)
        _add(draft, state, event, transitions, place)
    if "onDone" in spec:
        if state.is_atomic:
            _misplaced(draft, spec, f"{where}.onDone")
        _add(draft, state, f"xstate.done.state.{state.id}", spec["onDone"], f"{where}.onDone")
    for index, (invoke, place) in enumerate(places(spec.get("invoke"), f"{where}.invoke")):
        _invoke(draft, state, invoke, index, place)
    for delay, transitions in draft.object(spec.get("after"), f"{where}.after", "by time").items():
        _after(draft, state, delay, transitions, keyed(f"{where}.after", delay))
    state.always = tuple(read_transitions(draft, state, "", spec.get("always"), f"{where}.always"))
    wild = [event for event in state.on if event == "*" or event.endswith(".*")]
    state.wildcards = [(event[:-1], event) for event in sorted(wild, key=len, reverse=True)]


def _misplaced(draft: Draft, spec: dict[str, Any], where: str) -> None:
    if "invoke" in spec:
        draft.problems.error(where, 'put it inside "invoke"')
    else:
        draft.problems.error(where, 'outside "invoke" it is only for states with child states')


def _initial(draft: Draft, state: State, spec: dict[str, Any]) -> None:
    initial = spec.get("initial")
    where = f"{state.where}.initial"
    if state.type != "compound":
        if initial is not None and state.is_atomic and state.parent is None:
            missing = f'there is no state {quoted(initial)}: add it to "states"'
            draft.problems.error(where, missing)
        elif initial is not None:
            draft.problems.warning(where, f"has no meaning on {a(state.type)} state")
        return
    if not state.children:
        return  # said already
    name = initial
    if isinstance(initial, dict):
        draft.check_keys(initial, INITIAL_KEYS, where)
        name = initial.get("target")
        state.initial_actions = read_actions(draft, initial.get("actions"), f"{where}.actions")
    if name is None:
        first = quoted(next(iter(state.children)))
        draft.problems.error(state.where, f'no "initial" state; add "initial": {first}')
    elif not isinstance(name, str) or name not in state.children:
        here = f"states here: {names(state.children)}"
        near = draft.problems.near(name, state.children)
        draft.problems.error(where, f"initial state {quoted(name)} does not exist; {here}{near}")
    else:
        state.initial = state.children[name]


def _history(draft: Draft, state: State, spec: dict[str, Any]) -> None:
    kind_of = spec.get("history", "shallow")
    if kind_of not in ("shallow", "deep", True):
        draft.problems.error(f"{state.where}.history", 'must be "shallow" or "deep"')
    state.deep = kind_of == "deep"
    if "target" in spec:
        state.targets = read_targets(draft, state, spec["target"], f"{state.where}.target")


def _check_event(draft: Draft, event: str, where: str) -> None:
    if not event:
        draft.problems.error(where, 'an empty name of an event: use "always"')
    elif "*" in event.removesuffix("*") or (event.endswith("*") and event[-2:] not in ("*", ".*")):
        draft.problems.error(where, 'a "*" may stand alone, or at the end after "."')


def _add(draft: Draft, state: State, event: str, spec: Any, where: str) -> None:
    state.on.setdefault(event, []).extend(read_transitions(draft, state, event, spec, where))


def _invoke(draft: Draft, state: State, spec: Any, index: int, where: str) -> None:
    src = spec.get("src") if isinstance(spec, dict) else None
    if not isinstance(src, str) or not src:
        draft.problems.error(
            where, '"invoke" needs "src": the name of a function in the code, or "task:<name>"'
        )
        return
    draft.check_keys(spec, INVOKE_KEYS, where)
    given = spec.get("id")
    if given is not None and (not isinstance(given, str) or not given):
        draft.problems.error(where, f'"id" must be a text, this is {kind(given)}')
        given = None
    identity = given or f"{index}.{state.id}"
    if identity in draft.invocations:
        draft.problems.error(where, f"invoke id {quoted(identity)} is used twice")
    task = src.removeprefix(TASK_PREFIX) if src.startswith(TASK_PREFIX) else None
    invocation = Invocation(
        identity,
        src,
        state,
        Template(spec.get("input"), f"{where}.input", draft.problems),
        None if task else _handler(draft, src, where),
        task,
        _retry(draft, spec.get("retry"), f"{where}.retry"),
        _timeout(draft, spec.get("timeoutMs"), f"{where}.timeoutMs"),
    )
    draft.invocations[identity] = invocation
    state.invocations.append(invocation)
    for word, outcome in (("onDone", "done"), ("onError", "error")):
        if word in spec:
            _add(draft, state, f"xstate.{outcome}.actor.{identity}", spec[word], f"{where}.{word}")


def _handler(draft: Draft, src: str, where: str) -> str | None:
    if src == TASK_PREFIX:
        draft.problems.error(where, 'write the name of a task after "task:"')
        return None
    handler = draft.handlers.find(src)
    if handler is None and draft.handlers.functions is not None:
        there = sorted(draft.handlers.functions)
        has = f"it has: {names(there)}" if there else "it has none"
        near = draft.problems.near(src, there)
        draft.problems.error(where, f"no function named {quoted(src)} in the code{near}; {has}")
    return handler


def _retry(draft: Draft, spec: Any, where: str) -> RetryPolicy | None:
    if spec is None:
        return None
    given = {"retries": spec} if isinstance(spec, int) and not isinstance(spec, bool) else spec
    if isinstance(given, dict) and "max" in given and "retries" not in given:
        given = {"retries": given["max"], **{k: v for k, v in given.items() if k != "max"}}
    try:
        policy = msgspec.convert(given, RetryPolicy)
    except msgspec.ValidationError as error:
        allowed = ", ".join(RetryPolicy.__struct_fields__)
        draft.problems.error(where, f"{error}; it has {allowed}")
        return None
    if any(getattr(policy, name) < 0 for name in RetryPolicy.__struct_fields__):
        draft.problems.error(where, "its numbers must not be less than 0")
    return policy


def _timeout(draft: Draft, spec: Any, where: str) -> float | None:
    if spec is None:
        return None
    if isinstance(spec, bool) or not isinstance(spec, int | float) or not 0 < spec <= MAX_DELAY:
        draft.problems.error(where, "must be a number of milliseconds, more than 0")
        return None
    return spec


def _after(draft: Draft, state: State, delay: str, spec: Any, where: str) -> None:
    known, computed = milliseconds(delay), None
    name = delay if known is None else known
    if known is None and (named := draft.delays.get(delay)):
        known, computed = named.milliseconds, named.computed
    elif known is None and draft.handlers.are_known:
        draft.problems.error(where, unknown_delay(draft, delay))
    if known is not None and known > MAX_DELAY:
        draft.problems.error(where, "is too long a time")
    event = f"xstate.after.{name}.{state.id}"
    state.delays.append(Delay(event, known, computed))
    _add(draft, state, event, spec, where)
