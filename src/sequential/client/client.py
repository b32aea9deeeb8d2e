"""The verbs of an engine, over HTTP.

async with Client("https://host", token) as client:
    run = await client.start("my-emails", {"userId": "123"})
    await run.wait()
    print(run.status, run.result)
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Any, Self

import msgspec

from sequential.client.connection import DEADLINE, TIMEOUT, Answer, Connection
from sequential.client.errors import engine_error
from sequential.client.keys import RemoteKeystore
from sequential.client.pages import items, listed
from sequential.client.schedules import RemoteSchedules
from sequential.client.stream import News, followed
from sequential.core import ids, names, values
from sequential.core.model import (
    LogLine,
    RetryPolicy,
    StackRun,
    Status,
    TaskConfig,
    TaskFunction,
    TaskRun,
)
from sequential.errors import (
    ConfigError,
    InvalidNameError,
    InvalidTaskError,
    InvalidTransitionError,
    RunExistsError,
    RunNotFoundError,
    TaskNotFoundError,
)
from sequential.runner.run_handle import Run

PREFIX = "/api/v1"
FINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
UNFINISHED = (Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.PAUSED)
MOST = 500  # items of a page
SLICE = 30.0  # seconds that one request waits for a run: less than proxies have patience
LOOK = 5.0  # seconds after which `resume` sees that a run was paused
AT_A_TIME = 8  # requests for large values of calls
_TAGGED = {"Sequential-Values": "tagged"}  # values are trees of `core.values`

# What a run is like when an operator's wish has come true.
_DONE: dict[str, Callable[[Status], bool]] = {
    "cancel": lambda status: status is Status.CANCELLED,
    "pause": lambda status: status is Status.PAUSED,
    "unpause": lambda status: status is not Status.PAUSED,
    "retry": lambda status: status not in (Status.FAILED, Status.CANCELLED),
}


class _Deleted(msgspec.Struct, frozen=True):
    deleted_runs: int


class _Pruned(msgspec.Struct, frozen=True):
    deleted: list[str]


class Client:
    """Creates, looks up and operates runs on a server. To be used with `async with`.

    It has the methods of `Engine` that make sense from afar, with the same records and exceptions;
    the server drives the runs. `base_url` and `token` are SEQUENTIAL_URL and SEQUENTIAL_TOKEN of
    the environment unless given. A request is tried again as `retry` says, by default 3 times
    after 1, 2 and 4 seconds, or when the server says, where the network or the server fails;
    nothing is done twice by that. `timeout` is seconds for one attempt, `deadline` for all.

    Besides errors of the engine, every method raises `RemoteError` when the server refuses for
    other reasons (a wrong token), `NoAnswerError`, `AnswerTimeoutError` and `BadAnswerError`.
    """

    keys: RemoteKeystore
    schedules: RemoteSchedules

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout: float = TIMEOUT,
        deadline: float | None = DEADLINE,
    ) -> None:
        address = os.environ.get("SEQUENTIAL_URL", "") if base_url is None else base_url
        if not address:
            raise ConfigError(
                'say where the server is: Client("http://127.0.0.1:3000"), or set SEQUENTIAL_URL'
            )
        secret = os.environ.get("SEQUENTIAL_TOKEN") if token is None else token
        self._connection = Connection(
            address,
            secret or None,
            engine_error,
            prefix=PREFIX,
            retry=retry,
            timeout=timeout,
            deadline=deadline,
        )
        self.keys = RemoteKeystore(self._connection)
        self.schedules = RemoteSchedules(self._connection)

    async def __aenter__(self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; runs go on."""
        await self._connection.close()

    # --- tasks -----------------------------------------------------------------------------------

    async def store_task(self, name: str, code: str, config: TaskConfig) -> TaskFunction:
        """Create a task or replace its code and policy; runs in flight keep what they have.

        A server takes no native tasks: they raise `RemoteError` with the code `forbidden`.
        """
        names.check_task_name(name)
        given = _unusual(msgspec.to_builtins(config), msgspec.to_builtins(TaskConfig("")))
        body = {"code": code, "config": given}
        if (graph := given.pop("graph", None)) is not None:
            body["graph"] = _read_graph(graph)
        answer = await self._connection.request("PUT", f"/tasks/{name}", body=body)
        return answer.read(TaskFunction)

    async def get_task(self, name: str) -> TaskFunction:
        """A task by name; raises `TaskNotFoundError` with the nearest name there is."""
        return (await self._get(f"/tasks/{names.check_task_name(name)}")).read(TaskFunction)

    async def list_tasks(self) -> list[TaskFunction]:
        """All tasks, by name, without their code."""
        return await listed(self._connection, "/tasks", TaskFunction)

    async def delete_task(self, name: str) -> int:
        """Remove a task with all its runs; returns how many runs there were.

        It is 0 when that number was lost with a connection, but the task is gone.
        """
        path = f"/tasks/{names.check_task_name(name)}"
        answer = await self._connection.request("DELETE", path, done_if=TaskNotFoundError)
        return answer.read(_Deleted).deleted_runs if answer.body else 0

    # --- runs ------------------------------------------------------------------------------------

    async def create_run(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        delay: float = 0.0,
        id: str | None = None,
    ) -> TaskRun:
        """Write a new run, which the server's workers drive.

        Of the runs that are due, they take those with more `priority` first; they begin no earlier
        than `delay` seconds from now. With an `id`, a UUID of one's own, the second time raises
        `RunExistsError`. Raises `TaskNotFoundError`, and `InvalidInputError` that lists all that is
        wrong with the input; then nothing was written.
        """
        own = _new_id() if id is None else names.check_run_id(id)
        answer = await self._create(task, input, own, priority, delay)
        if answer.status == 200 and answer.attempts == 1:
            raise RunExistsError(f"the run {id} exists already")
        return answer.read(TaskRun)

    async def start(
        self,
        task: str | Callable[..., Any],
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        priority: int = 0,
        delay: float = 0.0,
    ) -> Run:
        """Create a run, which the server drives.

        `task` is a name, or a function with the decorator `sequential.task.task` that the server
        has as a task. With an `id`, any text of yours such as an order's number, the run is started
        once: starting it again, also after a crash and in another process, goes on with the one
        there is. Raises what `create_run` raises, and `RunExistsError` when that one has another
        task or input.
        """
        name = task if isinstance(task, str) else _name_of(task)
        answer = await self._create(name, input, _new_id() if id is None else id, priority, delay)
        return Run(self, answer.read(TaskRun))

    async def get(self, run_id: str) -> Run:
        """A run that exists, to be waited for, answered and so on; `id` of `start` is fine too."""
        try:
            return Run(self, await self.get_run(run_id))
        except (InvalidNameError, RunNotFoundError):
            try:
                return Run(self, await self.get_run(ids.named_run_id(run_id)))
            except RunNotFoundError:
                raise RunNotFoundError(f"there is no run {run_id}") from None

    async def run(self, task: str, input: Mapping[str, Any] | None = None) -> TaskRun:
        """Run a task to its end, waiting as long as it takes.

        A task that fails is no exception here: look at `status` and `error` of what comes back.
        """
        run = await self.create_run(task, input)
        return await self.resume(run.id)

    async def resume(self, run_id: str) -> TaskRun:
        """Wait as long as it takes until a run has ended, or is paused."""
        run = await self.get_run(run_id)
        while not (run.status.is_final or run.status is Status.PAUSED):
            run = await self._waited(run_id, LOOK, self._connection.deadline)
        return run

    def drive_on(self, run_id: str) -> None:
        """Nothing is to be done: the server drives its runs."""

    async def wait(self, run_id: str, timeout: float | None = None) -> TaskRun:
        """A run when it has ended, or as it is after `timeout` seconds.

        A server that is away for less than the `deadline` of this client, as while it is started
        again, is waited for.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = SLICE if end is None else max(0.0, end - time.monotonic())
            patience = self._connection.deadline if end is None else left
            asked = time.monotonic()
            run = await self._waited(run_id, min(left, SLICE), patience)
            if run.status.is_final or (end is not None and time.monotonic() >= end):
                return run
            if time.monotonic() - asked < min(left, 0.5):  # a server that stops does not wait
                await asyncio.sleep(min(left, 0.5))

    def follow(self, run_id: str) -> AsyncGenerator[News, None]:
        """What happens to a run from now on, until it has ended: the records that change.

        A `TaskRun` when the run has changed, which also comes first, a `StackRun` for a call that
        is new or has changed, a `LogLine` for what was printed; without large values. The last is
        the run as `get_run` gives it. After a break of the connection it goes on where it was;
        after a long one some calls and lines may be left out. Raises `RunNotFoundError`, also when
        the run is removed meanwhile.
        """
        return followed(self._connection, names.check_run_id(run_id))

    async def get_run(self, run_id: str) -> TaskRun:
        """A run by its full id, without its code; raises `RunNotFoundError`."""
        return (await self._get(f"/runs/{names.check_run_id(run_id)}")).read(TaskRun)

    async def list_runs(
        self,
        task: str | None = None,
        *,
        limit: int | None = None,
        before: str | None = None,
        status: Status | Sequence[Status] | None = None,
        parent: str | None = None,
        unfinished: bool = False,
    ) -> list[TaskRun]:
        """Runs, newest first, from behind the id `before` on; without inputs and results.

        The runs of a graph's handlers are parts of its run, and are not listed here.
        """
        if task is not None:
            names.check_task_name(task)
        query = {"task": task, "before": before, "parent": parent}
        wanted = UNFINISHED if unfinished else status
        if wanted is None or isinstance(wanted, Status):
            return await self._runs({**query, "status": wanted}, limit)
        queries = [{**query, "status": one} for one in wanted]  # the server takes one at a time
        found = await asyncio.gather(*(self._runs(one, limit) for one in queries))
        runs = {run.id: run for part in found for run in part}  # it may have moved on meanwhile
        return [runs[run_id] for run_id in sorted(runs, reverse=True)][:limit]

    async def list_children(self, run_id: str) -> list[TaskRun]:
        """The runs that a run's `run_task` or its graph's states have started, oldest first."""
        path = f"/runs/{names.check_run_id(run_id)}/children"
        return await listed(self._connection, path, TaskRun, cursor="after")

    async def list_calls(self, run_id: str) -> list[StackRun]:
        """All calls of a run, in order, with all that was sent and that came back."""
        path = f"/runs/{names.check_run_id(run_id)}/calls"
        calls = await listed(self._connection, path, StackRun, {"limit": MOST}, cursor="after")
        free = asyncio.Semaphore(AT_A_TIME)

        async def whole(call: StackRun) -> StackRun:
            if not (_is_left_out(call.input) or _is_left_out(call.result)):
                return call
            async with free:
                return (await self._get(f"{path}/{call.sequence}")).read(StackRun)

        return await asyncio.gather(*map(whole, calls))

    async def get_log(self, run_id: str) -> list[LogLine]:
        """What a run has printed."""
        path = f"/runs/{names.check_run_id(run_id)}/log"
        return await listed(self._connection, path, LogLine)

    # --- operating -------------------------------------------------------------------------------

    async def answer(
        self, run_id: str, name: str, data: Any = None, *, id: str | None = None
    ) -> TaskRun:
        """Give a run what its task waits for with `wait_for_event(name)`, now or later.

        With an `id`, any text, an answer counts once however often it is given. Raises
        `RunNotFoundError`, `InvalidTransitionError` when the run is over, and
        `InvalidInputError` or `ValueNotSupportedError` when the data cannot be sent. Of a run that
        follows a graph it does what `send` does.
        """
        return await self._told(run_id, "answer", {"name": name}, data, id)

    async def send(
        self, run_id: str, event: str, data: Any = None, *, id: str | None = None
    ) -> TaskRun:
        """Send an event to a run that follows a graph; the fields of `data` become the event's.

        An event that no active state takes is refused with `InvalidTransitionError`, which lists
        those that are accepted; nothing is changed then. Of a run that has not begun, all events of
        its graph are accepted. With an `id`, any text, it counts once however often it is sent.
        Raises `InvalidInputError` for a run without a graph, and all that `answer` raises.
        """
        return await self._told(run_id, "send", {"event": event}, data, id)

    async def accepted_events(self, run_id: str) -> list[str]:
        """Names of the events that a run's graph accepts now, guards aside, sorted."""
        path = f"/runs/{names.check_run_id(run_id)}/accepted-events"
        return await listed(self._connection, path, str)

    async def cancel(self, run_id: str) -> TaskRun:
        """End a run and its child runs, wherever they are driven; their calls are given up."""
        return await self._operate(run_id, "cancel")

    async def pause(self, run_id: str) -> TaskRun:
        """Stop a run, wherever it is driven, until it is unpaused; nothing of it is lost."""
        return await self._operate(run_id, "pause")

    async def unpause(self, run_id: str) -> TaskRun:
        """Let a paused run go on."""
        return await self._operate(run_id, "unpause")

    async def retry(self, run_id: str) -> TaskRun:
        """Make a failed or cancelled run go on from the call that failed, which is made again.

        Calls that succeeded are not.
        """
        return await self._operate(run_id, "retry")

    async def delete_run(self, run_id: str) -> None:
        """Remove a run that is over; raises `InvalidTransitionError` for one that is not."""
        path = f"/runs/{names.check_run_id(run_id)}"
        await self._connection.request("DELETE", path, done_if=RunNotFoundError)

    async def prune(
        self,
        older_than: float,
        *,
        task: str | None = None,
        statuses: Collection[Status] = FINAL,
        dry_run: bool = False,
    ) -> list[str]:
        """Remove runs that ended more than `older_than` seconds ago; returns their ids.

        With `dry_run` nothing is removed. Ids that were lost with a connection are not among them.
        """
        body = {
            "older_than": older_than,
            "task": task,
            "statuses": list(statuses),
            "dry_run": dry_run,
        }
        return (await self._connection.request("POST", "/prune", body=body)).read(_Pruned).deleted

    # --- requests --------------------------------------------------------------------------------

    async def _get(self, path: str) -> Answer:
        return await self._connection.request("GET", path)

    async def _runs(self, query: Mapping[str, Any], limit: int | None) -> list[TaskRun]:
        runs: list[TaskRun] = []
        if limit is not None and limit <= 0:
            return runs
        asked = {**query, "limit": MOST if limit is None else min(limit, MOST)}
        async for run in items(self._connection, "/runs", TaskRun, asked):
            runs.append(run)
            if len(runs) == limit:
                break
        return runs

    async def _create(
        self, task: str, input: Mapping[str, Any] | None, own: str, priority: int, delay: float
    ) -> Answer:
        given = values.to_json({} if input is None else input, "the input")
        body: dict[str, Any] = {"task": names.check_task_name(task), "input": given, "id": own}
        if priority:
            body["priority"] = priority
        if delay > 0:
            body["delay"] = delay
        # The id in the body is the key: a header could not carry any text.
        return await self._connection.request("POST", "/runs", body=body, headers=_TAGGED, key="")

    async def _waited(self, run_id: str, seconds: float, patience: float | None) -> TaskRun:
        answer = await self._connection.request(
            "GET",
            f"/runs/{names.check_run_id(run_id)}/wait",
            query={"timeout": round(seconds, 3)},
            longer=seconds,
            patience=patience,
        )
        return answer.read(TaskRun)

    async def _told(
        self, run_id: str, verb: str, named: Mapping[str, str], data: Any, id: str | None
    ) -> TaskRun:
        path = f"/runs/{names.check_run_id(run_id)}/{verb}"
        own = secrets.token_hex(16) if id is None else id  # so that a repetition does not count
        body = {**named, "data": values.to_json(data, "the data"), "id": own}
        answer = await self._connection.request("POST", path, body=body, headers=_TAGGED)
        return answer.read(TaskRun)

    async def _operate(self, run_id: str, verb: str) -> TaskRun:
        path = f"/runs/{names.check_run_id(run_id)}/{verb}"
        answer = await self._connection.request("POST", path, done_if=InvalidTransitionError)
        if not answer.body:
            run = await self.get_run(run_id)
            if _DONE[verb](run.status):
                return run
            answer = await self._connection.request("POST", path)  # it raises why not
        return answer.read(TaskRun)


def _new_id() -> str:
    return ids.run_id(time.time_ns() // 1_000_000, secrets.token_bytes(10))


def _unusual(given: dict[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults: the rest is for the server to say, and some only for it."""
    return {
        name: _unusual(value, usual[name]) if isinstance(usual[name], dict) else value
        for name, value in given.items()
        if value != usual[name]
    }


def _read_graph(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the graph is no valid JSON: {error}") from error


def _name_of(function: Callable[..., Any]) -> str:
    """The name of the task that a decorated function is on the server."""
    given = getattr(function, "__sequential_task__", None)
    name = getattr(function, "__name__", repr(function))
    if given is None:
        raise InvalidTaskError(f"{name} is no task: put `@task` of `sequential.task` above it")
    return str(given["name"] or name)


def _is_left_out(tree: Any) -> bool:
    """Whether a list has only the size of a value: no tree of `core.values` looks like this."""
    return isinstance(tree, dict) and tree.keys() == {"$omitted"}
