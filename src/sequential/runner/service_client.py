"""Performs calls: hands them to their service and decides what becomes of them."""

import asyncio
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from sequential.config import lasting_secret
from sequential.core import ids, journal, times, values
from sequential.core.model import (
    Allow,
    Call,
    CallStatus,
    Failure,
    Outcome,
    RetryPolicy,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.core.retry import next_delay
from sequential.errors import ValueNotSupportedError
from sequential.runner.cancelling import is_cancelled
from sequential.runner.clock import Clock, SystemClock
from sequential.runner.keystore import CallSecrets, Keystore
from sequential.runner.settings import RunnerSettings
from sequential.services.base import CallContext, CallError, NotYet, Service, TryAgain
from sequential.services.registry import Services, standard_services
from sequential.storage.base import StorageAdapter

Arguments = tuple[list[Any], dict[str, Any]]


class Attempt(msgspec.Struct, frozen=True):
    """What one attempt brought: an outcome, or a time for the next attempt."""

    outcome: Outcome
    again: TryAgain | None = None
    not_yet: NotYet | None = None


class ServiceClient:
    """Performs the calls of all runs of an engine, or one by itself, so many at a time.

    `services` are added to those that are built in or installed; those that were made here are
    closed with the client. The secrets come from the keystore of `storage`. What a call got from
    there is taken out of its outcome before anybody else sees it.
    """

    def __init__(
        self,
        storage: StorageAdapter,
        services: Services | Iterable[Service] | None = None,
        *,
        secret: bytes | None = None,
        keys: Keystore | None = None,
        clock: Clock | None = None,
        settings: RunnerSettings | None = None,
    ) -> None:
        self._services = services_of(services)
        self._is_owner = self._services is not services
        self._keys = keys or keystore_of(storage, secret)
        self._services.provide(keys=self._keys, storage=storage)
        self._clock = clock or SystemClock()
        self._settings = settings or RunnerSettings()
        self._room = asyncio.Semaphore(self._settings.calls)
        self._read: tuple[Any, Arguments] = (None, ([], {}))  # the call that was read last

    async def call(
        self,
        service: str,
        method: str,
        args: Mapping[str, Any] | Sequence[Any] = (),
        *,
        retry: RetryPolicy | None = None,
        allow: Allow | None = None,
    ) -> Any:
        """Perform one call outside of a run, with all its retries, and return its value.

        `args` are keyword arguments, or a list of positional ones. Raises `CallError` with what a
        task would be told, and `ValueNotSupportedError` for arguments that no task could send.
        """
        named = args if isinstance(args, Mapping) else {}
        listed = () if named else [*args]
        run, call = self._single(service, method, listed, named, retry, allow or Allow())
        while not call.status.is_settled:
            if call.due_at is not None:
                seconds = times.seconds_between(times.to_text(self._clock.now()), call.due_at)
                await self._clock.wait(asyncio.Event(), max(0.0, seconds))
            before, call = call, await self.perform(run, call)
            if not call.status.is_settled and call.attempts == before.attempts:
                raise _waits(call)
        if call.error is not None:
            raise CallError(call.error.type, call.error.message, call.error.code)
        return values.from_json(call.result)

    async def attempt(
        self,
        service: str,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        allow: Allow | None = None,
        key: str | None = None,
    ) -> Any:
        """Make one attempt at a call outside of a run; its value as a JSON tree of `core.values`.

        `key` is what the service is told as the idempotency key, else a new one. Raises `TryAgain`
        when another attempt may do better, and otherwise what `call` raises.
        """
        run, call = self._single(service, method, args, kwargs or {}, None, allow or Allow())
        policy = run.config.retry or RetryPolicy()
        async with self._room:
            attempt = await self._attempt(run, call, policy, key or ids.idempotency_key(run.id, 0))
        if attempt.not_yet is not None:
            raise _waits(call)
        settled = _settled(run, call, attempt.outcome)
        if attempt.again is not None:
            outcome = Outcome(settled.result, settled.error)
            raise TryAgain(outcome, retry_after=attempt.again.retry_after)
        if settled.error is not None:
            raise CallError(settled.error.type, settled.error.message, settled.error.code)
        return settled.result

    def _single(
        self,
        service: str,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        retry: RetryPolicy | None,
        allow: Allow,
    ) -> tuple[TaskRun, StackRun]:
        """The records of a call that belongs to no run; they are never written."""
        moment = self._clock.now()
        run_id = ids.run_id(int(moment.timestamp() * 1000), secrets.token_bytes(10))
        config = TaskConfig(name="", retry=retry or self._settings.retry, allow=allow)
        run = TaskRun(run_id, "", Status.RUNNING, None, config=config)
        arguments = values.arguments_to_json(args, kwargs, f"{service}.{method}")
        now = times.to_text(moment)
        call = journal.stack_run(run_id, Call(0, service, method, arguments), 1, now)
        return run, evolve(call, due_at=self.due_at(call, allow, now))

    async def close(self) -> None:
        """Close the services that were made for this client."""
        if self._is_owner:
            await self._services.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def due_at(self, call: StackRun, allow: Allow, now: str) -> str | None:
        """When a new call is to be performed; None: at once."""
        args, kwargs = arguments = values.arguments_from_json(call.input)
        self._read = (call.input, arguments)
        try:
            service = self._services.get(call.service, allow)
            seconds = service.due_after(call.method, args, kwargs)
        except CallError:
            return None  # the attempt will say what is wrong
        return times.after(now, seconds) if seconds > 0 else None

    async def perform(self, run: TaskRun, call: StackRun) -> StackRun:
        """Make one attempt. The record that comes back is settled, or pending with a due time.

        One that still waits for an answer from outside comes back as it was, apart from `due_at`
        and the error it may have had before a retry of the run.
        """
        policy = run.config.retry or RetryPolicy()
        key = ids.idempotency_key(run.id, call.sequence)
        async with self._room:
            started = time.monotonic()
            attempt = await self._attempt(run, call, policy, key)
            duration = time.monotonic() - started
        now = times.to_text(self._clock.now())
        if attempt.not_yet is not None:
            seconds = attempt.not_yet.look_again
            due = None if seconds is None else times.after(now, seconds)
            return evolve(call, due_at=due, error=None)
        attempts = call.attempts + 1
        call = evolve(call, attempts=attempts, duration=round(duration, 6), updated_at=now)
        if attempt.again is not None:
            again = attempt.again
            delay = next_delay(
                policy, attempts, key, retry_after=again.retry_after, retries=again.retries
            )
            if delay is not None:
                due = times.after(now, delay)
                return evolve(
                    call, status=CallStatus.PENDING, due_at=due, error=_reason(attempt.outcome)
                )
        return _settled(run, call, attempt.outcome)

    async def _attempt(
        self, run: TaskRun, call: StackRun, policy: RetryPolicy, key: str
    ) -> Attempt:
        kept = CallSecrets(self._keys, run.config.allow)
        context = CallContext(
            run_id=run.id,
            task=run.task_identifier,
            sequence=call.sequence,
            attempt=call.attempts + 1,
            idempotency_key=key,
            allow=run.config.allow,
            retry=policy,
            created_at=call.created_at,
            retried=call.attempts == 0 and call.error is not None,
            secrets=kept,
        )
        attempt = await self._answered(run, call, context)
        if not kept.are_used:
            return attempt
        return evolve(attempt, outcome=kept.redaction.outcome(attempt.outcome))

    def _arguments(self, call: StackRun) -> Arguments:
        """What a call is performed with; most are performed right after `due_at` has read them."""
        tree, arguments = self._read
        if tree is not call.input or tree is None:
            return values.arguments_from_json(call.input)
        self._read = (None, ([], {}))
        return arguments

    async def _answered(self, run: TaskRun, call: StackRun, context: CallContext) -> Attempt:
        try:
            args, kwargs = self._arguments(call)
            service = self._services.get(call.service, run.config.allow)
            value = await service.call(call.method, args, kwargs, context)
            return Attempt(Outcome(value=value))
        except NotYet as not_yet:
            return Attempt(Outcome(), not_yet=not_yet)
        except TryAgain as again:
            failure = again.outcome.error
            return Attempt(Outcome(error=_valid(failure)) if failure else again.outcome, again)
        except CallError as error:
            return Attempt(Outcome(error=_valid(error.failure)))
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled(error):
                raise
            # Whatever a service raises is the outcome, also a cancellation inside of it.
            return Attempt(Outcome(error=_unexpected(error)))


def services_of(given: Services | Iterable[Service] | None) -> Services:
    """These services; those of a list, or none, together with the built-in and installed ones."""
    return given if isinstance(given, Services) else standard_services(given=given or ())


def keystore_of(storage: StorageAdapter, secret: bytes | None) -> Keystore:
    """The keystore of a store; without a secret with that of this folder, once it is needed."""
    return Keystore(storage, lambda: lasting_secret(Path()) if secret is None else secret)


def _waits(call: StackRun) -> CallError:
    told = f"{call.operation} waits for what comes to a run from outside: call it in a task"
    return CallError("RuntimeError", told, code="invalid_call")


def _settled(run: TaskRun, call: StackRun, outcome: Outcome) -> StackRun:
    if outcome.error is not None:
        return evolve(call, status=CallStatus.FAILED, error=outcome.error, result=None, due_at=None)
    try:
        tree, size = _checked(run, call, outcome.value)
    except ValueNotSupportedError as error:
        failure = Failure(type="TypeError", message=str(error), code=error.code)
        return evolve(call, status=CallStatus.FAILED, error=failure, due_at=None)
    return evolve(
        call, status=CallStatus.COMPLETED, result=tree, size=size, error=None, due_at=None
    )


def _checked(run: TaskRun, call: StackRun, value: Any) -> tuple[Any, int]:
    """The answer as a JSON tree and its size; too large an answer would end the task's process."""
    tree = values.to_json(value, f"the answer of {call.operation}")
    size = len(values.dumps(tree))
    limit = run.config.limits.memory_mb << 18
    if size > limit:
        raise ValueNotSupportedError(
            f"the answer of {call.operation} is {size >> 20} MiB, a task with limits.memory_mb "
            f"{run.config.limits.memory_mb} can take {limit >> 20} MiB: ask for less, or raise it"
        )
    return tree, size


def _reason(outcome: Outcome) -> Failure:
    """Why an attempt is made again, for people who look at a call that waits."""
    if outcome.error is not None:
        return outcome.error
    status = outcome.value.get("status") if isinstance(outcome.value, dict) else None
    return Failure(type="TryAgain", message=f"HTTP {status}" if status else "asked to try again")


def _unexpected(error: BaseException) -> Failure:
    name = type(error).__name__
    try:
        message = f"{name}: {error}"
    except Exception:  # its own text may be what is broken
        message = f"{name}, which has no text"
    return _valid(Failure(type="RuntimeError", message=message, code="call_failed"))


def _valid(failure: Failure) -> Failure:
    """The failure with text that can be stored: an error may hold a file name, half read bytes."""
    return evolve(failure, message=failure.message.encode("utf-8", "replace").decode())
