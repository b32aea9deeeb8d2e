"""What a run did in its graph, from the notes in its journal: states, transitions, handlers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sequential.cli.output import clean
from sequential.cli.words import CHILD, duration
from sequential.core import times
from sequential.core.model import StackRun, TaskRun
from sequential.core.statechart.handlers import snake_case

STEP = "graph.step"  # the note that tells of one macrostep


class Visit(NamedTuple):
    """One stay in a state. `left_at` is None while it lasts; `event` led into the state."""

    state: str
    entered_at: str
    left_at: str | None
    event: str


class Taken(NamedTuple):
    """A transition that was taken; without targets only its actions ran."""

    at: str
    event: str
    source: str
    targets: Sequence[str] | None


class Handler(NamedTuple):
    """A handler or child task that a state has started; its run may not be written yet."""

    state: str
    call: StackRun
    run: TaskRun | None
    calls: Sequence[StackRun]

    @property
    def name(self) -> str:
        """The function, or `task:NAME`."""
        given = self.call.input if isinstance(self.call.input, dict) else {}
        return str(given.get("handler") or f"task:{given.get('name')}")

    @property
    def label(self) -> str:
        """The state, and what it runs unless that is the function of its name."""
        own = self.state.rpartition(".")[2]
        is_own = self.name in (own, snake_case(own))
        return self.state if is_own else f"{self.state}: {self.name}"


class Story(NamedTuple):
    """All there is to tell of one run in its graph, the earliest first."""

    visits: Sequence[Visit]
    taken: Sequence[Taken]
    steps: Sequence[dict[str, Any]]
    accepts: Sequence[str]
    handlers: Sequence[Handler] = ()
    root: str = ""  # the id of the machine, with which those of its states begin

    @property
    def active(self) -> list[str]:
        """The states it is in, outermost first."""
        return [visit.state for visit in self.visits if visit.left_at is None]


def story(run: TaskRun, calls: Sequence[StackRun], accepts: Sequence[str]) -> Story:
    """Read the notes among the calls of a run that follows a graph."""
    steps = [call.input for call in calls if call.operation == STEP]
    root = steps[0]["entered"][0] if steps and steps[0]["entered"] else ""
    known: list[Visit] = []
    taken: list[Taken] = []
    active: dict[str, int] = {}
    for step in steps:
        at = _moment(step["at"])
        _follow(step, at, known, active)
        taken += [
            Taken(at, one["event"] or "", one["source"], one["targets"]) for one in step["taken"]
        ]
    if run.status.is_final:
        known = [visit._replace(left_at=visit.left_at or run.ended_at) for visit in known]
    visits = [
        visit._replace(state=short(visit.state, root)) for visit in known if visit.state != root
    ]
    named = [
        one._replace(
            source=short(one.source, root),
            targets=one.targets and [short(target, root) for target in one.targets],
        )
        for one in taken
    ]
    shown = [{**step, "at": _moment(step["at"])} for step in steps]
    for step in shown:
        step.pop("do", None)
    return Story(visits, named, shown, accepts, root=root)


def _follow(step: dict[str, Any], at: str, known: list[Visit], active: dict[str, int]) -> None:
    """Add what one macrostep left and entered; some states it may only have passed through."""

    def leave(state: str) -> None:
        number = active.pop(state)
        known[number] = known[number]._replace(left_at=at)

    passed = [state for state in step["left"] if state not in active]
    for state in step["left"]:
        if state in active:
            leave(state)
    for state in step["entered"]:
        if state in active:
            leave(state)
        active[state] = len(known)
        known.append(Visit(state, at, None, step["event"]))
    for state in passed:
        if state in active:
            leave(state)


def _moment(milliseconds: float) -> str:
    return times.to_text(datetime.fromtimestamp(milliseconds / 1000, UTC))


def short(state: str, root: str) -> str:
    """The id of a state without that of its machine."""
    return state.removeprefix(f"{root}.") if root else state


def machine_calls(calls: Sequence[StackRun]) -> list[StackRun]:
    """The calls of handlers and child tasks, in order."""
    return [call for call in calls if call.operation == CHILD]


def event_words(event: str, root: str) -> str:
    """An event as people say it: `fetchData done`, `after 1 h`, `APPROVE`."""
    name = event.removeprefix("xstate.")
    if name == event:
        return clean(event) or "always"
    kind, _, rest = name.partition(".")
    if kind == "init":
        return "start"
    if kind == "after":
        span, _, _ = rest.partition(".")
        return f"after {duration(float(span) / 1000)}" if span.isdigit() else f"after {clean(span)}"
    _, _, whose = rest.partition(".")
    return clean(f"{short(whose, root)} {'failed' if kind == 'error' else 'done'}")
