"""Time, chance and output, asked of the run wherever a program's thread asks for them.

These functions are replaced once, for the process, when the first native program starts. Each looks
whether its thread executes a program, and does what it always did if not. So libraries that a task
uses are covered too: the idempotency keys they draw and the times they compare come out the same
when the run is replayed.
"""

import asyncio
import builtins
import functools
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime, tzinfo
from typing import Any, NoReturn, cast

from sequential.runtimes.native.execution import Execution
from sequential.runtimes.native.importing import is_importing
from sequential.task import host

_FETCH = "use `fetch`, a service, an HTTP library, or `await step(function, ...)`"
_THREAD = (
    "start a thread",
    "use `asyncio.gather`, or do the work with `await step(function, ...)`",
)
_REFUSED = {
    "socket.bind": ("open a socket", _FETCH),
    "socket.connect": ("open a connection", _FETCH),
    "socket.getaddrinfo": ("look up a host", _FETCH),
    "socket.gethostbyname": ("look up a host", _FETCH),
    "socket.sendto": ("send to a socket", _FETCH),
    "_thread.start_new_thread": _THREAD,
    "_thread.start_joinable_thread": _THREAD,  # since Python 3.13
}


def execution() -> Execution | None:
    """The program that this thread executes, if it executes one.

    None while a module is being imported: what it does then belongs to the process. A replay in a
    process that has the module already would not see it.
    """
    running = host()
    return None if running is None or is_importing() else cast("Execution", running)


@functools.cache
def install() -> None:
    """Put the functions in place; only the first call does anything."""
    _patch_time()
    _patch_chance()
    builtins.print = _printing(builtins.print)
    _patch_asyncio()
    vars(threading)["Thread"].start = _starting(threading.Thread.start)  # no event before 3.12
    sys.addaudithook(_refuse)
    from sequential.runtimes.native import http_libraries  # noqa: PLC0415 - it asks for `execution`

    http_libraries.install()


def clock_of(owner: Any, name: str) -> Any:
    """`owner.<name>` for a source that says `datetime.now`, `date.today` and the like."""
    running = execution()
    is_moment = isinstance(owner, type) and issubclass(owner, date)
    if running is None or not is_moment:
        return getattr(owner, name)
    if issubclass(owner, datetime):
        return functools.partial(_MOMENTS[name], running, owner)
    return functools.partial(_today, running, owner)


def _now(running: Execution, kind: type[datetime], tz: tzinfo | None = None) -> datetime:
    if tz is None:
        return _utcnow(running, kind)
    return kind.fromtimestamp(running.seconds(), tz)


def _utcnow(running: Execution, kind: type[datetime]) -> datetime:
    return kind.fromtimestamp(running.seconds(), UTC).replace(tzinfo=None)


def _today(running: Execution, kind: type[date]) -> date:
    day = running.now().astimezone(UTC).date()
    return kind(day.year, day.month, day.day)


_MOMENTS: dict[str, Callable[..., Any]] = {"now": _now, "utcnow": _utcnow, "today": _utcnow}


def _patch_time() -> None:
    replace: dict[str, Callable[[Execution], Any]] = {
        "time": lambda running: running.seconds(),
        "time_ns": lambda running: round(running.seconds() * 1e3) * 1_000_000,
    }
    for name in ("monotonic", "perf_counter"):
        replace[name] = lambda running: running.elapsed()
        replace[f"{name}_ns"] = lambda running: round(running.elapsed() * 1e3) * 1_000_000
    for name, ask in replace.items():
        setattr(time, name, _asking(getattr(time, name), ask))
    time.sleep = _sleeping(time.sleep)
    utc = time.gmtime
    for name in ("gmtime", "localtime"):
        setattr(time, name, _of_now(getattr(time, name), utc))
    time.ctime = _as_text(time.ctime)
    time.asctime = _with_now(time.asctime, 0)
    time.strftime = _with_now(time.strftime, 1)


def _asking(original: Callable[[], Any], ask: Callable[[Execution], Any]) -> Callable[[], Any]:
    @functools.wraps(original)
    def asked() -> Any:
        running = execution()
        return original() if running is None else ask(running)

    return asked


def _of_now(original: Callable[..., Any], utc: Callable[..., Any]) -> Callable[..., Any]:
    """The time zone of a run is UTC, or it would see another one on another machine."""

    @functools.wraps(original)
    def asked(seconds: float | None = None, /) -> Any:
        running = execution()
        if running is None:
            return original(seconds)
        return utc(running.seconds() if seconds is None else seconds)

    return asked


def _as_text(original: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(original)
    def asked(seconds: float | None = None, /) -> str:
        return original(seconds) if execution() is None else time.asctime(time.localtime(seconds))

    return asked


def _with_now(original: Callable[..., str], place: int) -> Callable[..., str]:
    """A function that takes now if its argument at `place` is missing."""

    @functools.wraps(original)
    def asked(*args: Any) -> str:
        if execution() is not None and len(args) == place:
            args = (*args, time.localtime())
        return original(*args)

    return asked


def _sleeping(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def sleep(seconds: float, /) -> None:
        running = execution()
        if running is None:
            original(seconds)
        else:
            running.call_blocking(running.sleep_of(seconds + 0.0))

    return sleep


def _patch_chance() -> None:
    """The functions of `random` are methods of one hidden generator; a run has one of its own."""
    hidden = random.random.__self__  # type: ignore[attr-defined]
    for name in random.__all__:
        method = getattr(random, name)
        if getattr(method, "__self__", None) is hidden:
            setattr(random, name, _drawing(name, method))
    random.Random.seed = _seeding(random.Random.seed)  # type: ignore[method-assign]
    os.urandom = _urandom(os.urandom)
    random._urandom = os.urandom  # type: ignore[attr-defined] # what SystemRandom and secrets use


def _drawing(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def draw(*args: Any, **kwargs: Any) -> Any:
        running = execution()
        if running is None:
            return original(*args, **kwargs)
        return getattr(running.random, name)(*args, **kwargs)

    return draw


def _seeding(original: Callable[..., None]) -> Callable[..., None]:
    """A generator without a seed is seeded in C, from the machine."""

    @functools.wraps(original)
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        running = execution()
        if running is not None and a is None:
            a = int.from_bytes(running.entropy(32), "big")
        original(self, a, version)

    return seed


def _urandom(original: Callable[[int], bytes]) -> Callable[[int], bytes]:
    @functools.wraps(original)
    def urandom(size: int, /) -> bytes:
        running = execution()
        return original(size) if running is None else running.entropy(size)

    return urandom


def _printing(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def printed(
        *values: Any,
        sep: str | None = " ",
        end: str | None = "\n",
        file: Any = None,
        flush: bool = False,
    ) -> None:
        running = execution()
        if running is None or file is not None:
            original(*values, sep=sep, end=end, file=file, flush=flush)
        else:
            between, after = " " if sep is None else sep, "\n" if end is None else end
            running.write(between.join(str(value) for value in values) + after)

    return printed


def _patch_asyncio() -> None:
    asyncio.run = _running(asyncio.run)
    for module in (asyncio, asyncio.events):
        vars(module)["new_event_loop"] = _with_loop(asyncio.events.new_event_loop)
    for module in (asyncio, asyncio.tasks):
        vars(module)["as_completed"] = _in_order(asyncio.tasks.as_completed)


def _with_loop(original: Callable[[], Any]) -> Callable[[], Any]:
    """A program has one loop: in any other the time would stand still."""

    @functools.wraps(original)
    def new_event_loop() -> Any:
        running = execution()
        return original() if running is None else running.loop

    return new_event_loop


def _in_order(original: Callable[..., Any]) -> Callable[..., Any]:
    """`as_completed` makes tasks in the order of a set: here they are made before."""

    @functools.wraps(original)
    def as_completed(fs: Any, *, timeout: float | None = None) -> Any:
        if execution() is not None:
            fs = [asyncio.ensure_future(one) for one in fs]
        return original(fs, timeout=timeout)

    return as_completed


def _running(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run(main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        running = execution()
        return original(main, **options) if running is None else running.loop.run(main)

    return run


def _starting(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def start(thread: threading.Thread) -> None:
        if execution() is not None:
            _say_no(*_THREAD)
        original(thread)

    return start


def _refuse(event: str, details: tuple[Any, ...]) -> None:
    if event in _REFUSED and execution() is not None:
        _say_no(*_REFUSED[event])


def _say_no(what: str, instead: str) -> NoReturn:
    raise RuntimeError(f"a native task cannot {what}, which would not survive it: {instead}")
