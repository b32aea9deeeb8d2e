"""What the machine asks of its host: which call a request stands for, and what is no call."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec
from pydantic_monty import (
    FunctionSnapshot,
    FutureSnapshot,
    MontyComplete,
    NameLookupSnapshot,
    SourceRange,
)

from sequential.core import ids
from sequential.runtimes.sandbox.failures import TASK_FILE

Stop = MontyComplete | FutureSnapshot | FunctionSnapshot | NameLookupSnapshot
_MOST_ENTROPY = 4096  # bytes; the machine's own generators ask for 2496
BLOCKING = "time.sleep"  # the machine refuses a future for it, so it stops every branch

_HOST_TOOLS = ("call_host_tool", "__callHostTool__")
_GIVEN = (*_HOST_TOOLS, "run_task", "wait_for_event")
_SLEEPS = ("asyncio.sleep", "time.sleep")


class Request(msgspec.Struct, frozen=True):
    """A request that is a call. The place is a line number, or a range the machine gave."""

    service: str
    method: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    line: int = 0
    range: SourceRange | None = None


def parse(stop: FunctionSnapshot) -> Request:
    """The call that a request stands for; `TypeError` or `NameError` when it is none."""
    name, args, kwargs = stop.function_name, stop.args, stop.kwargs
    if name == "__fetch__":
        return _fetch(*args)
    place = stop.position if stop.position.filename == TASK_FILE else None
    if name in _SLEEPS:
        return Request("clock", "sleep", (), {"seconds": args[0]}, range=place)
    if name in _HOST_TOOLS:
        return _host_tool(place, *args, **kwargs)
    if name == "run_task":
        return _run_task(place, *args, **kwargs)
    if name == "wait_for_event":
        return _wait_for_event(place, *args, **kwargs)
    if name.startswith("services.") and name.count(".") > 1:
        _, service, method = name.split(".", 2)
        return Request(service, method, args, kwargs, range=place)
    raise NameError(f"name '{name}' is not defined")


def _fetch(options: Any, line: Any) -> Request:
    """The prelude asks for it like this; a task that does so itself may get it wrong."""
    named = isinstance(options, dict) and all(isinstance(name, str) for name in options)
    if not named or not isinstance(line, int):
        raise TypeError("fetch() takes a URL and named options")
    return Request("http", "fetch", (), options, line=line)


def _host_tool(place: SourceRange | None, service: Any, method: Any, args: Any = None) -> Request:
    if not (isinstance(service, str) and isinstance(method, str) and service and method):
        raise TypeError("call_host_tool() takes the names of a service and of its method")
    if args is None or isinstance(args, dict):
        if all(isinstance(key, str) for key in args or {}):
            return Request(service, method, (), args or {}, range=place)
        raise TypeError("call_host_tool() takes arguments whose names are strings")
    if isinstance(args, list | tuple):
        return Request(service, method, args, range=place)
    raise TypeError("call_host_tool() takes the arguments as a dict, or as a list")


def _run_task(place: SourceRange | None, name: Any, input: Any = None) -> Request:
    if not (isinstance(name, str) and name):
        raise TypeError("run_task() takes the name of a task")
    if not (input is None or isinstance(input, dict)):
        raise TypeError("run_task() takes the task's input as a dict")
    return Request("tasks", "run", (), {"name": name, "input": input or {}}, range=place)


def _wait_for_event(
    place: SourceRange | None, name: Any, timeout: Any = None, schema: Any = None
) -> Request:
    if not (isinstance(name, str) and name):
        raise TypeError("wait_for_event() takes the name of an event")
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and 0 <= timeout < math.inf):
        raise ValueError("wait_for_event() takes timeout as a number of seconds, not below 0")
    if not (schema is None or isinstance(schema, dict)):
        raise TypeError("wait_for_event() takes the schema as a dict")
    given: dict[str, Any] = {"name": name}
    if timeout is not None:
        given["timeout"] = timeout
    if schema is not None:
        given["schema"] = schema
    return Request("events", "wait", (), given, range=place)


def look_up(stop: NameLookupSnapshot) -> Stop:
    """A name the program does not define: a host function taken as a value, or a NameError."""
    if stop.variable_name not in _GIVEN:
        return stop.resume()

    def host_function() -> None: ...

    host_function.__name__ = stop.variable_name
    return stop.resume(value=host_function)


def answer_locally(stop: FunctionSnapshot, run_id: str, now: datetime) -> Stop | None:
    """Answer what depends on nothing outside of the run; None for what is a call."""
    name = stop.function_name
    if name == "import":
        return stop.resume_auto()
    if name == "os.urandom":
        entropy = ids.task_entropy(run_id, stop.call_id, min(stop.args[0], _MOST_ENTROPY))
        return stop.resume({"return_value": entropy})
    if clock := _CLOCK.get(name):
        return stop.resume({"return_value": clock(now, stop.args)})
    if stop.is_os_function and name not in _SLEEPS:
        return stop.resume_not_handled()
    return None


def _local_now(now: datetime, zone: tzinfo | None) -> datetime:
    return now.astimezone(zone) if zone else now.astimezone(UTC).replace(tzinfo=None)


_CLOCK: dict[str, Callable[[datetime, Sequence[Any]], Any]] = {
    "time.time": lambda now, args: now.timestamp(),
    "datetime.now": lambda now, args: _local_now(now, args[0] if args else None),
    "date.today": lambda now, args: now.astimezone(UTC).date(),
}
