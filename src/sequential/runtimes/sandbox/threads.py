"""Threads for blocking work, with less between a caller and its result than an executor has.

A step of a run is a hand-over to a thread and back, so the price of one is part of every step: here
it is about half of what `loop.run_in_executor` takes.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """Work that a thread does once, or that is cancelled before that.

    `done` has its result; `ended` is set when the thread is through, even if `done` was cancelled.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[T] = self._loop.create_future()
        self.ended = asyncio.Event()
        self._work = work
        self._taken = threading.Lock()

    def cancel(self) -> bool:
        """Whether the work will not be done; False when it has begun."""
        return self._taken.acquire(blocking=False)

    def do(self) -> None:
        """Do the work, unless it was cancelled, and tell the event loop that waits for it."""
        if not self._taken.acquire(blocking=False):
            return
        value: Any = None
        error: BaseException | None = None
        try:
            value = self._work()
        except BaseException as raised:
            error = raised
        try:
            self._loop.call_soon_threadsafe(self._settle, value, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _settle(self, value: Any, error: BaseException | None) -> None:
        self.ended.set()
        if self.done.done():
            return
        if error is None:
            self.done.set_result(value)
        else:
            self.done.set_exception(error)


class Threads:
    """So many threads, started when they are first needed."""

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """Have work done, in the order in which it comes."""
        job = Job(work)
        if len(self._threads) < self._number:
            self._start()
        self._jobs.put(job)
        return job

    def close(self) -> None:
        """End the threads once all work is done; blocks until then."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while job := self._jobs.get():
            job.do()
