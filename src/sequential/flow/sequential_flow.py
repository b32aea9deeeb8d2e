"""SequentialFlow: programs that pause at each `fetch`, for whose requests the caller cares.

task = await SequentialFlow.execute({"code": 'result = await fetch("https://example.com")'})
while task.status == "paused":
    response = httpx.get(task.fetch_request.url)
    task = await SequentialFlow.resume(task.id, response)
print(task.result)
"""

import math
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from sequential.core import times, values
from sequential.core.model import TaskRun
from sequential.errors import InvalidInputError, ValueNotSupportedError
from sequential.flow.executor_storage import check_flow_id
from sequential.flow.flow_drive import Answer
from sequential.flow.flow_keepers import CallerKeeper, Keeper, RecordKeeper, RunKeeper
from sequential.flow.flow_run import new_flow_id, new_run
from sequential.flow.flow_task import FlowTask
from sequential.flow.machine_room import close_room
from sequential.flow.storages import CustomStorage, GivenStorage, InMemoryStorage
from sequential.runner.clock import Clock, SystemClock
from sequential.storage.base import StorageAdapter

TTL = 7200.0  # seconds
LONGEST_NAME = 200  # characters
_FIELDS = ("id", "name", "code", "input")


class _Nothing:
    """No response was given; None is one."""


NOTHING: Final = _Nothing()


class SequentialFlow:
    """Executes programs up to each request, and resumes them with its answer.

    A `storage` is a `CustomStorage`, a `StorageAdapter`, or any object with `save`, `load` and
    `delete`; where none is given, the one of `set_default_storage` is used, which at first is in
    memory. What goes wrong in a program is no exception here: its task has the status `error`.
    """

    clock: ClassVar[Clock] = SystemClock()
    _default: ClassVar[Any] = InMemoryStorage()

    @classmethod
    async def execute(
        cls,
        task: Mapping[str, Any],
        *,
        storage: Any = None,
        save_to_storage: bool = True,
        ttl: float = TTL,
    ) -> FlowTask:
        """Run `{"id", "name", "code", "input"}`, of which only `code` is needed, to its first wait.

        A task that is paused is kept in the storage, and expires when nobody resumes it for `ttl`
        seconds. With `save_to_storage=False` nothing keeps it: it has its state in `vm_state`,
        signed, and `resume` takes the task itself. Raises `InvalidInputError` or `InvalidNameError`
        for what is no task, and `RunExistsError` when there is one of this id.
        """
        keeper = cls._keeper(storage) if save_to_storage else CallerKeeper(None, cls.clock)
        flow_id, run = cls._new(task, ttl)
        return await keeper.start(flow_id, run)

    @classmethod
    async def resume(
        cls,
        task: str | FlowTask | Mapping[str, Any],
        fetch_response: Any = NOTHING,
        *,
        request_id: str | None = None,
        storage: Any = None,
    ) -> FlowTask:
        """Go on with a paused task, given by its id: `fetch_response` answers its request.

        The response is `{"status", "headers", "url", "json" or "text" or "content"}`, a response of
        httpx or requests, `{"error": message}` if there is none, or just a value: status 200 and
        this JSON. Of several requests `request_id` says which one is answered, else it is the
        first; given always, it makes sure that no response counts twice. A task that sleeps is
        resumed without a response once its time has come.

        A task whose state was handed out is given itself, or as `to_dict` wrote it.

        Raises `RunNotFoundError`; `InvalidTransitionError` for a task that has expired and for a
        request that is answered already; `RunBusyError` when somebody else resumes the task at the
        same time; and `InvalidInputError` for what is no response or no task.
        """
        given = task if isinstance(task, FlowTask | str) else _task_of(task)
        flow_id = check_flow_id(given.id if isinstance(given, FlowTask) else given)
        if isinstance(given, FlowTask) and given.vm_state is not None:
            keeper: Keeper = CallerKeeper(given, cls.clock)
        else:
            keeper = cls._keeper(storage)
        if request_id is not None and not isinstance(request_id, str):
            raise InvalidInputError(f"request_id is text, not {type(request_id).__name__}")
        if isinstance(fetch_response, _Nothing):
            return await keeper.go_on(flow_id, None)
        return await keeper.go_on(flow_id, Answer(fetch_response, request_id))

    @classmethod
    async def get_task(cls, task_id: str, *, storage: Any = None) -> FlowTask | None:
        """The task of this id; None when there is none, or it has expired.

        Tasks that are over are only there in a `StorageAdapter`.
        """
        return await cls._keeper(storage).get(check_flow_id(task_id))

    @classmethod
    async def delete_task(cls, task_id: str, *, storage: Any = None) -> bool:
        """Remove a task; returns whether there was one."""
        return await cls._keeper(storage).delete(check_flow_id(task_id))

    @classmethod
    def set_default_storage(cls, storage: Any) -> None:
        """Use this storage wherever none is given."""
        cls._keeper(storage)  # raises for what is none
        cls._default = storage

    @classmethod
    async def close(cls) -> None:
        """End the sandbox processes that are kept for the next call; there need be no such call."""
        await close_room()

    @classmethod
    def _keeper(cls, storage: Any) -> Keeper:
        storage = cls._default if storage is None else storage
        if isinstance(storage, StorageAdapter):
            return RunKeeper(storage, cls.clock)
        records = storage if isinstance(storage, CustomStorage) else GivenStorage(storage)
        return RecordKeeper(records, cls.clock)

    @classmethod
    def _new(cls, task: Mapping[str, Any], ttl: float) -> tuple[str, TaskRun]:
        """The id of a new flow, and its run."""
        if not isinstance(task, Mapping):
            raise InvalidInputError(
                f'a task to execute is {{"id", "name", "code"}}, not {type(task).__name__}'
            )
        if unknown := [str(name) for name in task if name not in _FIELDS]:
            raise InvalidInputError(
                f"a task to execute has {', '.join(_FIELDS)}, not {', '.join(unknown)[:80]}"
            )
        now = cls.clock.now()
        flow_id = task.get("id")
        if flow_id is None:
            milliseconds = int(now.timestamp() * 1000)
            flow_id = new_flow_id(milliseconds, secrets.token_bytes(10))
        name = task.get("name")
        run = new_run(
            check_flow_id(flow_id),
            None if name is None else _text(name, "the name", LONGEST_NAME),
            _text(task.get("code"), "the code"),
            _input(task.get("input")),
            _ttl(ttl),
            times.to_text(now),
        )
        return flow_id, run


def _text(given: Any, what: str, longest: int | None = None) -> str:
    if not isinstance(given, str):
        raise InvalidInputError(f"{what} of a task is text, not {type(given).__name__}")
    if longest is not None and len(given) > longest:
        raise InvalidInputError(f"{what} of a task has {len(given)} characters, {longest} are most")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} of a task holds half of a surrogate pair at position {error.start}: remove it"
        ) from error
    return given


def _input(given: Any) -> Any:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInputError(f"the input of a task is an object, not {type(given).__name__}")
    try:
        return values.to_json(dict(given or {}), "the input")
    except ValueNotSupportedError as error:
        raise InvalidInputError(str(error)) from error


def _ttl(given: Any) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if is_number and 0 < given < math.inf:
        return float(given)
    raise InvalidInputError(f"ttl is a number of seconds above 0, not {ascii(given)[:40]}")


def _task_of(given: Any) -> FlowTask:
    if isinstance(given, Mapping):
        return FlowTask.from_dict(given)
    raise InvalidInputError(f"resume takes the id of a task, not {type(given).__name__}")
