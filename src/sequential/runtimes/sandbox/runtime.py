"""The sandbox runtime: one program in one session of the virtual machine.

The machine stops at every request to the outside. Requests that the run's own state answers (the
clock, random bytes, imports) are answered on the spot; the others become calls. Most calls are
answered with a future, so the program goes on until every branch of it waits; `time.sleep` stops
the whole program until exactly its answer is there.
"""

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from pydantic_monty import (
    ExternalSettledResult,
    FunctionSnapshot,
    FutureSnapshot,
    MontyComplete,
    MontyCrashedError,
    MontyError,
    MontySession,
    NameLookupSnapshot,
)

from sequential.core import values
from sequential.core.model import Call, Failure, Finished, Frame, Outcome, Raised, Turn, Waiting
from sequential.errors import RuntimeDiedError, ValueNotSupportedError
from sequential.runtimes.base import Program, SnapshotRefusedError, Step
from sequential.runtimes.sandbox.failures import failure_of, place, raise_in_task
from sequential.runtimes.sandbox.pool import VERSION, Checkout, SandboxPool
from sequential.runtimes.sandbox.program import INPUT_NAME, Prepared, prepare, source_lines
from sequential.runtimes.sandbox.requests import (
    BLOCKING,
    Request,
    Stop,
    answer_locally,
    look_up,
    parse,
)

T = TypeVar("T")

MOST_CALLS_PER_TURN = 20_000
MOST_LOCAL_ANSWERS_PER_TURN = 100_000


class State(msgspec.Struct, frozen=True):
    """What a snapshot holds besides the machine's own dump."""

    pending: dict[int, int]  # number of a call -> the machine's id of it
    blocking: int | None  # the call that has to be answered before anything else moves
    next_sequence: int
    dump: bytes


class SandboxRuntime:
    """Drives one program; see `runtimes.base.Runtime` for what the methods promise."""

    version = VERSION
    stays = False

    def __init__(self, pool: SandboxPool) -> None:
        self._pool = pool
        self._checkout: Checkout | None = None
        self._session: MontySession | None = None
        self._stop: Stop | None = None
        self._pending: dict[int, int] = {}
        self._blocking: int | None = None
        self._next_sequence = 0
        self._output = _Output(0)
        self._program: Program | None = None
        self._has_room = False
        self._lines: list[str] = []
        self._line_starts: list[int] = []

    async def start(self, program: Program, input: Any, now: datetime) -> Turn:
        return await self._run(lambda: self._start(program, input, now))

    async def resume(self, outcomes: Sequence[tuple[int, Outcome]], now: datetime) -> Turn:
        return await self._run(lambda: self._resume(outcomes, now))

    async def snapshot(self) -> bytes | None:
        return await self._run(self._snapshot)

    async def restore(self, program: Program, snapshot: bytes) -> Waiting:
        return await self._run(lambda: self._restore(program, snapshot))

    def step(self, sequence: int) -> Step:
        raise KeyError(sequence)  # a step of the sandbox is a part of its program

    async def close(self) -> None:
        if self._checkout is not None:
            with contextlib.suppress(RuntimeDiedError):  # all processes were ended
                await self._run(self._close)

    async def _run(self, work: Callable[[], T]) -> T:
        """Work with the session on a thread, once there is a process for it.

        If threads waited for processes, none might be left for those that have one.
        """
        if not self._has_room:
            await self._pool.room.acquire()
            self._has_room = True
        try:
            return await self._pool.run(work)
        finally:
            if self._checkout is None:
                self._has_room = False
                self._pool.room.release()

    # What follows runs on a thread of the pool, one call at a time.

    def _start(self, program: Program, input: Any, now: datetime) -> Turn:
        prepared = _prepared(program)
        self._pending, self._blocking, self._next_sequence = {}, None, 0
        prelude = self._pool.prelude(program.methods)  # may need a process, so before we hold one
        session = self._open(program)

        def begin() -> Stop:
            session.load_session(prelude)
            return session.feed_start(
                prepared.source,
                inputs={INPUT_NAME: _input_for(prepared, values.from_json(input))},
                print_callback=self._output,
            )

        return self._turn(begin, now)

    def _restore(self, program: Program, snapshot: bytes) -> Waiting:
        try:
            state = msgspec.msgpack.decode(snapshot, type=State)
            session = self._open(program)
            stop = session.load_snapshot(state.dump, print_callback=self._output)
        except (msgspec.DecodeError, MontyError) as error:
            self._close()
            raise SnapshotRefusedError(str(error)) from error
        self._pending = state.pending
        self._blocking = state.blocking
        self._next_sequence = state.next_sequence
        self._stop = stop
        if not self._fits(stop):
            self._close()
            raise SnapshotRefusedError("the snapshot waits for other calls than it says")
        return self._waiting()

    def _fits(self, stop: Stop) -> bool:
        """Whether the machine waits for the calls that are said to be pending."""
        if any(not 0 <= sequence < self._next_sequence for sequence in self._pending):
            return False
        if self._blocking is None:
            waited = stop.pending_call_ids if isinstance(stop, FutureSnapshot) else []
            return bool(waited) and set(waited) <= set(self._pending.values())
        if not isinstance(stop, FunctionSnapshot) or stop.function_name != BLOCKING:
            return False
        return self._pending.get(self._blocking) == stop.call_id

    def _resume(self, outcomes: Sequence[tuple[int, Outcome]], now: datetime) -> Turn:
        stop = self._stop
        if self._blocking is not None:
            assert isinstance(stop, FunctionSnapshot)
            ((sequence, outcome),) = outcomes
            assert sequence == self._blocking
            del self._pending[sequence]
            self._blocking = None
            return self._turn(lambda: stop.resume(_answer(outcome)), now)
        assert isinstance(stop, FutureSnapshot)
        batch: dict[int, ExternalSettledResult] = {
            self._pending.pop(sequence): _answer(outcome) for sequence, outcome in outcomes
        }
        return self._turn(lambda: stop.resume(batch), now)

    def _snapshot(self) -> bytes:
        assert self._session is not None
        try:
            dump = self._session.dump()
        except MontyCrashedError as error:
            raise RuntimeDiedError(f"the sandbox process ended: {error}") from error
        state = State(self._pending, self._blocking, self._next_sequence, dump)
        return msgspec.msgpack.encode(state)

    def _open(self, program: Program) -> MontySession:
        self._close()
        self._program = program
        self._lines = source_lines(program.source)
        self._line_starts = _line_starts(program)
        self._output = _Output(program.limits.output_kb << 10)
        self._checkout = self._pool.checkout(program.limits, program.methods)
        try:
            self._session = self._checkout.__enter__()
        except MontyCrashedError as error:
            self._close()
            raise RuntimeDiedError(f"no sandbox process could be started: {error}") from error
        return self._session

    def _close(self) -> None:
        checkout, self._checkout = self._checkout, None
        self._session = self._stop = None
        if checkout is not None:
            self._pool.give_back(checkout)

    def _turn(self, step: Callable[[], Stop], now: datetime) -> Turn:
        """Take one step and go on until the program waits or ends."""
        assert self._program is not None
        self._output.clear()
        calls: list[Call] = []
        try:
            state = self._advance(step(), calls, now)
        except _LimitError as error:
            state = Raised(error.failure)
        except MontyCrashedError as error:
            self._close()
            raise RuntimeDiedError(f"the sandbox process ended: {error}") from error
        except MontyError as error:
            failure = self._output.exceeded or failure_of(error, self._program)
            state = Raised(failure)
        if not isinstance(state, Waiting):
            self._close()
        return Turn(state=state, calls=tuple(calls), log=self._output.text())

    def _advance(self, stop: Stop, calls: list[Call], now: datetime) -> Waiting | Finished | Raised:
        assert self._program is not None
        answers = 0
        while True:
            self._stop = stop
            if isinstance(stop, MontyComplete):
                return self._finish(stop)
            if isinstance(stop, FutureSnapshot):
                return self._waiting()
            if isinstance(stop, NameLookupSnapshot):
                stop = look_up(stop)
                continue
            local = answer_locally(stop, self._program.run_id, now)
            if local is not None:
                stop = local
                answers += 1
                if answers > MOST_LOCAL_ANSWERS_PER_TURN:
                    raise _LimitError(
                        "RuntimeError",
                        f"the task asked for the time more than {answers - 1} times between two "
                        "calls: wait with asyncio.sleep() instead",
                    )
                continue
            call = self._call(stop)
            if isinstance(call, Failure):
                stop = stop.resume(raise_in_task(call))
                continue
            calls.append(call)
            self._pending[call.sequence] = stop.call_id
            if stop.function_name == BLOCKING:
                self._blocking = call.sequence
                return self._waiting()
            if len(calls) > MOST_CALLS_PER_TURN:
                raise _LimitError(
                    "RuntimeError",
                    f"the task started more than {MOST_CALLS_PER_TURN} calls without waiting for "
                    "one: await them in smaller groups",
                )
            stop = stop.resume({"future": ...})

    def _waiting(self) -> Waiting:
        return Waiting(tuple(self._pending) if self._blocking is None else (self._blocking,))

    def _finish(self, stop: MontyComplete) -> Finished | Raised:
        assert self._program is not None
        try:
            tree = values.to_json(stop.output, "the result")
            self._check_size(tree, "the result", "is")
        except (ValueNotSupportedError, TypeError, ValueError) as error:
            message = str(error).replace("a MontyClassProxy", "an instance of the task's own class")
            failure = Failure(type="TypeError", message=message, code="value_not_supported")
            return Raised(failure)
        return Finished(tree)

    def _call(self, stop: FunctionSnapshot) -> Call | Failure:
        """The call a program asks for, or the exception it gets for asking like this."""
        try:
            request = parse(stop)
        except NameError as error:
            return Failure(type="NameError", message=str(error))
        except (TypeError, ValueError) as error:
            return Failure(type="TypeError", message=str(error))
        operation = f"{request.service}.{request.method}"
        try:
            tree = values.arguments_to_json(request.args, request.kwargs, f"input of {operation}")
            self._check_size(tree, f"the arguments of {operation}", "are")
        except ValueNotSupportedError as error:
            return Failure(type="TypeError", message=str(error))
        sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
        return Call(sequence, request.service, request.method, tree, self._frame(request))

    def _check_size(self, tree: Any, what: str, verb: str) -> None:
        assert self._program is not None
        limit = self._program.limits.result_kb << 10
        if (size := len(values.dumps(tree))) > limit:
            raise ValueNotSupportedError(
                f"{what} {verb} {size} bytes, at most {limit} are allowed (limits.result_kb)"
            )

    def _frame(self, request: Request) -> Frame | None:
        assert self._program is not None
        line = request.line
        if request.range is not None:
            line = bisect_right(self._line_starts, request.range.start)
        return place(self._program, self._lines, line)


class _LimitError(Exception):
    """A limit that the runtime watches itself."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(type=type, message=message, code="limit")


class _Output:
    """Collects what a program prints in a turn, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._parts: list[str] = []
        self.exceeded: Failure | None = None

    def __call__(self, stream: str, text: str) -> None:
        self._size += len(text)
        if self._size > self._limit:
            error = _LimitError(
                "MemoryError",
                f"the task printed more than {self._limit >> 10} KiB between two calls "
                "(limits.output_kb)",
            )
            self.exceeded = error.failure  # the machine passes on no more than its text
            raise error
        self._parts.append(text)

    def clear(self) -> None:
        self._size = 0
        self._parts.clear()

    def text(self) -> str:
        return "".join(self._parts)


def _prepared(program: Program) -> Prepared:
    return prepare(program.source, program.task, program.input_names, program.handler)


def _line_starts(program: Program) -> list[int]:
    """Byte offsets of the lines as the machine sees them."""
    starts = [0]
    prepared = _prepared(program).source
    for line in prepared.encode("utf-8", "surrogatepass").split(b"\n")[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _input_for(prepared: Prepared, whole: Any) -> Any:
    if prepared.input_fields is None or not isinstance(whole, dict):
        return whole
    return {name: whole[name] for name in prepared.input_fields if name in whole}


def _answer(outcome: Outcome) -> ExternalSettledResult:
    if outcome.error is not None:
        return raise_in_task(outcome.error)
    try:
        return {"return_value": values.from_json(outcome.value)}
    except ValueNotSupportedError as error:
        return {"exc_type": "TypeError", "message": str(error)}
