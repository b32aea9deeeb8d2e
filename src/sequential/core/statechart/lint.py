"""What a graph may say but its author will hardly mean, or may not expect."""

from collections.abc import Iterator
from typing import Any

from sequential.core.statechart.definition import Chart, State, Transition
from sequential.core.statechart.problems import Problems, keyed, quoted


def check_defaults(chart: Chart, problems: Problems) -> None:
    """Refuse states whose entering would never end: a history state that leads to itself."""
    done: set[State] = set()
    for history in [state for state in chart.states if state.type == "history"]:
        path: list[tuple[State, Iterator[State]]] = [(history, iter(_defaults(history)))]
        on_path = {history}
        while path and history not in done:
            state, following = path[-1]
            following_one = next(following, None)
            if following_one is None:
                path.pop()
                on_path.discard(state)
                done.add(state)
            elif following_one in on_path:
                problems.error(
                    history.where,
                    'entering it leads back to it: give it a "target" that is another state',
                )
                break
            elif following_one not in done:
                path.append((following_one, iter(_defaults(following_one))))
                on_path.add(following_one)


def _defaults(state: State) -> list[State]:
    """What is entered with a state when nothing else is said."""
    if state.type == "history":
        return state.default_targets
    if state.type == "parallel":
        return state.regions
    return [state.initial] if state.initial is not None else []


def look_over(chart: Chart, graph: dict[str, Any], problems: Problems) -> None:
    """Add warnings and notes. The chart must be free of errors."""
    reached = _reached(chart)
    for state in chart.states:
        if state not in reached:
            problems.warning(state.where, f"state {quoted(state.name)} can never be reached")
        if state.type == "final" and (state.always or state.delays or _events(state)):
            problems.warning(
                state.where,
                'a final state has no way out: remove its transitions, or its "type": "final"',
            )
        if "*" in state.on:
            _star(state, chart, problems)
    finals = [state for state in chart.root.regions if state.type == "final"]
    if "output" not in graph:
        for state in finals:
            if state.output is not None:
                problems.note(
                    f"{state.where}.output",
                    'the machine has no "output" of its own, so the run gives null: '
                    'add "output": {"$expr": "event.output"} to the machine',
                )


def _events(state: State) -> list[str]:
    return [event for event in state.on if not event.startswith("xstate.")]


def _star(state: State, chart: Chart, problems: Problems) -> None:
    open_ends = [
        invocation.id
        for one in chart.states[state.order : state.last + 1]
        for invocation in one.invocations
        if f"xstate.error.actor.{invocation.id}" not in one.on
    ]
    if open_ends:
        problems.note(
            keyed(f"{state.where}.on", "*"),
            f'also takes the error of {quoted(open_ends[0])} and hides it: add "onError"',
        )


def _reached(chart: Chart) -> set[State]:
    seen: set[State] = set()
    todo = [chart.root]
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        todo += [one for one in [state.parent] if one is not None]
        todo += _defaults(state)
        for transition in transitions_of(state):
            todo += transition.targets or ()
    return seen


def transitions_of(state: State) -> Iterator[Transition]:
    """All transitions of a state, in document order of their events."""
    for transitions in state.on.values():
        yield from transitions
    yield from state.always
