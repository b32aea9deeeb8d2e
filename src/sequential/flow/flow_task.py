"""The task object of `SequentialFlow`: what its callers get, and what its storages keep."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

import msgspec

from sequential.core import values
from sequential.core.model import evolve
from sequential.errors import InvalidInputError, ValueNotSupportedError


class FlowStatus(StrEnum):
    """Where a task stands. The values are the original's; they compare equal to plain text."""

    RUNNING = "running"  # somebody is resuming it at this moment
    PAUSED = "paused"  # it waits for the answer to a request, or for a time
    COMPLETED = "completed"
    ERROR = "error"


class FetchRequest(msgspec.Struct, frozen=True):
    """A request that the caller is to make on behalf of the task.

    `options` are the other arguments of `fetch`: always `method`, and `headers`, `params`, `json`,
    `data`, `timeout` and so on where the task gave them. `id` is the same however often the request
    is handed out, so it makes a good `Idempotency-Key`.
    """

    id: str
    url: str
    options: dict[str, Any] = {}


class FlowTask(msgspec.Struct, frozen=True, kw_only=True):
    """One program and how far it has come.

    Times are UTC text. A paused task waits for the answers to `fetch_requests`, of which
    `fetch_request` is the first, or until `wake_at`, when it sleeps. `log` is what the program has
    printed since the last pause. `vm_state` is the state of the program, in tasks that storages
    keep and in those that are handed out because nothing keeps them; it means nothing to others.
    `revision` counts the pauses.
    """

    id: str
    name: str
    code: str
    status: FlowStatus
    result: Any = None
    error: str | None = None
    fetch_requests: tuple[FetchRequest, ...] = ()
    wake_at: str | None = None
    created_at: str = ""
    updated_at: str = ""
    expires_at: str | None = None
    log: str = ""
    revision: int = 0
    vm_state: str | None = None

    @property
    def fetch_request(self) -> FetchRequest | None:
        """The request to make now; None when the task waits for none."""
        return self.fetch_requests[0] if self.fetch_requests else None

    def to_dict(self) -> dict[str, Any]:
        """The task as plain JSON types, for an HTTP answer; `from_dict` reads it again.

        Values that JSON lacks are written as objects with one key, as in `{"$bytes": "AAEC"}`.
        """
        requests = [
            {"id": one.id, "url": one.url, "options": values.to_json(one.options, "options")}
            for one in self.fetch_requests
        ]
        tree = {
            "id": self.id,
            "name": self.name,
            "code": self.code,
            "status": self.status.value,
            "result": values.to_json(self.result, "the result"),
            "error": self.error,
            "fetch_request": requests[0] if requests else None,
            "fetch_requests": requests,
            "wake_at": self.wake_at,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "expires_at": self.expires_at,
            "log": self.log,
            "revision": self.revision,
        }
        return tree if self.vm_state is None else {**tree, "vm_state": self.vm_state}

    def to_json(self) -> str:
        """`to_dict` as text."""
        return values.dumps(self.to_dict()).decode()

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """The task that `to_dict` wrote; raises `InvalidInputError` for anything else."""
        try:
            task = msgspec.convert(dict(tree), cls)
            requests = tuple(
                evolve(one, options=values.from_json(one.options)) for one in task.fetch_requests
            )
            return evolve(task, result=values.from_json(task.result), fetch_requests=requests)
        except (msgspec.ValidationError, ValueNotSupportedError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"this is not a task as SequentialFlow makes it: {error}; "
                "give what FlowTask.to_dict() returned"
            ) from error

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The task that `to_json` wrote; raises `InvalidInputError` for anything else."""
        try:
            tree = values.loads(text)
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"this is not the JSON of a task: {error}") from error
        if not isinstance(tree, dict):
            raise InvalidInputError(f"the JSON of a task is an object, not {type(tree).__name__}")
        return cls.from_dict(tree)
