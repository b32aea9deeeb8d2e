"""The service "step": functions of native programs, called beside them.

A function cannot be written down, so a step is performed by a process that has the program in
memory; after a crash the program is replayed up to it first.
"""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from sequential.core.model import Failure, Outcome
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
        self._threads: ThreadPoolExecutor | None = None

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
            value = await self._done(step)
        except Exception as error:
            failure = Failure(_type_of(error), str(error), code="step_failed")
            raise TryAgain(Outcome(error=failure), retries=step.retries) from error
        return value

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _done(self, step: Step) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="step")
        loop = asyncio.get_running_loop()
        value = await loop.run_in_executor(self._threads, step.work)
        return await value if inspect.isawaitable(value) else value


def _type_of(error: Exception) -> str:
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"
