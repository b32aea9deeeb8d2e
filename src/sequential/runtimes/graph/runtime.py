"""A graph as a program: each macrostep of its machine is a turn, each thing it waits for a call.

A handler is a child run of its own, a timer is a durable sleep, and one call waits for events from
outside. What the machine does not wait for any more is given up in the same turn. So all that is
promised of calls holds for graphs. The states that were left and entered are noted in the journal.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from sequential.core import values
from sequential.core.model import (
    Call,
    Failure,
    Finished,
    Frame,
    Outcome,
    Raised,
    RetryPolicy,
    Turn,
    Waiting,
)
from sequential.core.retry import next_delay
from sequential.core.statechart import effects
from sequential.core.statechart.machine import Machine
from sequential.core.task_graph import machine_of
from sequential.errors import SequentialError, ValueNotSupportedError
from sequential.runtimes.base import Program, SnapshotRefusedError, Step

EVENTS = "events"  # the key of the call that waits for events from outside
AGAIN = "#again"  # ends the key of a pause before a retry; keys of the machine end in a number
STUCK = "nothing can happen any more in {states}: no handler, timer, event or transition is left"


class Again(msgspec.Struct):
    """A handler that may be run again if it fails."""

    invoke: effects.InvokeEffect
    attempts: int = 1


class State(msgspec.Struct):
    """Where a graph run stands; all of it is in its snapshots."""

    machine: dict[str, Any]
    pending: dict[int, str] = {}  # number of a call -> key of what it is for
    next_sequence: int = 0
    accepts: list[str] = []
    again: dict[str, Again] = {}


class GraphRuntime:
    """Drives one machine; see `runtimes.base.Runtime` for what the methods promise."""

    version = "graph 1"
    stays = True

    def __init__(self) -> None:
        self._program: Program | None = None
        self._machine: Machine | None = None
        self._state = State({})
        self._calls: list[Call] = []
        self._notes: list[int] = []
        self._dropped: list[int] = []
        self._log: list[str] = []
        self._damaged: Failure | None = None
        self._now = 0.0
        self._has_moved = False  # since it last asked for events

    async def start(self, program: Program, input: Any, now: datetime) -> Turn:
        try:
            self._open(program)
        except SequentialError as error:
            return Turn(Raised(Failure("RuntimeError", str(error), code=error.code)))
        self._now = _milliseconds(now)
        snapshot, found = self._graph.start(input, self._now)
        self._take(snapshot, found)
        return self._turn()

    async def resume(self, outcomes: Sequence[tuple[int, Outcome]], now: datetime) -> Turn:
        self._now = max(self._now, _milliseconds(now))
        given = [(self._state.pending.pop(number), outcome) for number, outcome in outcomes]
        for key, outcome in given:
            self._deliver(key, outcome)
            await asyncio.sleep(0)  # many small steps do not keep others from theirs
        return self._turn()

    async def snapshot(self) -> bytes | None:
        return msgspec.msgpack.encode(self._state)

    async def restore(self, program: Program, snapshot: bytes) -> Waiting:
        try:
            self._open(program)
            self._state = msgspec.msgpack.decode(snapshot, type=State)
        except (msgspec.DecodeError, SequentialError) as error:
            raise SnapshotRefusedError(str(error)) from error
        if self._state.machine.get("hash") != self._graph.hash:
            raise SnapshotRefusedError("the snapshot is of another graph")
        return Waiting(tuple(self._state.pending))

    async def close(self) -> None:
        self._program = self._machine = None
        self._state = State({})

    def step(self, sequence: int) -> Step:
        raise KeyError(sequence)

    # --- inside ----------------------------------------------------------------------------------

    @property
    def _graph(self) -> Machine:
        assert self._machine is not None
        return self._machine

    def _open(self, program: Program) -> None:
        assert program.graph is not None
        self._program = program
        self._machine = machine_of(program.graph, program.source, program.task)
        self._state = State({})

    def _deliver(self, key: str, outcome: Outcome) -> None:
        """What one outcome means for the machine; one that it does not want changes nothing."""
        before, now = self._state.machine, self._now
        if key == EVENTS:
            name, data = outcome.value["name"], outcome.value["data"]
            more = data if isinstance(data, dict) else {} if data is None else {"data": data}
            self._state.accepts = []  # asked for anew
            self._take(*self._graph.send(before, {**more, "type": name}, now))
        elif key.endswith(AGAIN):
            if again := self._state.again.get(key.removesuffix(AGAIN)):  # its state was not left
                self._invoke(again.invoke)
        elif outcome.error is None and key in {one.key for one in self._invoked()}:
            self._state.again.pop(key, None)
            self._take(*self._graph.done(before, key, outcome.value, now))
        elif outcome.error is None:
            self._take(*self._graph.fire(before, key, now))
        elif not self._is_tried_again(key, outcome.error):
            error = {"name": outcome.error.type, "message": outcome.error.message}
            self._take(*self._graph.failed(before, key, error, now))

    def _invoked(self) -> list[effects.InvokeEffect]:
        found = self._graph.pending(self._state.machine)
        return [effect for effect in found if isinstance(effect, effects.InvokeEffect)]

    def _is_tried_again(self, key: str, error: Failure) -> bool:
        again = self._state.again.get(key)
        if again is None:
            return False
        policy = again.invoke.retry or RetryPolicy(retries=0)
        delay = next_delay(policy, again.attempts, key)
        if delay is None or key not in {one.key for one in self._invoked()}:
            del self._state.again[key]
            return False
        again.attempts += 1
        self._ask("clock", "sleep", {"seconds": delay}, f"{key}{AGAIN}")
        return True

    def _take(self, snapshot: dict[str, Any], found: list[effects.Effect]) -> None:
        """Go on with a snapshot, and turn what the machine asks for into calls."""
        self._state.machine = snapshot
        for effect in found:
            match effect:
                case effects.InvokeEffect():
                    if effect.retry is not None:
                        self._state.again[effect.key] = Again(effect)
                    self._invoke(effect)
                case effects.TimerEffect():
                    seconds = max(0.0, (effect.due - self._now) / 1000)
                    self._ask("clock", "sleep", {"seconds": seconds}, effect.key, self._place())
                case effects.CancelEffect() | effects.UntimerEffect():
                    self._give_up(effect.key)
                case effects.LogEffect():
                    self._log.append(f"{values.dumps(effect.params).decode()}\n")
                case effects.EmitEffect():
                    self._note("emit", effect.params)
                case effects.StepEffect():
                    self._has_moved = self._has_moved or bool(effect.entered)
                    self._note("step", values.loads(msgspec.json.encode(effect)))

    def _invoke(self, effect: effects.InvokeEffect) -> None:
        """Have a handler run, or the child task that the state names."""
        assert self._program is not None
        given: dict[str, Any] = {"name": effect.task or self._program.task, "input": effect.input}
        if effect.task is None:
            given["handler"] = effect.handler or effect.src
            given["context"] = self._graph.handler_context(self._state.machine, effect)
        if effect.timeout is not None:
            given["timeout"] = effect.timeout / 1000
        self._ask("tasks", "run", given, effect.key, effect.state)

    def _ask(self, service: str, method: str, arguments: Any, key: str, place: str = "") -> int:
        sequence = self._call(service, method, arguments, place)
        self._state.pending[sequence] = key
        return sequence

    def _call(self, service: str, method: str, arguments: Any, place: str = "") -> int:
        self._check(arguments)
        state, sequence = self._state, self._state.next_sequence
        state.next_sequence += 1
        shown = place.replace(f"{self._graph.id}.", "")
        where = Frame("graph.json", 1, function=shown, source=place) if place else None
        self._calls.append(Call(sequence, service, method, arguments, where))
        return sequence

    def _check(self, tree: Any) -> None:
        """End the run in this turn if a value of the graph reads like a damaged one of ours."""
        try:
            values.from_json(tree)
        except ValueNotSupportedError as error:
            message = f'the graph has made an object whose key begins with "$": {error}'
            self._damaged = Failure("ValueError", message, code=error.code)

    def _note(self, method: str, arguments: Any) -> None:
        self._notes.append(self._call("graph", method, arguments))

    def _give_up(self, key: str) -> None:
        self._state.again.pop(key, None)
        for wanted in (key, f"{key}{AGAIN}"):
            for number in [n for n, known in self._state.pending.items() if known == wanted]:
                del self._state.pending[number]
                self._dropped.append(number)

    def _listen(self) -> None:
        """Wait for events from outside, as long as the machine accepts any.

        The wait begins anew, for the task's `ttl`, when states were entered and nothing but an
        event can lead on from them.
        """
        accepts = self._graph.events(self._state.machine)
        begins_anew = self._has_moved and all(key == EVENTS for key in self._state.pending.values())
        self._has_moved = False
        if accepts == self._state.accepts and not begins_anew:
            return
        self._give_up(EVENTS)
        self._state.accepts = accepts
        if accepts:
            self._ask("events", "wait", {"any": True, "accepts": accepts}, EVENTS, self._place())

    def _place(self) -> str:
        """The states in which a run waits."""
        return ", ".join(self._graph.innermost(self._state.machine))

    def _turn(self) -> Turn:
        if self._ending() is None:
            self._listen()
        state = self._ending() or Waiting(tuple(self._state.pending))
        turn = Turn(
            state,
            tuple(self._calls),
            "".join(self._log),
            tuple(sorted(self._dropped)),
            tuple(self._notes),
        )
        self._calls, self._log, self._dropped, self._notes = [], [], [], []
        return turn

    def _ending(self) -> Finished | Raised | None:
        machine = self._state.machine
        if machine["status"] == "done":
            self._check(machine["output"])
        if self._damaged is not None:
            return Raised(self._damaged)
        match machine["status"]:
            case "done":
                return Finished(machine["output"])
            case "error":
                error = machine["error"]
                known = isinstance(error, dict)
                kind = str(error.get("name") or "RuntimeError") if known else "RuntimeError"
                text = str(error.get("message", "")) if known else str(error)
                return Raised(Failure(kind, text))
        if self._graph.is_stuck(machine):
            states = ", ".join(self._graph.innermost(machine))
            return Raised(Failure("RuntimeError", STUCK.format(states=states)))
        return None


def _milliseconds(moment: datetime) -> float:
    return round(moment.timestamp() * 1000)
