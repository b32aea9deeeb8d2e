"""One macrostep: an event, and all that follows from it until nothing more happens by itself."""

from collections.abc import Callable

from sequential.core.statechart.bounds import MAX_MICROSTEPS
from sequential.core.statechart.completion import complete, has_ended
from sequential.core.statechart.definition import Chart, State, Transition
from sequential.core.statechart.effects import Effect
from sequential.core.statechart.expression import ExpressionError
from sequential.core.statechart.movement import (
    Entering,
    compatible,
    domains_of,
    exit_set,
    initial_transition,
)
from sequential.core.statechart.performing import perform
from sequential.core.statechart.selection import select, select_always
from sequential.core.statechart.snapshot import Active, Snapshot, in_document_order
from sequential.core.statechart.working_copy import Event, MachineError, WorkingCopy

ACTOR_DONE, ACTOR_FAILED = "xstate.done.actor.", "xstate.error.actor."

Result = tuple[Snapshot, list[Effect]]


class Macrostep:
    """Takes one event on a working copy of a snapshot.

    An error in a guard, an action or an expression ends the machine, with the states and the data
    from before the event, and without its effects.
    """

    def __init__(self, chart: Chart, before: Snapshot, now: float) -> None:
        self.copy = WorkingCopy(chart, before, now)

    def begin(self, event: Event) -> Result:
        """Enter the initial states."""
        return self._run(event, self._begin)

    def take(self, event: Event) -> Result:
        """Take an event; the very snapshot comes back when nothing changed."""
        return self._run(event, self._take)

    def can_take(self, event: Event) -> bool:
        """Whether some transition would do something with the event."""
        self.copy.event = event
        try:
            return any(one.does_something for one in self._select())
        except (MachineError, ExpressionError):
            return False

    def _run(self, event: Event, happen: Callable[[], None]) -> Result:
        copy = self.copy
        copy.event = event
        try:
            happen()
        except (MachineError, ExpressionError) as error:
            copy = WorkingCopy(copy.chart, copy.before, copy.now)
            copy.status = "error"
            copy.error = {"name": type(error).__name__, "message": str(error)}
        if not copy.has_changed and copy.status == "active":
            return copy.before, []
        snapshot = copy.snapshot()
        return snapshot, [copy.step(event["type"], snapshot), *copy.effects]

    # What follows from an event

    def _begin(self) -> None:
        copy = self.copy
        copy.active = {copy.chart.root: None}
        copy.context = copy.chart.context.render(copy, copy.count)
        copy.before = {**copy.before, "context": copy.context}  # kept if the rest goes wrong
        self._microstep([initial_transition(copy.chart)], is_first=True)
        self._settle()

    def _take(self) -> None:
        copy, event = self.copy, self.copy.event
        transitions = self._select()
        if not transitions and event["type"].startswith(ACTOR_FAILED):
            copy.status, copy.error = "error", event["error"]
            return
        self._microstep(transitions)
        if event["type"].startswith((ACTOR_DONE, ACTOR_FAILED)):
            self._end_final(copy.chart.invocations[event["actorId"]].state)
        self._settle()

    def _end_final(self, state: State) -> None:
        """Our extension: a final state with a handler is reached when the handler has ended."""
        copy = self.copy
        if state.type == "final" and state in copy.active and has_ended(copy, state):
            complete(copy, state, set())
            self._exit_if_done()

    def _settle(self) -> None:
        """Take `always` transitions, then raised events, until nothing is left to take."""
        copy = self.copy
        count, may_move_on = 0, True
        while copy.status == "active":
            count += 1
            if count > MAX_MICROSTEPS:
                raise MachineError(
                    f"no stable state after {MAX_MICROSTEPS} microsteps: "
                    'is there a cycle of "always" or "raise"?'
                )
            transitions = select_always(self._states(), self._holds) if may_move_on else []
            if transitions:
                may_move_on = self._microstep(transitions)
            elif copy.queue:
                copy.event = copy.queue.popleft()
                self._microstep(self._select())
                may_move_on = True
            else:
                return

    # Choosing

    def _states(self) -> list[State]:
        return in_document_order(self.copy.active)

    def _select(self) -> list[Transition]:
        return select(self._states(), self.copy.event["type"], self._holds)

    def _holds(self, transition: Transition) -> bool:
        if transition.guard is None:
            return True
        try:
            return transition.guard.holds(self.copy)
        except ExpressionError as error:
            raise MachineError(f"{transition.where}: {error}") from None

    # One microstep

    def _microstep(self, transitions: list[Transition], *, is_first: bool = False) -> bool:
        """Leave, act, enter; whether states, handlers, data or history are others now."""
        if not transitions:
            return False
        copy = self.copy
        active, context, history = set(copy.active), copy.context, copy.history
        in_flight = copy.invocations.copy()
        transitions = compatible(copy.chart, history, transitions)
        # Fixed now, so that the history recorded on leaving cannot change them.
        domains = domains_of(copy.chart, history, transitions)
        if not is_first:
            self._leave(exit_set(copy.active, transitions, domains))
        for transition in transitions:
            copy.took(transition, is_told=not is_first)
            perform(copy, transition.actions)
        entering = Entering(copy.chart, copy.history)
        for transition in transitions:
            entering.add(transition, domains[transition])
        if is_first:
            entering.by_default.add(copy.chart.root)
        self._enter(entering)
        self._exit_if_done()
        has_moved = copy.active.keys() != active or copy.history is not history
        has_moved = has_moved or copy.invocations != in_flight  # a handler was started anew
        return has_moved or copy.context is not context or copy.status != "active"

    def _leave(self, leaving: list[State]) -> None:
        copy = self.copy
        recorded = {
            history.id: _to_restore(history, state, copy.active)
            for state in leaving
            for history in state.histories
        }
        if recorded:
            copy.history = {**copy.history, **recorded}
        for state in leaving:
            perform(copy, state.exit)
            for delay in state.delays:
                copy.clear_timer(delay.event)
            for invocation in state.invocations:
                copy.cancel(invocation)
            copy.leave(state)

    def _enter(self, entering: Entering) -> None:
        copy = self.copy
        finished: set[State] = set()
        for state in entering.states():
            copy.enter(state)
            perform(copy, state.entry)
            try:
                for delay in state.delays:
                    after = delay.computed.render(copy) if delay.computed else delay.milliseconds
                    copy.set_timer(delay.event, {"type": delay.event}, after)
                for invocation in state.invocations:
                    copy.invoke(invocation, invocation.input.render(copy, copy.count))
            except (ExpressionError, MachineError) as error:
                raise MachineError(f"{state.where}: {error}") from None
            if state in entering.by_default:
                perform(copy, state.initial_actions)
            if state.type == "final" and not state.invocations:
                complete(copy, state, finished)

    def _exit_if_done(self) -> None:
        if self.copy.status == "done":
            for state in in_document_order(self.copy.active)[::-1]:
                perform(self.copy, state.exit)


def _to_restore(history: State, parent: State, active: Active) -> list[str]:
    states = in_document_order(active)
    if history.deep:
        return [one.id for one in states if one.is_atomic and one.is_within(parent)]
    return [one.id for one in states if one.parent is parent]
