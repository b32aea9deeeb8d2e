"""Paused tasks in Firestore: a document for each."""

import asyncio
from typing import Any

from sequential.core import times
from sequential.errors import StorageError
from sequential.flow.executor_storage import safe_name
from sequential.flow.flow_task import FlowTask
from sequential.flow.storages import CustomStorage

COLLECTION = "sequential_flow_tasks"
_MOST = 1_000_000  # bytes of a document, with room for its names


class FirestoreStorage(CustomStorage):
    """Tasks in Firestore, for any number of processes.

    `client` is a `google.cloud.firestore.Client`. `expires_at` is a time stamp in each document: a
    TTL policy on that field makes Firestore remove what has expired.
    """

    def __init__(self, client: Any, collection: str = COLLECTION) -> None:
        self._client = client
        self._tasks = client.collection(collection)

    async def save(self, task: FlowTask) -> None:
        await asyncio.to_thread(self._document(task.id).set, _fields(task))

    async def load(self, task_id: str) -> FlowTask | None:
        found = await asyncio.to_thread(self._document(task_id).get)
        return FlowTask.from_json(found.get("data")) if found.exists else None

    async def delete(self, task_id: str) -> bool:
        return await asyncio.to_thread(self._delete, task_id)

    async def swap(self, task_id: str, revision: int | None, task: FlowTask | None) -> bool:
        return await asyncio.to_thread(self._swap, task_id, revision, task)

    def _delete(self, task_id: str) -> bool:
        document = self._document(task_id)
        there = bool(document.get(field_paths=["revision"]).exists)
        document.delete()
        return there

    def _swap(self, task_id: str, revision: int | None, task: FlowTask | None) -> bool:
        """A write that holds only for the version of the document that we have seen."""
        from google.api_core import exceptions  # noqa: PLC0415 - only its users have it

        document = self._document(task_id)
        seen = document.get(field_paths=["revision"])
        if (seen.get("revision") if seen.exists else None) != revision:
            return False
        try:
            if not seen.exists:
                if task is not None:
                    document.create(_fields(task))
                return True
            unchanged = self._client.write_option(last_update_time=seen.update_time)
            if task is None:
                document.delete(option=unchanged)
            else:
                document.update(_fields(task), option=unchanged)
        except (exceptions.Conflict, exceptions.FailedPrecondition, exceptions.NotFound):
            return False
        return True

    def _document(self, task_id: str) -> Any:
        return self._tasks.document(safe_name(task_id))


def _fields(task: FlowTask) -> dict[str, Any]:
    text = task.to_json()
    if (size := len(text.encode())) > _MOST:
        raise StorageError(
            f"task {task.id} has {size} bytes with its answers, a document of Firestore holds "
            f"{_MOST}: use another storage, or the StorageAdapter of Firestore, which splits them"
        )
    expires_at = None if task.expires_at is None else times.from_text(task.expires_at)
    return {"data": text, "revision": task.revision, "expires_at": expires_at}
