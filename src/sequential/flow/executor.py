"""`create_flow_executor`: workflows as generators, one call for each invocation of a process.

    def workflow(input):
        user = yield {"__tool": ["api", "user", {"id": input["user_id"]}]}
        posts = yield {"__tool": ["api", "posts", {"uid": user["id"]}]}
        return {"user": user, "posts": posts}

    flow = create_flow_executor(storage, call=call, resume=resume)
    await flow.execute(workflow, "exec-1", {"user_id": 123})

An invocation runs the generator anew with the results that are stored, performs the next call,
stores its result, fires the callback and returns `{"paused": id, "step": n}`. The callback's
invocation does the same again, until the generator returns.
"""

import asyncio
import inspect
import logging
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from sequential.core import ids, journal, times, values
from sequential.core.error_text import text_of
from sequential.core.model import CallStatus, Failure, Finished, StackRun, Turn, Waiting, evolve
from sequential.errors import ConfigError
from sequential.flow.executor_claim import Claim
from sequential.flow.executor_program import Ended, Program, Request
from sequential.flow.executor_storage import GivenStorage, StepStorage, check_flow_id, settled
from sequential.flow.executor_storages import AdapterStepStorage
from sequential.runner.clock import Clock, SystemClock
from sequential.storage.base import StorageAdapter

Until: TypeAlias = Literal["step", "end"] | float

LEASE = 60.0  # seconds after which a flow whose process died may be driven by another
_log = logging.getLogger(__name__)


def create_flow_executor(
    storage: Any,
    *,
    call: Callable[..., Any] | None = None,
    resume: Callable[..., Any] | None = None,
    lease: float = LEASE,
    clock: Clock | None = None,
) -> "FlowExecutor":
    """A `FlowExecutor` on a storage of `sequential.flow`, a `StorageAdapter`, or one of your own.

    `call(category, name, input)` performs a call, `resume(id)` fires the callback that executes the
    flow again; both may be coroutine functions. `call` is also given the idempotency key of the
    call if it takes a parameter `key`, `resume` the number of the step it comes after if it takes
    `step`. For `lease` seconds after the last sign of life of a process nobody else drives its
    flow. Raises `ConfigError` for what cannot store flows.
    """
    if isinstance(storage, StorageAdapter):
        storage = AdapterStepStorage(storage)
    elif not isinstance(storage, StepStorage):
        storage = GivenStorage(storage)
    if lease <= 0:
        raise ConfigError(f"lease is {lease}: it must be a number of seconds above 0")
    return FlowExecutor(storage, call, resume, lease, clock or SystemClock())


class FlowExecutor:
    """Executes workflows. One serves any number of flows at the same time, each driven by one.

    `async with` waits at its end until the callbacks that were fired are through.
    """

    def __init__(
        self,
        storage: StepStorage,
        call: Callable[..., Any] | None,
        resume: Callable[..., Any] | None,
        lease: float,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._call = call
        self._resume = resume
        self._lease = lease
        self._clock = clock
        self._call_takes_key = call is not None and _takes(call, "key")
        self._resume_takes_step = resume is not None and _takes(resume, "step")
        self._fired: set[asyncio.Task[None]] = set()

    async def execute(
        self,
        gen_fn: Callable[..., Any],
        id: str | None = None,
        input: Any = None,
        *,
        until: Until = "step",
        step: int | None = None,
    ) -> Any:
        """Go on with a flow, or begin it; returns its value, or `{"paused": id, "step": n}`.

        It pauses after one step; `until="end"` goes on to the end in this process, a number for so
        many seconds. The input is stored at the beginning and need not be given again. `step` says
        that this is the callback after that step: one that comes twice finds the flow further on
        and does nothing.

        Raises what the workflow raises, and `RunBusyError` while another process drives the flow;
        its state is kept then, and `execute` can be tried again. Raises `NonDeterminismError` when
        the workflow asks for another call than the one that was recorded, and `LeaseLostError`
        when another process took the flow over meanwhile.
        """
        if until not in ("step", "end") and not isinstance(until, int | float):
            raise ConfigError(f'until is {until!a}: use "step", "end" or a number of seconds')
        flow_id = self._new_id() if id is None else check_flow_id(id)
        claim = Claim(self._storage, flow_id, self._clock, self._lease)
        if not await claim.take(input, step):
            return {"paused": flow_id, "step": claim.step - 1}
        try:
            async with claim.kept():
                last = await self._drive(claim, gen_fn, input, until)
        except BaseException as error:
            await self._give_back(claim)
            if id is None:
                error.add_note(f"this was flow {flow_id}: execute it again under this id")
            raise
        if isinstance(last, Ended):
            return last.value
        await self._fire(flow_id, last)
        return {"paused": flow_id, "step": last}

    async def delete(self, id: str) -> None:
        """Remove a flow that is to go no further, with all its results."""
        await self._storage.delete(check_flow_id(id))

    async def close(self) -> None:
        """Wait until the callbacks that were fired are through, and those that they fire."""
        while self._fired:
            await asyncio.wait(self._fired)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- one invocation --------------------------------------------------------------------------

    async def _drive(
        self, claim: Claim, gen_fn: Callable[..., Any], input: Any, until: Until
    ) -> Ended | int:
        """Run the workflow to its end, or to a pause: returns the number of the last step then."""
        program = Program(gen_fn, await claim.input(input))
        try:
            return await self._run(claim, program, until)
        finally:
            await program.close()

    async def _run(self, claim: Claim, program: Program, until: Until) -> Ended | int:
        began = time.monotonic()
        answer = None
        while True:
            request = await program.advance(answer)
            answer = None  # it is the workflow's now: the next one shall not lie beside it
            number = program.asked - 1
            if isinstance(request, Ended):
                if program.asked < claim.step:
                    _check(await claim.recorded(program.asked), None)
                await claim.end()
                return request
            if number < claim.step:
                record = await claim.recorded(number)
                _check(record, request)
            else:
                record = await self._take_step(claim, request)
                pauses = until == "step" or (until != "end" and time.monotonic() - began >= until)
                await claim.advance(record, keep=not pauses)
                if pauses:
                    return number
            answer = _answer(record)
            del record

    async def _take_step(self, claim: Claim, request: Request) -> StackRun:
        number, operation = request.call.sequence, request.call.operation
        record = journal.stack_run(claim.id, request.call, number, self._now())
        record = evolve(record, status=CallStatus.COMPLETED)
        if request.is_save:
            return record
        if self._call is None:
            raise ConfigError(
                f"nothing performs {operation}: create_flow_executor(storage, call=...) takes a "
                "function call(category, name, input)"
            )
        try:
            value = await self._perform(self._call, request, claim.key(number))
        except Exception as error:  # whatever a tool raises is the answer
            failed = {"status": CallStatus.FAILED, "error": _failure(error)}
        else:
            failed = {"result": values.to_json(value, f"the result of {operation}")}
        return evolve(record, attempts=1, updated_at=self._now(), **failed)

    async def _perform(self, call: Callable[..., Any], request: Request, key: str) -> Any:
        more = {"key": key} if self._call_takes_key else {}
        return await _called(call, request.call.service, request.call.method, request.input, **more)

    async def _fire(self, id: str, step: int) -> None:
        if self._resume is None:
            return
        more = {"step": step} if self._resume_takes_step else {}
        if not _is_coroutine_function(self._resume):
            await _called(self._resume, id, **more)
            return
        fired = asyncio.create_task(self._call_back(id, more))
        self._fired.add(fired)
        fired.add_done_callback(self._fired.discard)

    async def _call_back(self, id: str, more: dict[str, int]) -> None:
        assert self._resume is not None
        try:
            await self._resume(id, **more)
        except Exception:
            _log.exception("the callback of flow %s failed: execute the flow again", id)

    async def _give_back(self, claim: Claim) -> None:
        try:
            await claim.release()
        except Exception:
            _log.warning("flow %s is free again when its lease has run out", claim.id)

    def _new_id(self) -> str:
        return ids.run_id(int(self._clock.now().timestamp() * 1000), os.urandom(10))

    def _now(self) -> str:
        return times.to_text(self._clock.now())


def _check(expected: StackRun, request: Request | None) -> None:
    """Raise `NonDeterminismError` unless the workflow asks for what was recorded."""
    entry = journal.Entry(expected.sequence, "", (), (expected,))
    if request is None:
        turn = Turn(Finished(None))
    else:
        turn = Turn(Waiting((expected.sequence,)), (request.call,))
    journal.check_turn(entry, turn)


def _answer(record: StackRun) -> Any:
    """What the workflow is sent for a step."""
    if record.error is not None:
        return {"__error": record.error.message}
    return values.from_json(record.result)


def _failure(error: Exception) -> Failure:
    name = type(error).__name__
    return Failure(name, text_of(error) or name, code="call_failed")


async def _called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a hook; an ordinary function does not keep the other flows waiting."""
    if _is_coroutine_function(function):
        return await function(*args, **kwargs)
    value, error = await asyncio.to_thread(_outcome, function, args, kwargs)
    if error is not None:
        raise error
    return await settled(value)


def _outcome(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Exception | None]:
    """As a value: a StopIteration that leaves a thread as an exception is waited for for ever."""
    try:
        return function(*args, **kwargs), None
    except StopIteration as error:
        return None, RuntimeError(f"the hook raised StopIteration: {error.value!r}")
    except Exception as error:
        return None, error


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with `async def __call__`
    )


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function may be given a keyword argument of this name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function written in C may not tell
        return False
    found = parameters.get(name)
    return any(one.kind is one.VAR_KEYWORD for one in parameters.values()) or (
        found is not None and found.kind is not found.POSITIONAL_ONLY
    )
