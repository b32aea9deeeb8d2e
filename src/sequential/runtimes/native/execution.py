"""One program in its thread: the calls it asks for, and what it is told of the world."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sequential.core import ids, values
from sequential.core.model import Call, Frame, Outcome, Turn, Waiting
from sequential.errors import ValueNotSupportedError
from sequential.runtimes.base import Program, Step
from sequential.runtimes.native.baton import Baton, GivenUp
from sequential.runtimes.native.failures import exception_of
from sequential.runtimes.native.loop import DurableLoop, ProgramFuture
from sequential.runtimes.native.places import Places

STEP = "step"


class CallFuture(ProgramFuture):
    """The outcome of a call; cancelling it gives up the call."""

    def __init__(self, execution: "Execution", sequence: int) -> None:
        super().__init__(execution.loop.next_number(), execution.loop)
        self._execution = execution
        self._sequence = sequence

    def cancel(self, msg: Any = None) -> bool:
        is_cancelled = super().cancel(msg)
        if is_cancelled:
            self._execution.give_up(self._sequence)
        return is_cancelled


class Blocked:
    """A place in the program's stack that waits for one outcome before anything else moves."""

    outcome: Outcome | None = None


class Requested(NamedTuple):
    """What the journal is told of a call. `identity` is what a replay has to repeat of it.

    `where` is the line of the task if whoever asks knows it better than the stack.
    """

    service: str
    method: str
    arguments: Any
    identity: Any = None
    where: Frame | None = None


class Execution:
    """What `sequential.task.Host` promises, for one program."""

    def __init__(self, program: Program, baton: Baton, now: datetime) -> None:
        self.program = program
        self.loop = DurableLoop(self)
        self.places = Places(program)
        self.random = random.Random(ids.task_entropy(program.run_id, 0, 32))  # noqa: S311
        self.steps: dict[int, Step] = {}
        self._baton = baton
        self._now = now
        self._begun = now
        self._pending: dict[int, CallFuture | asyncio.TimerHandle | Blocked] = {}
        self._timers: dict[int, int] = {}  # id of a handle -> number of its call
        self._next_sequence = 0
        self._draws = 0
        self._calls: list[Call] = []
        self._dropped: list[int] = []
        self._log: list[str] = []
        self._logged = 0
        self.is_over = False

    # --- what tasks ask for ----------------------------------------------------------------------

    def now(self) -> datetime:
        return self._now

    def call(
        self, service: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        """Ask for a call. Where no loop runs, it is waited for at once."""
        return self._await(self.requested(service, method, args, kwargs))

    def step(self, work: Callable[[], Any], name: str, shown: Any, retries: int) -> Awaitable[Any]:
        args, kwargs = shown
        try:
            arguments = values.arguments_to_json(args, kwargs, f"the arguments of {name}")
        except ValueNotSupportedError:  # they stay in the process, so anything may be one
            arguments = _types(args, kwargs)
        if len(values.dumps(arguments)) > self.program.limits.result_kb << 10:
            arguments = _types(args, kwargs)
        return self._await(Requested(STEP, name, arguments), Step(work, retries))

    def call_blocking(self, request: Requested) -> Any:
        """The value of a call, for code that cannot await: nothing else of the program moves."""
        blocked = Blocked()
        sequence = self._ask(request, blocked)
        while blocked.outcome is None:
            self._wait((sequence,))
        return _value(blocked.outcome, is_step=request.service == STEP)

    def call_later(self, request: Requested) -> CallFuture:
        """The value of a call, to be awaited."""
        future = CallFuture(self, self._next_sequence)
        self._ask(request, future)
        return future

    def requested(
        self,
        service: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        identity: Mapping[str, Any] | None = None,
    ) -> Requested:
        """A call with arguments that can be written down; `TypeError` for others."""
        what = f"input of {service}.{method}"
        try:
            arguments = values.arguments_to_json(args, kwargs, what)
            same = None if identity is None else values.arguments_to_json((), identity, what)
        except ValueNotSupportedError as error:
            raise TypeError(str(error)) from None
        size = len(values.dumps(arguments))
        if size > (limit := self.program.limits.result_kb << 10):
            raise TypeError(
                f"the arguments of {service}.{method} are {size} bytes, at most {limit} are "
                "allowed (limits.result_kb)"
            )
        return Requested(service, method, arguments, same)

    def sleep_of(self, seconds: float) -> Requested:
        """The call that ends after some time."""
        return self.requested("clock", "sleep", (), {"seconds": seconds})

    def entropy(self, size: int) -> bytes:
        """Random bytes that a replay gets again."""
        self._draws += 1
        return ids.task_entropy(self.program.run_id, self._draws, size)

    def write(self, text: str) -> None:
        """Add to the run's log, up to the task's limit for one turn."""
        self._logged += len(text)
        if self._logged > self.program.limits.output_kb << 10:
            raise MemoryError(
                f"the task printed more than {self.program.limits.output_kb} KiB between two "
                "calls (limits.output_kb)"
            )
        self._log.append(text)

    # --- what the loop asks for ------------------------------------------------------------------

    def seconds(self) -> float:
        return self._now.timestamp()

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return (self._now - self._begun).total_seconds()

    def set_timer(self, handle: asyncio.TimerHandle, seconds: float) -> None:
        if math.isnan(seconds):
            raise ValueError("Invalid delay: NaN (not a number)")
        if not math.isinf(seconds):  # which nothing ends but a cancellation
            self._timers[id(handle)] = self._ask(self.sleep_of(seconds + 0.0), handle)

    def drop_timer(self, handle: asyncio.TimerHandle) -> None:
        sequence = self._timers.pop(id(handle), None)
        if sequence is not None:
            self.give_up(sequence)

    def wait(self) -> bool:
        """Let the turn end, and take in the outcomes that the next one begins with.

        False at once when there are no calls whose outcomes could come.
        """
        if self._pending:
            self._wait(tuple(self._pending))
            return True
        return False

    def give_up(self, sequence: int) -> None:
        """The program does not want the outcome of a call any more."""
        if self._pending.pop(sequence, None) is not None:
            self._dropped.append(sequence)
            self.steps.pop(sequence, None)

    def last_turn(self, state: Any) -> Turn:
        """The turn in which the program has ended."""
        self.is_over = True
        return self._turn(state)

    # --- inside ----------------------------------------------------------------------------------

    def _await(self, request: Requested, step: Step | None = None) -> Awaitable[Any]:
        if step is not None:
            self.steps[self._next_sequence] = step
        if self.loop.is_running():
            return self.call_later(request)
        return _Ready(self.call_blocking(request))

    def _ask(self, request: Requested, waiter: "CallFuture | asyncio.TimerHandle | Blocked") -> int:
        if self.is_over:
            self._baton.give_up()
        sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
        service, method, arguments, identity, where = request
        where = where or self.places.of_call()
        self._calls.append(Call(sequence, service, method, arguments, where, identity))
        self._pending[sequence] = waiter
        return sequence

    def _wait(self, waiting: tuple[int, ...]) -> None:
        try:
            delivery = self._baton.pass_on(self._turn(Waiting(waiting)))
        except GivenUp:
            self.is_over = True
            raise
        self._now = max(delivery.now, self._now)
        # What has come counts as in time: a timeout of the same moment shall not throw it away.
        for sequence, outcome in sorted(delivery.outcomes, key=self._is_timer):
            self._deliver(sequence, outcome)

    def _is_timer(self, delivered: tuple[int, Outcome]) -> bool:
        return isinstance(self._pending[delivered[0]], asyncio.TimerHandle)

    def _turn(self, state: Any) -> Turn:
        turn = Turn(state, tuple(self._calls), "".join(self._log), tuple(sorted(self._dropped)))
        self._calls.clear()
        self._dropped.clear()
        self._log.clear()
        self._logged = 0
        return turn

    def _deliver(self, sequence: int, outcome: Outcome) -> None:
        waiter = self._pending.pop(sequence)
        is_step = self.steps.pop(sequence, None) is not None
        if isinstance(waiter, Blocked):
            waiter.outcome = outcome
        elif isinstance(waiter, asyncio.TimerHandle):
            self._timers.pop(id(waiter), None)
            self.loop.make_ready(waiter)
        elif not waiter.done():
            try:
                waiter.set_result(_value(outcome, is_step=is_step))
            except Exception as error:
                waiter.set_exception(error)


class _Ready:
    """A value that was waited for already."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Any:
        return self._value
        yield


def _types(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What is recorded of the arguments of a step that cannot be, or are too large."""
    names = {name: type(value).__name__ for name, value in kwargs.items()}
    return values.arguments_to_json([type(value).__name__ for value in args], names, "a step")


def _value(outcome: Outcome, *, is_step: bool) -> Any:
    if outcome.error is not None:
        raise exception_of(outcome.error, is_step=is_step)
    return values.from_json(outcome.value)
