"""The service "step": functions of native programs, called beside them.

A function cannot be written down, so a step is performed by a process that has the program in
memory; after a crash the program is replayed up to it first.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, Protocol

from sequential.core.error_text import text_of
from sequential.core.model import Failure, Outcome
from sequential.runner.cancelling import is_cancelled
from sequential.runtimes.base import Step
from sequential.services.base import CallContext, CallError, TryAgain

NAME = "step"
THREADS = 64  # steps that block at the same time; awaited ones need no thread


class HasSteps(Protocol):
    """A program that is being driven."""

    def step(self, sequence: int) -> Step:
        """The function of a call; `KeyError` if it has none."""
        ...


class Steps:
    """Calls the functions of the programs that this process drives."""

    name = NAME

    def __init__(self) -> None:
        self._programs: dict[str, HasSteps] = {}
        self._room = asyncio.Semaphore(THREADS)

    def attach(self, run_id: str, program: HasSteps) -> None:
        """The program of a run is here now."""
        self._programs[run_id] = program

    def detach(self, run_id: str, program: HasSteps) -> None:
        """It is driven here no more."""
        if self._programs.get(run_id) is program:
            del self._programs[run_id]

    def methods(self) -> Sequence[str]:
        return ()

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """Call the function that stands at this place of the program."""
        try:
            step = self._programs[context.run_id].step(context.sequence)
        except KeyError:
            raise CallError(
                "RuntimeError",
                f"there is no step {method} at this place of the program: use `step(function)`",
                code="unknown_method",
            ) from None
        try:
            return await self._done(step)
        except BaseException as error:  # sys.exit() in a step ends the step, not the worker
            if is_cancelled(error):
                raise
            failure = Failure(_type_of(error), text_of(error), code="step_failed")
            raise TryAgain(Outcome(error=failure), retries=step.retries) from error

    async def close(self) -> None:
        pass  # a step in progress is given up like any call: it is done again after the next start

    async def _done(self, step: Step) -> Any:
        async with self._room:
            value = await _in_thread(step.work)
        return await value if inspect.isawaitable(value) else value


async def _in_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns, on a thread of its own that no end of a process waits for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = copy_context()

    def tell(value: Any, error: BaseException | None) -> None:
        if not done.done():
            done.set_result((value, error))

    def run() -> None:
        value, error = None, None
        try:
            value = context.run(work)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, value, error)

    threading.Thread(target=run, name=NAME, daemon=True).start()
    value, error = await done
    if error is not None:
        raise error
    return value


def _type_of(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"
