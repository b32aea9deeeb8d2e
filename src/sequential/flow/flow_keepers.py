"""Who keeps flows between two calls: a storage of records, a `StorageAdapter`, or the caller.

All of them advance a flow as a run in a `StorageAdapter`. Records are unpacked into one in memory
for a step, and replaced afterwards if nobody else has done so; the program itself does nothing but
compute, so a step that was in vain did no harm.
"""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from sequential.core import times
from sequential.core.model import Failure, Status, TaskFunction, TaskRun, evolve
from sequential.core.transitions import Event, Happening
from sequential.errors import (
    InvalidTransitionError,
    RunBusyError,
    RunChangedError,
    RunExistsError,
    RunNotFoundError,
    SequentialError,
    StorageError,
)
from sequential.flow.flow_drive import Answer, FlowDrive
from sequential.flow.flow_run import flow_task, is_flow, run_id_of
from sequential.flow.flow_state import pack, secret, unpack
from sequential.flow.flow_task import FlowStatus, FlowTask
from sequential.flow.script import original
from sequential.flow.storages import CustomStorage
from sequential.runner.clock import Clock
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter


class Keeper(Protocol):
    """Takes steps of flows and keeps what is between them."""

    async def start(self, flow_id: str, run: TaskRun) -> FlowTask:
        """The first step; raises `RunExistsError` if there is a flow of this id."""
        ...

    async def go_on(self, flow_id: str, answer: Answer | None) -> FlowTask:
        """The next step."""
        ...

    async def get(self, flow_id: str) -> FlowTask | None:
        """The task as it is; None when there is none, or it has expired."""
        ...

    async def delete(self, flow_id: str) -> bool:
        """Remove a task, whatever it waits for; returns whether there was one."""
        ...


class RecordKeeper:
    """Keeps tasks in a `CustomStorage`, as long as they are paused."""

    def __init__(self, storage: CustomStorage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def start(self, flow_id: str, run: TaskRun) -> FlowTask:
        known = await self._load(flow_id)
        if known is not None and not _has_expired(known, self._clock):
            raise _exists(flow_id)
        memory = await create_adapter("memory:")
        await memory.create_task_run(run)
        task = await _step(memory, self._clock, flow_id, run.id, None)
        if task.status is FlowStatus.PAUSED:
            revision = None if known is None else known.revision
            task = evolve(task, revision=(revision or 0) + 1)
            if not await self._swap(flow_id, revision, await self._packed(memory, run.id, task)):
                raise _exists(flow_id)
        return task

    async def go_on(self, flow_id: str, answer: Answer | None) -> FlowTask:
        stored = await self._load(flow_id)
        if stored is None:
            raise _unknown(flow_id)
        if _has_expired(stored, self._clock):
            await self._swap(flow_id, stored.revision, None)
            raise _expired(flow_id, stored.expires_at)
        memory, run = await unpack(stored, signed=False)
        task = await _step(memory, self._clock, flow_id, run.id, answer)
        task, new = evolve(task, revision=stored.revision + 1), None
        if task.status is FlowStatus.PAUSED:
            new = await self._packed(memory, run.id, task)
        if not await self._swap(flow_id, stored.revision, new):
            raise RunBusyError(
                f"task {flow_id} was resumed by somebody else at the same time, this response "
                "counts for nothing: look at it with get_task"
            )
        return task

    async def get(self, flow_id: str) -> FlowTask | None:
        stored = await self._load(flow_id)
        if stored is None or _has_expired(stored, self._clock):
            return None
        return evolve(stored, vm_state=None)

    async def delete(self, flow_id: str) -> bool:
        with _storage_errors("delete", flow_id):
            return await self._storage.delete(flow_id)

    async def _packed(self, memory: StorageAdapter, run_id: str, task: FlowTask) -> FlowTask:
        return evolve(task, vm_state=await _pack(memory, run_id, task, signed=False))

    async def _load(self, flow_id: str) -> FlowTask | None:
        with _storage_errors("load", flow_id):
            return await self._storage.load(flow_id)

    async def _swap(self, flow_id: str, revision: int | None, task: FlowTask | None) -> bool:
        with _storage_errors("save" if task else "delete", flow_id):
            return await self._storage.swap(flow_id, revision, task)


class RunKeeper:
    """Keeps flows as runs in a `StorageAdapter`, those that are over included."""

    def __init__(self, storage: StorageAdapter, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    async def start(self, flow_id: str, run: TaskRun) -> FlowTask:
        if await self._storage.get_task_function(run.task_identifier) is None:
            function = TaskFunction(
                run.task_identifier,
                original(run.code),
                run.config,
                created_at=run.created_at,
                updated_at=run.created_at,
                filename=run.filename,
            )
            await self._storage.store_task_function(function)  # lists are by task
        try:
            await self._storage.create_task_run(run)
        except RunExistsError as error:
            stored = await self._storage.get_task_run(run.id)
            if stored is None or not _has_not_begun(stored, run):
                raise _exists(flow_id) from error
        return await _step(self._storage, self._clock, flow_id, run.id, None)

    async def go_on(self, flow_id: str, answer: Answer | None) -> FlowTask:
        run = await self._run(flow_id)
        if run is None:
            raise _unknown(flow_id)
        if run.status.is_final:
            raise InvalidTransitionError(f"task {flow_id} is over: it is {run.status.value}")
        if await self._is_late(run):
            await self._end(flow_id, run)
            raise _expired(flow_id, run.deadline)
        return await _step(self._storage, self._clock, flow_id, run.id, answer)

    async def get(self, flow_id: str) -> FlowTask | None:
        run = await self._run(flow_id)
        if run is None or await self._is_late(run):
            return None
        now = times.to_text(self._clock.now())
        if run.status is Status.RUNNING and not await self._storage.is_leased(run, now):
            run = evolve(run, status=Status.SUSPENDED)  # whoever advanced it has died
        calls = await self._storage.load_calls(run.id, run.turn)
        return flow_task(flow_id, run, calls, revision=run.turn)

    async def delete(self, flow_id: str) -> bool:
        run = await self._run(flow_id)
        if run is None:
            return False
        try:
            if not run.status.is_final:
                now = times.to_text(self._clock.now())
                await self._storage.change(run.id, Happening(Event.CANCEL), now)
            await self._storage.delete_task_run(run.id)
        except (RunNotFoundError, InvalidTransitionError):
            return False
        return True

    async def _run(self, flow_id: str) -> TaskRun | None:
        run = await self._storage.get_task_run(run_id_of(flow_id))
        return run if run is not None and is_flow(run) else None

    async def _is_late(self, run: TaskRun) -> bool:
        """Whether a flow has expired; one that is being resumed was resumed in time."""
        now = times.to_text(self._clock.now())
        if run.status.is_final or run.deadline is None or run.deadline > now:
            return False
        return not (run.status is Status.RUNNING and await self._storage.is_leased(run, now))

    async def _end(self, flow_id: str, run: TaskRun) -> None:
        """Write down that a flow has expired, unless somebody else is at it."""
        message = str(_expired(flow_id, run.deadline))
        failure = Failure("TimeoutError", message, "expired")
        happening = Happening(Event.FAIL, error=failure)
        with contextlib.suppress(InvalidTransitionError, RunBusyError, RunChangedError):
            await self._storage.change(run.id, happening, times.to_text(self._clock.now()))


class CallerKeeper:
    """Keeps nothing: the caller gets the state of the program, signed, and brings it back."""

    def __init__(self, task: FlowTask | None, clock: Clock) -> None:
        self._task = task
        self._clock = clock

    async def start(self, flow_id: str, run: TaskRun) -> FlowTask:
        memory = await create_adapter("memory:")
        await memory.create_task_run(run)
        return await self._advanced(memory, run, flow_id, None, 1)

    async def go_on(self, flow_id: str, answer: Answer | None) -> FlowTask:
        assert self._task is not None
        memory, run = await unpack(self._task, signed=True)
        if run.deadline and run.deadline <= times.to_text(self._clock.now()):
            raise _expired(flow_id, run.deadline)
        return await self._advanced(memory, run, flow_id, answer, self._task.revision + 1)

    async def get(self, flow_id: str) -> FlowTask | None:
        return self._task

    async def delete(self, flow_id: str) -> bool:
        return False

    async def _advanced(
        self,
        memory: StorageAdapter,
        run: TaskRun,
        flow_id: str,
        answer: Answer | None,
        revision: int,
    ) -> FlowTask:
        task = await _step(memory, self._clock, flow_id, run.id, answer)
        task = evolve(task, revision=revision)
        if task.status is not FlowStatus.PAUSED:
            return task
        return evolve(task, vm_state=await _pack(memory, run.id, task, signed=True))


def _has_not_begun(stored: TaskRun, run: TaskRun) -> bool:
    """Whether a stored run is the same flow, and whoever executed it died before its first step."""
    is_same = is_flow(stored) and stored.code == run.code and stored.input == run.input
    return is_same and stored.turn == 0 and not stored.status.is_final


async def _step(
    storage: StorageAdapter, clock: Clock, flow_id: str, run_id: str, answer: Answer | None
) -> FlowTask:
    drive = FlowDrive(storage, clock, secret(), flow_id)
    run = await drive.step(run_id, answer)
    return flow_task(flow_id, run, drive.calls, log=drive.log, revision=run.turn)


async def _pack(memory: StorageAdapter, run_id: str, task: FlowTask, *, signed: bool) -> str:
    run = await memory.get_task_run(run_id)
    assert run is not None
    return await pack(memory, run, task, signed=signed)


@contextlib.contextmanager
def _storage_errors(what: str, flow_id: str) -> Iterator[None]:
    """Whatever a storage raises is an error of storage, with its reason."""
    try:
        yield
    except SequentialError:
        raise
    except Exception as error:
        raise StorageError(
            f"the storage cannot {what} task {flow_id}: {type(error).__name__}: {error}"
        ) from error


def _has_expired(task: FlowTask, clock: Clock) -> bool:
    return task.expires_at is not None and task.expires_at <= times.to_text(clock.now())


def _expired(flow_id: str, moment: str | None) -> InvalidTransitionError:
    return InvalidTransitionError(
        f"task {flow_id} has expired, as nobody resumed it until {moment}: execute it anew, with a "
        "longer ttl"
    )


def _unknown(flow_id: str) -> RunNotFoundError:
    return RunNotFoundError(
        f"there is no paused task {flow_id} in this storage: it has ended or expired, or was never "
        "kept there"
    )


def _exists(flow_id: str) -> RunExistsError:
    return RunExistsError(
        f"there is a task {flow_id} already: resume or delete it, or use another id"
    )
