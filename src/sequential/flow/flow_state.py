"""The state of a paused program as one text, `vm_state`: its run, its journal, its snapshot.

The envelope is that of snapshots. States that are handed out are signed with a secret, so they are
refused if anybody changed them; those in a storage of one's own only carry a digest, so that any
process may go on with them. The snapshot inside is signed in any case: a process without the key
of the one that made it goes through the journal instead.
"""

import base64
import binascii
import os
import secrets
from pathlib import Path

import msgspec

from sequential.config import load_secret
from sequential.core.model import Snapshot, StackRun, TaskRun
from sequential.core.snapshot import Head, seal, source_hash, unseal
from sequential.errors import InvalidInputError, StorageError
from sequential.flow.flow_task import FlowTask
from sequential.storage.base import StorageAdapter
from sequential.storage.registry import create_adapter

_VERSION = "1"  # of what is below
_own_secret = secrets.token_bytes(32)  # of this process
_NO_SECRET = b""


class FlowState(msgspec.Struct, frozen=True):
    """Everything that is needed to go on."""

    run: TaskRun
    calls: list[StackRun]
    snapshot: Snapshot | None


def secret() -> bytes:
    """The key of snapshots and of states that are handed out."""
    return load_secret(Path()) if os.environ.get("SEQUENTIAL_SECRET") else _own_secret


async def pack(storage: StorageAdapter, run: TaskRun, task: FlowTask, *, signed: bool) -> str:
    """The state of a run as it is in a store, for `task`."""
    calls = await storage.load_calls(run.id)
    state = FlowState(run, calls, await storage.get_snapshot(run.id))
    sealed = seal(_head(task), msgspec.json.encode(state), secret() if signed else _NO_SECRET)
    return base64.b64encode(sealed).decode()


async def unpack(task: FlowTask, *, signed: bool) -> tuple[StorageAdapter, TaskRun]:
    """A store in memory with the run of a task, as `pack` found it.

    Raises `InvalidInputError` for a state that was handed out and cannot be trusted, and
    `StorageError` for one that a storage has damaged.
    """
    state = _unsealed(task, signed=signed)
    storage = await create_adapter("memory:")
    await storage.create_task_run(state.run)
    for call in state.calls:
        await storage.create_stack_run(call)
    if state.snapshot is not None:
        await storage.store_snapshot(state.snapshot)
    return storage, state.run


def _unsealed(task: FlowTask, *, signed: bool) -> FlowState:
    try:
        sealed = base64.b64decode(task.vm_state or "", validate=True)
        content = unseal(sealed, _head(task), secret() if signed else _NO_SECRET)
        if content is not None:
            return msgspec.json.decode(content, type=FlowState)
    except (binascii.Error, ValueError):  # DecodeError and ValidationError are among them
        pass
    if not signed:
        raise StorageError(f"the stored state of task {task.id} is damaged: delete it, start anew")
    hint = (
        "set SEQUENTIAL_SECRET to the same text for all of them"
        if "SEQUENTIAL_SECRET" not in os.environ
        else "they need the same SEQUENTIAL_SECRET"
    )
    raise InvalidInputError(
        f"the vm_state of task {task.id} was changed, is another task's, or comes from another "
        f"process: give the task as it was handed out; {hint}"
    )


def _head(task: FlowTask) -> Head:
    return Head(
        run=task.id,
        turn=task.revision,
        runtime="flow",
        version=_VERSION,
        source=source_hash(task.code),
    )
