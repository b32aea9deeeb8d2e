"""The door: a graph, and what can be done with a run of it.

    machine = Machine(graph, {"charge", "ship"})
    snapshot, effects = machine.start({"total": 120}, now)
    snapshot, effects = machine.send(snapshot, {"type": "APPROVE"}, now)
    snapshot, effects = machine.done(snapshot, key, output, now)
    snapshot, effects = machine.fire(snapshot, key, now)

All of it is pure: times come in, effects go out (`effects`). A snapshot is plain JSON; it and
what it is made of must not be changed by others. One call is one macrostep, to be committed with
its effects. The first effect of a macrostep says what happened, for people (`StepEffect`).
"""

import hashlib
import json
from collections.abc import Collection
from typing import Any

from sequential.core.statechart.definition import Invocation
from sequential.core.statechart.effects import InvokeEffect, TimerEffect
from sequential.core.statechart.handlers import Handlers
from sequential.core.statechart.lint import check_defaults, look_over
from sequential.core.statechart.macrostep import ACTOR_DONE, ACTOR_FAILED, Macrostep, Result
from sequential.core.statechart.problems import Problem, Problems, quoted
from sequential.core.statechart.reading import check_json, read_chart
from sequential.core.statechart.selection import accepted
from sequential.core.statechart.simple import callers, general_form, is_simple
from sequential.core.statechart.snapshot import (
    Snapshot,
    active_of,
    damaged,
    first_snapshot,
    is_active,
)
from sequential.core.statechart.working_copy import Event, in_flight, invoke_effect
from sequential.errors import InvalidInputError


class Machine:
    """A graph that was read and found right. Make it once per graph and keep it."""

    def __init__(
        self,
        graph: dict[str, Any],
        handlers: Collection[str] | None = None,
        *,
        entry: str | None = None,
    ) -> None:
        """Raise `GraphError` with all problems of the graph at once.

        `handlers` are the names of the code's public functions; without them names are not
        checked (diagrams, tests). `entry` is the one function that every state calls when no
        function is named like a state.
        """
        problems = Problems()
        check_json(graph, problems)
        lookup = Handlers(handlers, entry, callers(graph))
        self.graph = graph
        self.hash = hashlib.sha256(json.dumps(graph).encode()).hexdigest()[:16]  # keys unsorted
        self.is_simple = is_simple(graph, lookup)
        general = general_form(graph, lookup, problems)
        self.chart = read_chart(general, lookup, problems)
        problems.check()
        check_defaults(self.chart, problems)
        problems.check()
        look_over(self.chart, general, problems)
        self.warnings: tuple[Problem, ...] = problems.of("warning")
        self.notes: tuple[Problem, ...] = problems.of("note")

    @property
    def id(self) -> str:
        """The name of the machine: the graph's `id`."""
        return self.chart.root.id

    # What happens to a run

    def start(self, input: Any, now: float) -> Result:
        """The first macrostep. `now` is in milliseconds since 1970, by the engine's clock."""
        before = first_snapshot(self.id, self.hash, input)
        return self._macrostep(before, now).begin({"type": "xstate.init", "input": input})

    def send(self, snapshot: Snapshot, event: Event, now: float) -> Result:
        """Take an event from outside: `{"type": NAME, ...}`.

        The very snapshot comes back, without effects, when nothing takes the event. Raises
        `InvalidInputError` for what is no event, or has a name that belongs to the machine.
        """
        _check_event(event)
        return self._take(snapshot, event, now)

    def done(self, snapshot: Snapshot, key: str, output: Any, now: float) -> Result:
        """A handler returned. A key that is not in flight any more changes nothing."""
        return self._ended(snapshot, key, ACTOR_DONE, "output", output, now)

    def failed(self, snapshot: Snapshot, key: str, error: Any, now: float) -> Result:
        """A handler raised `{"name", "message"}`; if no transition takes it, the machine ends."""
        return self._ended(snapshot, key, ACTOR_FAILED, "error", error, now)

    def fire(self, snapshot: Snapshot, key: str, now: float) -> Result:
        """A timer is due. A key that was cleared or set again changes nothing."""
        timer = next((one for one in snapshot["timers"] if one["key"] == key), None)
        if not is_active(snapshot) or timer is None:
            return snapshot, []
        step = self._macrostep(snapshot, now)
        step.copy.timers = [one for one in snapshot["timers"] if one is not timer]
        step.copy.has_changed = True
        return step.take(timer["event"])

    # What can be asked of a snapshot

    def events(self, snapshot: Snapshot) -> list[str]:
        """Names of the events that are accepted now, guards aside, sorted."""
        if not is_active(snapshot):
            return []
        return accepted(list(active_of(self.chart, snapshot)))

    def can(self, snapshot: Snapshot, event: Event) -> bool:
        """Whether the event would do something now, with regard to guards."""
        _check_event(event)
        return is_active(snapshot) and self._macrostep(snapshot, 0).can_take(event)

    def is_stuck(self, snapshot: Snapshot) -> bool:
        """Whether nothing can ever happen again, though the machine has not ended."""
        pending = snapshot["invocations"] or snapshot["timers"]
        return is_active(snapshot) and not pending and not self.events(snapshot)

    def active(self, snapshot: Snapshot) -> list[str]:
        """Ids of the active states, in document order."""
        return [state.id for state in active_of(self.chart, snapshot)]

    def innermost(self, snapshot: Snapshot) -> list[str]:
        """Ids of the active states that contain no other, in document order: one per region."""
        return [state.id for state in active_of(self.chart, snapshot) if state.is_atomic]

    def pending(self, snapshot: Snapshot) -> list[InvokeEffect | TimerEffect]:
        """The handlers and timers that a snapshot waits for, as effects to do again."""
        invokes = [
            invoke_effect(self._invocation(identity), flight)
            for identity, flight in in_flight(snapshot["invocations"])
        ]
        timers = [
            TimerEffect(timer["key"], timer["id"], timer["due"], timer["event"])
            for timer in snapshot["timers"]
        ]
        return [*invokes, *timers]

    def handler_context(self, snapshot: Snapshot, invoke: InvokeEffect) -> dict[str, Any]:
        """The second argument of a handler: its state, the run's input, the results so far."""
        context = snapshot["context"]
        return {
            "state": self.chart.by_id[invoke.state].name,
            "input": snapshot["input"],
            "results": context.get("results", {}) if self.is_simple else {},
        }

    # Inside

    def _macrostep(self, snapshot: Snapshot, now: float) -> Macrostep:
        return Macrostep(self.chart, snapshot, now)

    def _take(self, snapshot: Snapshot, event: Event, now: float) -> Result:
        if not is_active(snapshot):
            return snapshot, []
        return self._macrostep(snapshot, now).take(event)

    def _ended(
        self, snapshot: Snapshot, key: str, prefix: str, field: str, value: Any, now: float
    ) -> Result:
        flights = snapshot["invocations"]
        identity = next((one for one in flights if flights[one]["key"] == key), None)
        if not is_active(snapshot) or identity is None:
            return snapshot, []
        self._invocation(identity)
        step = self._macrostep(snapshot, now)
        del step.copy.invocations[identity]
        step.copy.has_changed = True
        return step.take({"type": f"{prefix}{identity}", field: value, "actorId": identity})

    def _invocation(self, identity: str) -> Invocation:
        found = self.chart.invocations.get(identity)
        if found is None:
            raise damaged(f"invoke {quoted(identity)} is not in the graph any more")
        return found


def _check_event(event: Any) -> None:
    name = event.get("type") if isinstance(event, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidInputError('an event is an object with a "type": {"type": "NAME"}')
    if name.startswith("xstate."):
        raise InvalidInputError('event names beginning with "xstate." are reserved: take another')
