"""The native runtime: a program in a thread of its own, brought back by replaying its journal."""

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Generator, Sequence
from datetime import datetime
from typing import Any

from sequential.core import values
from sequential.core.model import Failure, Finished, Outcome, Raised, Turn, Waiting
from sequential.errors import InvalidTaskError, ValueNotSupportedError
from sequential.runtimes.base import Program, SnapshotRefusedError, Step
from sequential.runtimes.native import patches
from sequential.runtimes.native.baton import Baton, Delivery, GivenUp
from sequential.runtimes.native.execution import Execution
from sequential.runtimes.native.failures import failure_of
from sequential.runtimes.native.generators import drive
from sequential.runtimes.native.places import ORIGINS
from sequential.runtimes.native.source import Source, arguments, handler_arguments
from sequential.task import use_host


class NativeRuntime:
    """Drives one program; see `runtimes.base.Runtime` for what the methods promise."""

    version = "native 1"
    stays = True

    def __init__(self) -> None:
        patches.install()
        self._baton: Baton | None = None
        self._execution: Execution | None = None

    async def start(self, program: Program, input: Any, now: datetime) -> Turn:
        await self.close()
        self._baton = baton = Baton(f"task {program.task}")
        self._execution = execution = Execution(program, baton, now)
        return await self._ended(baton.start(functools.partial(_run, execution, input)))

    async def resume(self, outcomes: Sequence[tuple[int, Outcome]], now: datetime) -> Turn:
        assert self._baton is not None
        return await self._ended(self._baton.advance(Delivery(outcomes, now)))

    async def snapshot(self) -> bytes | None:
        return None

    async def restore(self, program: Program, snapshot: bytes) -> Waiting:
        raise SnapshotRefusedError("a native program is replayed")

    async def close(self) -> None:
        baton, self._baton, self._execution = self._baton, None, None
        if baton is not None:
            await baton.drop()

    def step(self, sequence: int) -> Step:
        """The function that a call of `step` stands for; `KeyError` if it is no such call."""
        if self._execution is None:
            raise KeyError(sequence)
        return self._execution.steps[sequence]

    async def _ended(self, advancing: Any) -> Turn:
        turn: Turn = await advancing
        if not isinstance(turn.state, Waiting):
            await self.close()
        return turn


def _run(execution: Execution, input: Any) -> Turn:
    """The whole life of a program, in its thread."""
    use_host(execution)
    asyncio.set_event_loop(execution.loop)
    sys.set_coroutine_origin_tracking_depth(ORIGINS)  # of this thread
    source = Source(execution.program)
    try:
        value = _call(execution, source, input)
        state: Finished | Raised = _finished(execution, value)
    except GivenUp:
        execution.loop.unwind()
        raise
    except InvalidTaskError as error:
        state = Raised(Failure("RuntimeError", str(error), code=error.code))
    except BaseException as error:
        state = Raised(failure_of(error, execution.places))
    finally:
        source.close()
    turn = execution.last_turn(state)
    execution.loop.unwind()
    return turn


def _call(execution: Execution, source: Source, input: Any) -> Any:
    entry = source.load()
    plain: Callable[..., Any] = inspect.unwrap(entry)
    if code := getattr(plain, "__code__", None):
        module = getattr(plain, "__module__", "") or ""
        execution.places.add(code, f"{module.replace('.', '/')}.py")
    given = values.from_json(input)
    if execution.program.handler is None:
        first, named = arguments(entry, given, execution.program.input_names)
    else:
        vars(source.module)["currentState"] = given["context"]["state"]
        first, named = handler_arguments(entry, given), {}
    value = entry(*first, **named)
    if inspect.isawaitable(value):
        return execution.loop.run(_awaited(value))
    if isinstance(value, Generator):
        return drive(value, execution)
    if inspect.isasyncgen(value):
        raise TypeError("the task is an async generator: let it be `async def` without `yield`")
    return value


async def _awaited(value: Any) -> Any:
    return await value


def _finished(execution: Execution, value: Any) -> Finished:
    limit = execution.program.limits.result_kb << 10
    try:
        tree = values.to_json(value, "the result")
    except ValueNotSupportedError as error:
        raise TypeError(str(error)) from None
    if (size := len(values.dumps(tree))) > limit:
        raise TypeError(
            f"the result is {size} bytes, at most {limit} are allowed (limits.result_kb)"
        )
    return Finished(tree)
