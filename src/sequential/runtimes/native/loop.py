"""An event loop for task code in which nothing happens by chance.

It runs what is ready, in the order in which it became ready, and then waits for outcomes of calls:
there is nothing else to wait for. A timer is a call too, so `asyncio.sleep`, `timeout` and
`wait_for` are durable. What would reach the world past the journal is refused with a word on what
to use instead.
"""

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn, Protocol, TypeVar

T = TypeVar("T")


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

    def wait(self) -> None:
        """Return when outcomes have come; raises when there is nothing to wait for."""
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
        self._is_running = False

    # --- running ---------------------------------------------------------------------------------

    def run_until_complete(self, future: Any) -> Any:
        """The result of a coroutine, once everything that it awaits has come."""
        main = asyncio.ensure_future(future, loop=self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._close_generator)
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            self._run_ready()
            while not main.done():
                self._timers.wait()
                self._run_ready()
            self._cancel_others(main)
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
        return main.result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What `asyncio.run` does inside of a task."""
        if self._is_running:
            coroutine.close()
            raise RuntimeError("asyncio.run() cannot be called from a running event loop")
        result: T = self.run_until_complete(coroutine)
        return result

    def unwind(self) -> None:
        """Close what is unfinished. Its `finally` blocks run, but no call they make is made."""
        self._ready.clear()
        for task in [*self._tasks.values()]:
            coroutine = task.get_coro()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            try:
                if coroutine is not None:
                    coroutine.close()
            except BaseException:  # noqa: S110 - what a program does while it is given up
                pass
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

    def _cancel_others(self, main: "asyncio.Future[Any]") -> None:
        """The program is over: what it left behind is told, and waits for nothing any more."""
        for task in [*self._tasks.values()]:
            if task is not main:
                task.cancel()
        self._run_ready()

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
        self, *args: Any, **more: Any
    ) -> NoReturn:
        _refuse("threads", "do the work with `await step(function, ...)`")

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


def _refuse(what: str, instead: str) -> NoReturn:
    raise RuntimeError(f"a task has no {what} of its own, they would not survive it: {instead}")
