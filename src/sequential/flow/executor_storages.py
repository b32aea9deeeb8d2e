"""The storages of flows: in memory, in a folder, in a `StorageAdapter`.

    folder    <folder>/<id>/state.json, step-<n>.json
    adapter   a run that is paused, and a stack run for each step

Those in SQL databases, Redis and Firestore are in `executor_databases`.
"""

import asyncio
import contextlib
import hashlib
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sequential.core import ids, times, values
from sequential.core.model import (
    Amendment,
    CallStatus,
    StackRun,
    Status,
    TaskConfig,
    TaskRun,
    evolve,
)
from sequential.errors import RunChangedError, RunExistsError, RunNotFoundError, StorageError
from sequential.flow.executor_storage import INPUT, State, StepStorage, safe_name
from sequential.runner.clock import SystemClock
from sequential.storage import files
from sequential.storage.base import StorageAdapter

TASK = "flow-executor"  # the task that runs of flows belong to in a StorageAdapter
_OTHER = "flow.result"  # the operation of a call that holds data of another kind


class MemoryStepStorage(StepStorage):
    """Everything in dictionaries; gone with the process."""

    def __init__(self) -> None:
        self._states: dict[str, bytes] = {}
        self._results: dict[str, dict[int, bytes]] = {}

    async def get(self, id: str) -> State | None:
        state = self._states.get(id)
        return None if state is None else values.loads(state)

    async def set(self, id: str, state: State) -> None:
        self._states[id] = values.dumps(state)

    async def delete(self, id: str) -> None:
        self._results.pop(id, None)
        self._states.pop(id, None)

    async def get_result(self, id: str, step: int) -> Any:
        result = self._results.get(id, {}).get(step)
        return None if result is None else values.loads(result)

    async def set_result(self, id: str, step: int, data: Any) -> None:
        self._results.setdefault(id, {})[step] = values.dumps(data)


class FolderStepStorage(StepStorage):
    """Files in a folder, which several processes of one machine may share."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._mutex = threading.Lock()  # the lock of a file is one for all threads of a process

    async def get(self, id: str) -> State | None:
        state: State | None = await asyncio.to_thread(self._read, self._place(id) / "state.json")
        return state

    async def set(self, id: str, state: State) -> None:
        await asyncio.to_thread(self._write, self._place(id) / "state.json", state)

    async def delete(self, id: str) -> None:
        await asyncio.to_thread(self._delete, self._place(id))

    async def get_result(self, id: str, step: int) -> Any:
        return await asyncio.to_thread(self._read, self._result(id, step))

    async def set_result(self, id: str, step: int, data: Any) -> None:
        await asyncio.to_thread(self._write, self._result(id, step), data)

    async def swap(
        self, id: str, old: State | None, new: State, result: tuple[int, Any] | None = None
    ) -> bool:
        return await asyncio.to_thread(self._swap, id, old, new, result)

    def _swap(self, id: str, old: State | None, new: State, result: tuple[int, Any] | None) -> bool:
        state = self._place(id) / "state.json"
        aside = state.with_name(f".new-{uuid.uuid4().hex}")
        if self._read(state) != old:
            return False
        try:
            if result is not None:  # what may be large is written before others are kept waiting
                self._write(aside, result[1])
            with self._locked():
                if self._read(state) != old:
                    return False
                if result is not None:
                    aside.replace(self._result(id, result[0]))
                self._write(state, new)
                return True
        except OSError as error:
            raise files.explain(error, str(aside)) from error
        finally:
            files.remove(str(aside))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl  # noqa: PLC0415 - Windows lacks it, and may use the other storages

        files.make_folder(str(self._path))
        with self._mutex, (self._path / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _place(self, id: str) -> Path:
        return self._path / safe_name(id)

    def _result(self, id: str, step: int) -> Path:
        return self._place(id) / ("input.json" if step == INPUT else f"step-{step}.json")

    def _read(self, path: Path) -> Any:
        try:
            return values.loads(files.read(str(path)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.explain(error, str(path)) from error
        except ValueError as error:
            raise StorageError(
                f"{path} is damaged: {error}: put it back, or delete the flow"
            ) from error

    def _write(self, path: Path, tree: Any) -> None:
        try:
            files.make_folder(str(path.parent))
            files.replace(
                str(path), values.dumps(tree), durable=True, suffix=f".{uuid.uuid4().hex}.tmp"
            )
        except OSError as error:
            raise files.explain(error, str(path)) from error

    def _delete(self, place: Path) -> None:
        """At once: the folder gets another name before it is emptied."""
        try:
            with contextlib.suppress(FileNotFoundError):
                place.rename(self._path / f".gone-{uuid.uuid4().hex}")
                files.sync_folder(str(self._path))
        except OSError as error:
            raise files.explain(error, str(place)) from error
        for gone in self._path.glob(".gone-*"):  # and what a process left that died here
            shutil.rmtree(gone, ignore_errors=True)


class AdapterStepStorage(StepStorage):
    """Flows in any `StorageAdapter`: a run of the task `flow-executor`, and a call for each step.

    The run is paused all the time, so no worker takes it for one of its own. Its result is the
    state of the flow, and `turn` counts how often that has changed.
    """

    def __init__(self, adapter: StorageAdapter) -> None:
        self._adapter = adapter

    async def get(self, id: str) -> State | None:
        run = await self._adapter.get_task_run(run_id_of(id))
        return None if run is None else run.result

    async def set(self, id: str, state: State) -> None:
        if not await self._create(id, state, None):
            await self._adapter.update_task_run(run_id_of(id), result=state, updated_at=_now())

    async def delete(self, id: str) -> None:
        with contextlib.suppress(RunNotFoundError):
            await self._adapter.delete_task_run(run_id_of(id))

    async def get_result(self, id: str, step: int) -> Any:
        if step == INPUT:
            run = await self._adapter.get_task_run(run_id_of(id))
            return None if run is None else run.input
        call = await self._adapter.get_stack_run(ids.stack_run_id(run_id_of(id), step))
        if call is None or call.status is CallStatus.PENDING:
            return None
        if call.operation == _OTHER:
            return call.result
        record: dict[str, Any] = msgspec.to_builtins(evolve(call, result=None))
        return record | {"result": call.result}

    async def set_result(self, id: str, step: int, data: Any) -> None:
        if step == INPUT:
            await self._adapter.update_task_run(run_id_of(id), input=data)
        else:
            await self._adapter.create_stack_run(_call(run_id_of(id), step, data))

    async def swap(
        self, id: str, old: State | None, new: State, result: tuple[int, Any] | None = None
    ) -> bool:
        if old is None:
            return await self._create(id, new, result)
        run = await self._adapter.get_task_run(run_id_of(id))
        if run is None or run.result != old:
            return False
        changed = evolve(run, turn=run.turn + 1, result=new, updated_at=_now())
        call = _call(run.id, *result) if result is not None else None
        amendment = Amendment(changed, (call,) if call else ())
        try:
            await self._amend(run, amendment, call)
        except (RunChangedError, RunNotFoundError):
            return False
        return True

    async def _amend(self, run: TaskRun, amendment: Amendment, call: StackRun | None) -> None:
        """An amendment changes calls; most stores write one that is new as well, some refuse it."""
        try:
            await self._adapter.amend(run, amendment)
        except StorageError:
            if call is None or await self._adapter.get_stack_run(call.id) is not None:
                raise
            empty = evolve(call, status=CallStatus.PENDING, result=None, error=None)
            await self._adapter.create_stack_run(empty)
            await self._adapter.amend(run, amendment)

    async def _create(self, id: str, state: State, result: tuple[int, Any] | None) -> bool:
        now = _now()
        run = TaskRun(
            id=run_id_of(id),
            task_identifier=TASK,
            status=Status.PAUSED,
            input=result[1] if result else None,
            result=state,
            created_at=now,
            updated_at=now,
            config=TaskConfig(name=TASK, description=id, runtime="flow"),
        )
        try:
            await self._adapter.create_task_run(run)
        except RunExistsError:
            return False
        return True


def run_id_of(id: str) -> str:
    """The id of the run in which a `StorageAdapter` keeps a flow: the same for the same flow."""
    return ids.run_id(0, hashlib.sha256(id.encode()).digest())


def _call(run_id: str, step: int, data: Any) -> StackRun:
    """The record of a step: its own fields if it is one, else a call whose result is the data."""
    own = {"id": ids.stack_run_id(run_id, step), "task_run_id": run_id, "sequence": step}
    if not (isinstance(data, dict) and {"operation", "status", "fingerprint"} <= data.keys()):
        now = _now()
        times_of = {"created_at": now, "updated_at": now}
        data = {"operation": _OTHER, "status": CallStatus.COMPLETED, "result": data, **times_of}
    rest = {name: value for name, value in data.items() if name != "result"}
    return evolve(msgspec.convert({**rest, **own}, StackRun), result=data.get("result"))


def _now() -> str:
    return times.to_text(SystemClock().now())
