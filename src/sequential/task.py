"""What task code may import: `from sequential.task import fetch, sleep, gather, settle`.

Inside of a run these names are there by themselves and the import costs nothing; it is for your
editor, which learns what there is, for reading the file by hand, and for the modules that a native
task imports. Outside of a run `sleep`, `gather`, `settle`, `step`, `now`, `random`, `uuid4`,
`Response` and `Headers` do what they say. What would reach the world (`fetch`, `call_host_tool`,
`services`, `run_task`, `wait_for_event`) raises `RuntimeError`, because nobody would write it down.
"""

import asyncio
import inspect
import json as codec
import random as chance
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar, overload

__all__ = [
    "Headers",
    "Response",
    "call_host_tool",
    "fetch",
    "gather",
    "now",
    "random",
    "run_task",
    "services",
    "settle",
    "sleep",
    "step",
    "task",
    "uuid4",
    "wait_for_event",
]

# To be imported in a task, too: an `import random` of its own shall not be forgotten unnoticed.
IMPORTED: Final = ("now", "random", "step", "task", "uuid4")

gather = asyncio.gather
sleep = asyncio.sleep

Marked = TypeVar("Marked", bound=Callable[..., Any])

absent: Final[Any] = ("no value given",)


class Host(Protocol):
    """What carries out the calls of a native run, in the thread that the run's program has."""

    def now(self) -> datetime:
        """The time that this turn is shown."""
        ...

    def call(
        self, service: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        """Ask for a call; its outcome comes when it is awaited."""
        ...

    def step(self, work: Callable[[], Any], name: str, shown: Any, retries: int) -> Awaitable[Any]:
        """Have `work` done beside the program; `shown` are its arguments as they are recorded."""
        ...


class _Thread(threading.local):
    host: Host | None = None


_thread = _Thread()


def host() -> Host | None:
    """The host of the run whose program this thread executes, None outside of native runs."""
    return _thread.host


def use_host(new: Host | None) -> None:
    """Make calls of this thread those of a run; for the native runtime."""
    _thread.host = new


@overload
def task(function: Marked, /) -> Marked: ...


@overload
def task(*, name: str | None = None, **config: Any) -> Callable[[Marked], Marked]: ...


def task(function: Any = None, /, *, name: str | None = None, **config: Any) -> Any:
    """Make a function of your own module a task, for `Engine.start(function, input)`.

    It stays an ordinary function, which a test may call. `config` are fields of config.json, such
    as `timeout=`, `retry=`, `allow=`. Its runs are native: they may use any library.
    """

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        vars(function)["__sequential_task__"] = {"name": name, "config": config}
        return function

    return mark if function is None else mark(function)


class Headers:
    """Header fields; names are found in any case."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = [(pair[0], pair[1]) for pair in pairs]

    def get(self, name: str, default: Any = None) -> Any:
        """The value, several of them joined by commas."""
        return ", ".join(self.get_all(name)) if name in self else default

    def get_all(self, name: str) -> list[str]:
        """Each value of a field that may come several times, such as Set-Cookie."""
        return [value for key, value in self._pairs if key.lower() == name.lower()]

    def items(self) -> list[tuple[str, str]]:
        return list(self._pairs)

    def keys(self) -> list[str]:
        return [key for key, _ in self._pairs]

    def values(self) -> list[str]:
        return [value for _, value in self._pairs]

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name)
        return ", ".join(self.get_all(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"


class Response:
    """An answer. A status such as 404 is data: `raise_for_status` makes an error of it."""

    status: int
    ok: bool  # the status is 2xx
    headers: Headers
    url: str  # after redirects
    text: str

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.status = answer["status"]
        self.ok = 200 <= self.status < 300
        self.headers = Headers(answer["headers"])
        self.url = answer["url"]
        self._content: bytes | None = answer.get("content")
        text: str | None = answer.get("text")
        self.text = (self._content or b"").decode("utf-8", "replace") if text is None else text

    def json(self) -> Any:
        """The body read as JSON; `ValueError` if it is something else."""
        return codec.loads(self.text)

    def bytes(self) -> "bytes":
        """The body as it came."""
        return self.text.encode() if self._content is None else self._content

    def raise_for_status(self) -> "Response":
        """The response itself if its status is 2xx, else `OSError`."""
        if not self.ok:
            raise OSError(f"HTTP {self.status} for {self.url}")
        return self

    def __repr__(self) -> str:
        return f"<Response [{self.status}]>"


async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    json: Any = absent,
    data: Any = None,
    timeout: float | None = None,
    retries: int | None = None,
    follow_redirects: bool = True,
) -> Response:
    """Make an HTTP request. The run is written down before and after it.

    `json` is sent as JSON, `data` as a form (mapping) or as it is (text, bytes); `timeout` is in
    seconds; `retries` overrules how often the task's policy tries again after a failure. Raises
    `OSError` for a failure of the network, `TimeoutError`, and `PermissionError` for a host the
    task may not reach.
    """
    options: dict[str, Any] = {"url": url, "method": method}
    if headers is not None:
        options["headers"] = dict(headers.items())
    given = {"params": params, "data": data, "timeout": timeout, "retries": retries}
    options |= {name: value for name, value in given.items() if value is not None}
    if json is not absent:
        options["json"] = json
    if not follow_redirects:
        options["follow_redirects"] = False
    return Response(await _inside("fetch()").call("http", "fetch", (), options))


async def settle(*awaitables: Awaitable[Any]) -> list[dict[str, Any]]:
    """Wait for all and learn how each went.

    `{"ok": True, "value": ...}`, or `{"ok": False, "error": <its type>, "message": ...}`.
    """

    async def one(awaitable: Awaitable[Any]) -> dict[str, Any]:
        try:
            return {"ok": True, "value": await awaitable}
        except Exception as error:
            return {"ok": False, "error": type(error).__name__, "message": str(error)}

    return await gather(*[one(awaitable) for awaitable in awaitables])


async def call_host_tool(service: str, method: str, args: Any = None) -> Any:
    """Call a method of a service. `args` is a dict of its named arguments, or a list.

    The same as `services.<service>.<method>(...)`, for names that are known only at run time.
    """
    if not (service and method):
        raise TypeError("call_host_tool() takes the names of a service and of its method")
    if args is None or isinstance(args, Mapping):
        return await _inside("call_host_tool()").call(service, method, (), args or {})
    if isinstance(args, list | tuple):
        return await _inside("call_host_tool()").call(service, method, args, {})
    raise TypeError("call_host_tool() takes the arguments as a dict, or as a list")


async def run_task(name: str, input: Mapping[str, Any] | None = None) -> Any:
    """Run another task as a child of this run and wait for its result.

    The child is a run of its own, driven by whichever worker is free, and waiting for it costs
    nothing. `RuntimeError` with the child's error if it fails; a child is cancelled when this run
    ends before it does.
    """
    if not name:
        raise TypeError("run_task() takes the name of a task")
    given = {"name": name, "input": dict(input or {})}
    return await _inside("run_task()").call("tasks", "run", (), given)


async def wait_for_event(
    name: str, timeout: float | None = None, schema: Mapping[str, Any] | None = None
) -> Any:
    """Wait for an answer from outside, such as a person's approval, and return its data.

    It is given by `sequential-ecosystem answer <run> <name> --data '{...}'` or `Engine.answer`,
    which may also happen before the task asks. `TimeoutError` after `timeout` seconds. `schema`, a
    JSON Schema of an object with simple fields, makes the form of the page that an approval link
    leads to; see `services.links.create`.
    """
    if not name:
        raise TypeError("wait_for_event() takes the name of an event")
    given: dict[str, Any] = {"name": name}
    if timeout is not None:
        given["timeout"] = timeout
    if schema is not None:
        if not isinstance(schema, Mapping):
            raise TypeError("wait_for_event() takes the schema as a dict")
        given["schema"] = dict(schema)
    return await _inside("wait_for_event()").call("events", "wait", (), given)


async def step(function: Callable[..., Any], /, *args: Any, retries: int = 0, **kwargs: Any) -> Any:
    """Do `function(*args, **kwargs)` once, as a call of the run, and return what it returns.

    Whatever reaches the world without `fetch` or a service goes in here: a file, a database, a
    library. It runs beside the program (an ordinary function in a thread), is done again after a
    crash in the middle of it, and after it has raised as often as `retries` says. What it returns
    is kept with the run; of an exception its type and message are. In the sandbox it is just
    called, since nothing there reaches the world.
    """
    running = host()
    if running is None:
        value = function(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    def work() -> Any:
        return function(*args, **kwargs)

    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return await running.step(work, name, [args, kwargs], retries)


def now() -> datetime:
    """The time in UTC, which stays the same when a run is replayed."""
    running = host()
    return datetime.now(UTC) if running is None else running.now()


def random() -> float:
    """A number from 0 to 1, without 1; the same when a run is replayed."""
    return chance.random()  # noqa: S311 - inside of a native run this is the run's own


def uuid4() -> str:
    """A random UUID; the same when a run is replayed."""
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


__callHostTool__ = call_host_tool  # as the original called it


class _Services:
    """`await services.crm.find_customer(email=...)` calls the function in `services/crm.py`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Method(name)


class _Method:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "_Method":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Method(f"{self._name}.{name}")

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        service, _, method = self._name.partition(".")
        if not method:
            raise TypeError(f"services.{service}() names a service: call one of its methods")
        return await _inside(f"services.{self._name}()").call(service, method, args, kwargs)


services = _Services()


def _inside(name: str) -> Host:
    if running := host():
        return running
    raise RuntimeError(
        f"{name} works inside of a run only: start the task with `sequential-ecosystem run <task>`"
    )
