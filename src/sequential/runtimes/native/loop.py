"""An event loop for task code in which nothing happens by chance.

It runs what is ready, in the order in which it became ready, and then waits for outcomes of calls:
there is nothing else to wait for. A timer is a call too, so `asyncio.sleep`, `timeout` and
`wait_for` are durable. What would reach the world past the journal is refused with a word on what
to use instead.
"""

import asyncio
import contextlib
import contextvars
import sys
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, NoReturn, Protocol, TypeVar

T = TypeVar("T")

STUCK = (
    "the task waits for something that will not come: all its calls are answered, and nothing else "
    "can wake it"
)


class Numbered:
    """Hashed by number: asyncio keeps tasks in sets, whose order must not depend on addresses."""

    number: int

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class ProgramFuture(Numbered, asyncio.Future[Any]):
    """A future of a program's loop."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)


class ProgramTask(Numbered, asyncio.Task[Any]):
    """A task of a program's loop."""

    def __init__(self, number: int, work: Any, **options: Any) -> None:
        self.number = number
        super().__init__(work, **options)


class Timers(Protocol):
    """Where the loop gets its time from, and what it waits for when nothing is ready."""

    def seconds(self) -> float:
        """The time of this turn, since 1970."""
        ...

    def set_timer(self, handle: asyncio.TimerHandle, seconds: float) -> None:
        """Have the handle run after some time."""
        ...

    def drop_timer(self, handle: asyncio.TimerHandle) -> None:
        """It was cancelled."""
        ...

    def wait(self) -> bool:
        """Return when outcomes have come; False when there are none to come."""
        ...

    def write(self, text: str) -> None:
        """Put a line into the run's log."""
        ...


class DurableLoop(asyncio.AbstractEventLoop):
    """The loop that a native task finds with `asyncio.get_running_loop()`."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._ready: deque[asyncio.Handle] = deque()
        self._numbers = 0
        self._tasks: dict[int, ProgramTask] = {}
        self._generators: weakref.WeakValueDictionary[int, AsyncGenerator[Any, Any]]
        self._generators = weakref.WeakValueDictionary()
        self._is_running = False

    # --- running ---------------------------------------------------------------------------------

    def run_until_complete(self, future: Any) -> Any:
        """The result of a coroutine, once everything that it awaits has come."""
        if self._is_running:
            raise RuntimeError("This event loop is already running")
        main = asyncio.ensure_future(future, loop=self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._note_generator, self._close_generator)
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            self._run_until_done([main])
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
        return main.result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What `asyncio.run` does: what is left behind is cancelled, and waited for."""
        if self._is_running:
            coroutine.close()
            raise RuntimeError("asyncio.run() cannot be called from a running event loop")
        try:
            result: T = self.run_until_complete(coroutine)
        except Exception:
            self._tidy_up()
            raise
        self._tidy_up()
        return result

    def unwind(self) -> None:
        """Close what is unfinished. Its `finally` blocks run, but no call they make is made.

        They find a loop as before: one that asks it for something again and again is stopped there,
        while without a loop it would go on to ask at the expense of everything else.
        """
        self._ready.clear()
        asyncio._set_running_loop(self)
        for task in [*self._tasks.values()]:
            coroutine = task.get_coro()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            try:
                if coroutine is not None:
                    coroutine.close()
            except BaseException:  # noqa: S110 - what a program does while it is given up
                pass
        asyncio._set_running_loop(None)
        self._tasks.clear()
        self._ready.clear()

    def make_ready(self, handle: asyncio.Handle) -> None:
        """Run a handle after those that are ready."""
        self._ready.append(handle)

    def _run_ready(self) -> None:
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _run_until_done(self, wanted: "Iterable[asyncio.Future[Any]]") -> None:
        is_told = False
        self._run_ready()
        while not all(one.done() for one in wanted):
            if not self._timers.wait():
                stuck = RuntimeError(STUCK)
                if is_told or not _raise_in(wanted, stuck):
                    raise stuck
                is_told = True
            self._run_ready()

    def _tidy_up(self) -> None:
        try:
            self.run_until_complete(self._tidy())
        except Exception as error:
            told = "what the task left behind did not end in good order"
            self.call_exception_handler({"message": told, "exception": error})

    async def _tidy(self) -> None:
        """End the other tasks, and then the generators that were left half-way."""
        left = [task for task in self._tasks.values() if task is not asyncio.current_task()]
        for task in left:
            with contextlib.suppress(RecursionError):  # they wait for each other
                task.cancel()
        if left:
            await asyncio.wait(left)
        for generator in [*self._generators.values()]:
            await generator.aclose()

    def _note_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[self.next_number()] = generator

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._is_running:
            self.create_task(generator.aclose())

    # --- what asyncio asks of a loop -------------------------------------------------------------

    def time(self) -> float:
        return self._timers.seconds()

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if delay <= 0:
            self._ready.append(handle)
        else:
            self._timers.set_timer(handle, delay)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        # A difference of large numbers: to the microsecond it is what the caller has meant.
        delay = round(when - self.time(), 6)
        return self.call_later(delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._timers.drop_timer(handle)

    def create_future(self) -> "asyncio.Future[Any]":
        return ProgramFuture(self.next_number(), self)

    def create_task(
        self,
        coro: Any,
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> "asyncio.Task[Any]":
        number = self.next_number()
        label = f"Task-{number}" if name is None else str(name)
        task = ProgramTask(number, coro, loop=self, name=label, context=context, **options)
        self._tasks[number] = task
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(hash(task), None)

    def next_number(self) -> int:
        """Numbers of futures and tasks, in the order in which they are made."""
        self._numbers += 1
        return self._numbers

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return False

    def close(self) -> None: ...

    def stop(self) -> NoReturn:
        raise RuntimeError("the loop of a task stops when the task returns")

    def run_forever(self) -> NoReturn:
        raise RuntimeError("the loop of a task runs until the task returns")

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None: ...

    def get_task_factory(self) -> None:
        return None

    def get_exception_handler(self) -> None:
        return None

    def set_task_factory(self, factory: object) -> NoReturn:
        raise RuntimeError("the loop of a task makes its own tasks, which are the same in a replay")

    def set_exception_handler(self, handler: object) -> NoReturn:
        raise RuntimeError("the loop of a task writes into the run's log what nobody asked for")

    def set_default_executor(self, executor: object) -> NoReturn:
        _refuse("threads", "do the work with `await step(function, ...)`")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        told = f"{context.get('message')}: {error!r}" if error else str(context.get("message"))
        self._timers.write(f"{told}\n")

    async def shutdown_asyncgens(self) -> None: ...

    async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

    # --- what is refused -------------------------------------------------------------------------

    def call_soon_threadsafe(  # type: ignore[override]
        self, *args: Any, **more: Any
    ) -> NoReturn:
        _refuse("threads", "do the work with `await step(function, ...)`")

    def run_in_executor(  # type: ignore[override]
        self, executor: object, function: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """What `asyncio.to_thread` asks for is done in place: it may make calls of the run.

        Libraries ask for it where a function may block a loop, which does no harm to this one.
        """
        if executor is not None:
            _refuse("threads", "do the work with `await step(function, ...)`")
        future = self.create_future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _network(self, *args: Any, **more: Any) -> NoReturn:
        _refuse("sockets", "use `fetch`, a service, or `await step(function, ...)`")

    async def _network_later(self, *args: Any, **more: Any) -> NoReturn:
        _refuse("sockets", "use `fetch`, a service, or `await step(function, ...)`")

    def _signals(self, *args: Any, **more: Any) -> NoReturn:
        _refuse("signals", "wait for `wait_for_event(name)`")

    add_reader = add_writer = _network  # type: ignore[assignment]
    remove_reader = remove_writer = _network
    create_connection = create_server = create_datagram_endpoint = _network_later
    create_unix_connection = create_unix_server = start_tls = sendfile = _network_later
    getaddrinfo = getnameinfo = connect_accepted_socket = _network_later
    sock_recv = sock_recv_into = sock_recvfrom = sock_recvfrom_into = _network_later
    sock_sendall = sock_sendto = sock_connect = sock_accept = sock_sendfile = _network_later
    connect_read_pipe = connect_write_pipe = subprocess_shell = subprocess_exec = _network_later
    add_signal_handler = _signals  # type: ignore[assignment]
    remove_signal_handler = _signals


def _raise_in(waiting: "Iterable[asyncio.Future[Any]]", error: Exception) -> bool:
    """Raise at the `await` that a task is stuck at, so that its traceback says where."""
    for task in waiting:
        place: asyncio.Future[Any] | None = task
        seen = set()
        while isinstance(place, asyncio.Task) and place not in seen:
            seen.add(place)
            place = place._fut_waiter  # type: ignore[attr-defined]
        if place is not None and not isinstance(place, asyncio.Task) and not place.done():
            place.set_exception(error)
            return True
    return False


def _refuse(what: str, instead: str) -> NoReturn:
    raise RuntimeError(f"a task has no {what} of its own, they would not survive it: {instead}")
