"""The service "tasks": runs that a task starts with `run_task`, and whose results it waits for.

A child is a run like any other: any worker may drive it. When it has ended, its parent is told, and
performs the call again to fetch the result. Should that word be lost, the parent looks by itself
after a while.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from sequential.core import ids, times, values
from sequential.core.model import StackRun, Status, TaskRun, evolve
from sequential.errors import InvalidInputError, RunExistsError, SequentialError, StorageError
from sequential.services.base import CallContext, CallError, NotYet, unknown_method
from sequential.storage.base import StorageAdapter

LOOK_AGAIN = 60.0  # seconds; the word that a child has ended usually comes at once
AT_ONCE = 1.0  # seconds that a parent waits in memory for a child that is driven beside it
PART = 0.1  # of the time that a child has taken: one that takes days is not looked at every minute
DEEPEST = 50  # runs, each started by the one before
TROUBLE = 5.0  # seconds until the store is asked again after it has failed


class Create(Protocol):
    """Writes the run of a child."""

    def __call__(
        self,
        task: str,
        input: Mapping[str, Any],
        *,
        run_id: str,
        parent_run_id: str,
        timeout: float | None,
    ) -> Awaitable[TaskRun]: ...


class ChildRuns:
    """`run(name, input)`. `retry` goes on with a child that failed.

    `started` is told of each, and says whether it is driven in this process.
    """

    name = "tasks"

    def __init__(
        self,
        storage: StorageAdapter,
        create: Create,
        retry: Callable[[str], Awaitable[TaskRun]],
        started: Callable[[TaskRun], bool],
        now: Callable[[], str],
    ) -> None:
        self._storage = storage
        self._create = create
        self._retry = retry
        self._started = started
        self._now = now

    def methods(self) -> Sequence[str]:
        return ("run",)

    def due_after(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        return 0.0

    async def call(
        self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], context: CallContext
    ) -> Any:
        """The child's result; `RuntimeError` if it failed or could not be started."""
        if method != "run":
            raise unknown_method(self, method)
        if "handler" in kwargs:
            return await self._handle(kwargs, context)
        name, given = kwargs.get("name"), kwargs.get("input") or {}
        if args or not isinstance(name, str) or not isinstance(given, dict):
            raise CallError("TypeError", "run_task() takes a name and an input", "invalid_call")
        if not all(bounds.permits_task(name) for bounds in context.allow.within):
            refusal = f"the operator does not let this run start the task {name!r}"
            raise CallError("PermissionError", refusal, "refused")
        try:
            child = await self._child(name, given, context, kwargs.get("timeout"))
        except StorageError:
            raise NotYet(TROUBLE) from None
        except InvalidInputError as error:
            raise CallError("ValueError", f"task {name}: {error}", error.code) from error
        except SequentialError as error:
            raise CallError("RuntimeError", str(error), error.code) from error
        match child.status:
            case Status.COMPLETED:
                return child.value
            case Status.FAILED:
                raise CallError("RuntimeError", f"task {name} failed: {child.error}", "task_failed")
            case Status.CANCELLED:
                raise CallError("RuntimeError", f"task {name} was cancelled", "task_cancelled")
        raise self._not_yet(child, context)

    async def _handle(self, given: Mapping[str, Any], context: CallContext) -> Any:
        """What the handler of a state returns; its error is the call's, as it is."""
        run_id = _child_id(context.run_id, context.sequence, context.created_at)
        try:
            child = await self._storage.get_task_run(run_id)
            if child is None:
                child = await _whole(self._create_handler(run_id, given, context))
            elif context.retried and child.status in (Status.FAILED, Status.CANCELLED):
                child = await self._retry(run_id)
        except StorageError:
            raise NotYet(TROUBLE) from None
        except RunExistsError:
            raise NotYet(0.0) from None
        except SequentialError as error:
            raise CallError("RuntimeError", str(error), error.code) from error
        if child.status is Status.COMPLETED:
            return child.value
        if child.status.is_final:
            if (failure := child.error) is None:
                raise CallError("RuntimeError", "the handler was cancelled", "task_cancelled")
            raise CallError(failure.type, failure.message, failure.code)
        raise self._not_yet(child, context)

    async def _create_handler(
        self, run_id: str, given: Mapping[str, Any], context: CallContext
    ) -> TaskRun:
        """A run of the same code, that calls one function of it."""
        parent = await self._storage.get_task_run(context.run_id)
        assert parent is not None  # it makes this call
        config = evolve(
            parent.config,
            graph=None,
            handler=given["handler"],
            inputs=(),
            concurrency=None,
            timeout=given.get("timeout"),
        )
        both = {"input": given.get("input"), "context": given.get("context")}
        now = self._now()
        return await self._storage.create_task_run(
            TaskRun(
                id=run_id,
                task_identifier=parent.task_identifier,
                status=Status.PENDING,
                input=values.to_json(both, "the input"),
                created_at=now,
                updated_at=now,
                deadline=times.after(now, config.timeout) if config.timeout else None,
                priority=parent.priority,
                parent_run_id=parent.id,
                filename=parent.filename,
                config=config,
                code=parent.code,
            )
        )

    def _not_yet(self, child: TaskRun, context: CallContext) -> NotYet:
        """Have the child driven, and say when to look again at the latest.

        The parent of one that may end at once is not parked meanwhile, only to be claimed again.
        """
        is_here = self._started(child)
        age = times.seconds_between(context.created_at, self._now())
        return NotYet(AT_ONCE if is_here and age < AT_ONCE else max(LOOK_AGAIN, age * PART))

    async def _child(
        self, name: str, input: dict[str, Any], context: CallContext, timeout: float | None
    ) -> TaskRun:
        run_id = _child_id(context.run_id, context.sequence, context.created_at)
        child = await self._storage.get_task_run(run_id)
        if child is None:
            await self._check_depth(name, context.run_id)
            place = {"run_id": run_id, "parent_run_id": context.run_id}
            try:
                return await _whole(self._create(name, input, timeout=timeout, **place))
            except RunExistsError:
                child = await self._storage.get_task_run(run_id)
                assert child is not None
        if context.retried and child.status in (Status.FAILED, Status.CANCELLED):
            return await self._retry(run_id)
        return child

    async def _check_depth(self, name: str, run_id: str) -> None:
        """Refuse the child of a run that has too many above it; most have none, which is free."""
        above: str | None = run_id
        for _ in range(DEEPEST):
            run = await self._storage.get_task_run(above) if above else None
            above = run.parent_run_id if run else None
            if above is None:
                return
        raise CallError(
            "RecursionError",
            f"task {name} would be run {DEEPEST + 1} deep, run_task goes {DEEPEST} deep at most: "
            "does a task run itself for ever?",
            "too_deep",
        )

    async def close(self) -> None:
        pass


async def _whole(creating: Awaitable[TaskRun]) -> TaskRun:
    """Create a child even if its call is given up meanwhile: who does that then ends the child."""
    task = asyncio.ensure_future(creating)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):  # once is enough
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # or asyncio reports that nobody asked for it
        raise


def child_of(call: StackRun) -> str:
    """The id of the run that a call of `run_task` makes."""
    return _child_id(call.task_run_id, call.sequence, call.created_at)


def _child_id(run_id: str, sequence: int, asked_at: str) -> str:
    asked = times.from_text(asked_at)
    return ids.child_run_id(run_id, sequence, round(asked.timestamp() * 1000))
