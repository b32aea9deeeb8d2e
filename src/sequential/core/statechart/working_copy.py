"""A private copy of a snapshot on which a macrostep works.

It is also what guards and expressions see: `context`, `event`, `input` and `active`.
"""

from collections import deque
from typing import Any

from sequential.core.statechart.bounds import (
    MAX_BUILT,
    MAX_DELAY,
    MAX_EFFECTS,
    MAX_ENTERED,
    MAX_QUEUED,
    MAX_TIMERS,
)
from sequential.core.statechart.definition import Chart, Invocation, State, Transition
from sequential.core.statechart.effects import (
    CancelEffect,
    Effect,
    InvokeEffect,
    StepEffect,
    TakenTransition,
    TimerEffect,
    UntimerEffect,
)
from sequential.core.statechart.problems import kind
from sequential.core.statechart.snapshot import Snapshot, active_of, in_document_order, value_of

Event = dict[str, Any]

_MOST_TOLD = 1_000  # states and transitions in the step for people


class MachineError(Exception):
    """The graph did what it must not do; it ends the machine."""


class WorkingCopy:
    """What a macrostep changes: nothing of it is seen outside before `snapshot` is called."""

    def __init__(self, chart: Chart, before: Snapshot, now: float) -> None:
        self.chart = chart
        self.before = before
        self.active = active_of(chart, before)
        self.now = now
        self.event: Event = {}
        self.input = before["input"]
        self.status: str = before["status"]
        self.context: dict[str, Any] = before["context"]
        self.output = before["output"]
        self.error = before["error"]
        self.history: dict[str, list[str]] = before["history"]
        self.invocations: dict[str, Any] = dict(before["invocations"])
        self.timers: list[dict[str, Any]] = before["timers"]
        self.queue: deque[Event] = deque()
        self.effects: list[Effect] = []
        self.has_changed = False
        self._sequence: int = before["seq"]
        self._built = self._entered_count = 0
        self._taken: list[TakenTransition] = []
        self._left: list[str] = []
        self._entered: list[str] = []

    # What the machine is left with

    def snapshot(self) -> Snapshot:
        """The snapshot after all that was done. What is in flight ends with the machine."""
        if self.status != "active":
            self._drop_all()
        return {
            **self.before,
            "status": self.status,
            "value": value_of(self.chart.root, in_document_order(self.active)),
            "context": self.context,
            "output": self.output,
            "error": self.error,
            "history": self.history,
            "invocations": self.invocations,
            "timers": self.timers,
            "seq": self._sequence,
        }

    def step(self, event: str, snapshot: Snapshot) -> StepEffect:
        """What was done, for people."""
        return StepEffect(
            event,
            self.now,
            tuple(self._taken),
            tuple(self._left),
            tuple(self._entered),
            snapshot["value"],
        )

    def _drop_all(self) -> None:
        for identity, invocation in in_flight(self.invocations):
            self.effects.append(CancelEffect(invocation["key"], identity))
        self.effects += [UntimerEffect(timer["key"]) for timer in self.timers]
        self.invocations, self.timers = {}, []

    # Changes

    def leave(self, state: State) -> None:
        """The state is not active any more."""
        del self.active[state]
        if len(self._left) < _MOST_TOLD:
            self._left.append(state.id)

    def enter(self, state: State) -> None:
        """The state is active."""
        self._entered_count += 1
        if self._entered_count > MAX_ENTERED:
            raise MachineError(f"more than {MAX_ENTERED} states were entered for one event")
        self.active[state] = None
        if len(self._entered) < _MOST_TOLD:
            self._entered.append(state.id)

    def took(self, transition: Transition, *, is_told: bool) -> None:
        """Note a transition for people."""
        if not transition.does_something:
            return
        self.has_changed = True
        if is_told and len(self._taken) < _MOST_TOLD:
            targets = transition.targets
            self._taken.append(
                TakenTransition(
                    transition.source.id,
                    transition.event,
                    None if targets is None else tuple(state.id for state in targets),
                )
            )

    def add_effect(self, effect: Effect) -> None:
        """Ask something of the engine."""
        if len(self.effects) >= MAX_EFFECTS:
            raise MachineError(f"more than {MAX_EFFECTS} effects of one event")
        self.effects.append(effect)

    def count(self, items: int) -> None:
        """Note that values of so many items were put together."""
        self._built += items
        if self._built > MAX_BUILT:
            raise MachineError(f"more than {MAX_BUILT} items were put together for one event")

    def queue_event(self, event: Event) -> None:
        """Raise an event: it is taken in this macrostep, after all that was raised before."""
        if len(self.queue) >= MAX_QUEUED:
            raise MachineError(f"more than {MAX_QUEUED} events are raised and not taken yet")
        self.queue.append(event)

    def invoke(self, invocation: Invocation, given: Any) -> None:
        """Start a handler or a child task."""
        flight = {
            "key": f"{invocation.id}#{self._next()}",
            "src": invocation.src,
            "state": invocation.state.id,
            "input": given,
        }
        self.invocations[invocation.id] = flight
        self.add_effect(invoke_effect(invocation, flight))

    def cancel(self, invocation: Invocation) -> None:
        """Stop a handler, if it is still in flight."""
        flight = self.invocations.pop(invocation.id, None)
        if flight is not None:
            self.add_effect(CancelEffect(flight["key"], invocation.id))

    def set_timer(self, identity: str | None, event: Event, delay: Any) -> None:
        """Let an event come after a delay in milliseconds; one timer per identity."""
        if isinstance(delay, bool) or not isinstance(delay, int | float):
            raise MachineError(f"a delay must be a number of milliseconds, this is {kind(delay)}")
        if not 0 <= delay <= MAX_DELAY:
            raise MachineError(f"a delay must be 0 or more milliseconds, this is {delay:g}")
        if identity is None:
            identity = f"raise#{self._next()}"
        else:
            self.clear_timer(identity)
        if len(self.timers) >= MAX_TIMERS:
            raise MachineError(f"more than {MAX_TIMERS} delayed events are waiting")
        key, due = f"{identity}#{self._next()}", self.now + delay
        self.timers = [*self.timers, {"id": identity, "key": key, "due": due, "event": event}]
        self.add_effect(TimerEffect(key, identity, due, event))

    def clear_timer(self, identity: str) -> None:
        """Forget the timer of this identity, if there is one."""
        for timer in self.timers:
            if timer["id"] == identity:
                self.timers = [one for one in self.timers if one is not timer]
                self.add_effect(UntimerEffect(timer["key"]))
                return

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


def in_flight(invocations: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A snapshot's `invocations` as they were started, whatever has become of the keys' order."""
    return sorted(invocations.items(), key=lambda one: int(one[1]["key"].rpartition("#")[2]))


def invoke_effect(invocation: Invocation, flight: dict[str, Any]) -> InvokeEffect:
    """The effect for an entry of a snapshot's `invocations`."""
    return InvokeEffect(
        flight["key"],
        invocation.id,
        invocation.src,
        flight["state"],
        flight["input"],
        invocation.handler,
        invocation.task,
        invocation.retry,
        invocation.timeout,
    )
