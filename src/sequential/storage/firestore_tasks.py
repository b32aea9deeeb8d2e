"""Tasks and keys in Firestore, a document for each; and how runs are removed."""

import asyncio
import hashlib
from typing import Any

import msgspec

from sequential.core.model import TaskFunction, evolve
from sequential.errors import (
    DamagedRunError,
    RunBusyError,
    StorageError,
    TaskNotFoundError,
)
from sequential.storage import firestore_parts, firestore_search, firestore_values
from sequential.storage.firestore_connection import ConflictError, Connection
from sequential.storage.firestore_parts import Batch, PartMissingError
from sequential.storage.firestore_runs import cell_part
from sequential.storage.firestore_search import RUNS, turned
from sequential.storage.firestore_store import RunDocuments
from sequential.storage.firestore_values import EXISTING, MISSING, Condition, Found
from sequential.storage.sql_records import json_text

TASKS, KEYS = "tasks", "keystore"
_INLINE = 500 << 10  # bytes of a task that are in its document
_MOST_VALUE = 900_000  # bytes of a value in the keystore
_AT_ONCE = 150  # runs that are removed by one commit
_TRIES = 20
_function = msgspec.json.Decoder(TaskFunction)


# --- tasks ---------------------------------------------------------------------------------------


async def store(connection: Connection, function: TaskFunction) -> TaskFunction:
    """Create or replace a task, giving it its version."""
    name = connection.place.name(TASKS, function.identifier)
    for attempt in range(_TRIES):
        found = (await connection.get([name])).get(name)
        new = function
        if found:
            old = await _read(connection, found)
            same = (old.code, old.config, old.filename)
            if same == (function.code, function.config, function.filename):
                return old
            new = evolve(function, version=old.version + 1, created_at=old.created_at)
        batch = Batch(connection, f"task-{function.identifier}")
        data = json_text(new).encode()
        cell = data.decode()
        if len(data) > _INLINE:
            part = msgspec.json.encode(batch.keep(data))
            fields: dict[str, Any] = {"function": part}
        else:
            fields = {"function": cell}
        if found:
            batch.drop(cell_part(found.fields.get("function")))
        fields["change"] = batch.change
        batch.writes.append(firestore_values.put(name, fields, found.version if found else MISSING))
        try:
            await batch.commit()
            return new
        except ConflictError:
            again = (await connection.get([name], ["change"])).get(name)
            if again and again.fields["change"] == batch.change:
                return new
            await asyncio.sleep(0.01 * attempt)
    raise StorageError(f"the task {function.identifier} is changed by too many at once: try again")


async def get(connection: Connection, identifier: str) -> TaskFunction | None:
    name = connection.place.name(TASKS, identifier)
    for _ in range(_TRIES):
        found = (await connection.get([name])).get(name)
        try:
            return await _read(connection, found) if found else None
        except PartMissingError:
            continue  # it was replaced meanwhile
    raise DamagedRunError(f"the task {identifier} is damaged: store it again")


async def list_all(connection: Connection) -> list[TaskFunction]:
    tasks = [await get(connection, one.id) for one in await connection.find(TASKS, fields=())]
    return sorted((task for task in tasks if task), key=lambda task: task.identifier)


async def _read(connection: Connection, found: Found) -> TaskFunction:
    cell = found.fields.get("function")
    if part := cell_part(cell):
        cell = (await firestore_parts.load(connection, [part]))[part]
    try:
        return _function.decode(cell)  # type: ignore[arg-type]
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise DamagedRunError(
            f"the task {found.id} is damaged ({error}): correct its document, or store it again"
        ) from error


# --- removing ------------------------------------------------------------------------------------


async def delete(runs: RunDocuments, identifier: str) -> int:
    """Remove a task with all its runs; returns how many there were."""
    connection = runs.connection
    name = connection.place.name(TASKS, identifier)
    found = (await connection.get([name])).get(name)
    if found is None:
        raise TaskNotFoundError(f"there is no task {identifier}")
    removed = await delete_runs(runs, where=[Condition("task", "==", identifier)])
    batch = Batch(connection, f"task-{identifier}")
    batch.drop(cell_part(found.fields.get("function")))
    batch.writes.append(firestore_values.delete(name))
    await batch.commit()
    return removed


async def delete_runs(
    runs: RunDocuments, *, ids: list[str] | None = None, where: list[Condition] | None = None
) -> int:
    """Remove these runs, unless one of them is driven; returns how many there were.

    What they have in parts is removed behind that, by whoever opens the store next if need be.
    """
    count = 0
    for attempt in range(_TRIES):
        found = await _runs_to_delete(runs, ids, where)
        if busy := next((row for row in found if row.fields["lease_until"]), None):
            raise RunBusyError(
                f"run {turned(busy.id)} is being driven: wait until it is done; if its worker has "
                "died, `sequential-ecosystem resume` it first"
            )
        try:
            for first in range(0, len(found), _AT_ONCE):
                count += await _delete_some(runs, found[first : first + _AT_ONCE])
            return count
        except ConflictError as error:
            if error.repeated:  # the answer was lost: what is left will show
                count += len(found) - len(await _runs_to_delete(runs, ids, where))
            await asyncio.sleep(0.01 * attempt)
    raise StorageError("these runs are changed by too many at once: try again")


async def _runs_to_delete(
    runs: RunDocuments, ids: list[str] | None, where: list[Condition] | None
) -> list[Found]:
    if where is not None:
        found = await runs.connection.find(RUNS, where, fields=("lease_until",))
        return [row for row in found if firestore_search.is_run(row)]
    rows = [await runs.fetch(run_id, ["lease_until"]) for run_id in ids or ()]
    return [row for row in rows if row]


async def _delete_some(runs: RunDocuments, found: list[Found]) -> int:
    connection = runs.connection
    ids = [turned(row.id) for row in found]
    removals = [firestore_values.delete(row.name, row.version) for row in found]
    notes = [firestore_parts.note(connection, run_id) for run_id in ids]
    await connection.commit([*removals, *notes])
    for run_id in ids:
        runs.forget(run_id)
        await firestore_parts.remove_all(connection, run_id)
    return len(ids)


# --- keys ----------------------------------------------------------------------------------------


def _key_name(connection: Connection, key: str) -> str:
    """Keys may be any text; names of documents may not."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return connection.place.name(KEYS, digest)


async def set_key(connection: Connection, key: str, value: str) -> None:
    if len(value.encode()) > _MOST_VALUE:
        raise StorageError(
            f"the value of key {key[:40]!a} is too long: a document of Firestore has up to 1 MiB"
        )
    fields = {"key": key, "value": value}
    await connection.commit([firestore_values.put(_key_name(connection, key), fields)])


async def get_key(connection: Connection, key: str) -> str | None:
    name = _key_name(connection, key)
    found = (await connection.get([name])).get(name)
    return str(found.fields["value"]) if found else None


async def delete_key(connection: Connection, key: str) -> bool:
    name = _key_name(connection, key)
    try:
        await connection.commit([firestore_values.delete(name, EXISTING)])
    except ConflictError as error:
        return error.repeated  # the answer to the first try was lost, and it has removed it
    return True


async def list_keys(connection: Connection) -> list[str]:
    return sorted(str(one.fields["key"]) for one in await connection.find(KEYS, fields=("key",)))
