"""A thread for a program, which runs only while the engine waits for its turn to end.

The program keeps its stack from one turn to the next: it may wait in the middle of an ordinary
function of a library, which no event loop could suspend. So it has a thread of its own, and the
two pass the baton: either the engine has it, or the program.
"""

import asyncio
import ctypes
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple, NoReturn

from sequential.core.model import Outcome, Turn

ENDING = 1.0  # seconds that a program which is given up may take to unwind, and again when told so

PATIENCE = 100  # times that a program may be told that it is given up


class Delivery(NamedTuple):
    """What a turn begins with: outcomes by number of call, and what time it is."""

    outcomes: Sequence[tuple[int, Outcome]]
    now: datetime


class GivenUp(BaseException):
    """The program leaves memory. It is no `Exception`, so that tasks do not catch it by chance."""


class Baton:
    """The engine's side is `start`, `advance` and `drop`, the program's is `pass_on`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._deliveries: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: asyncio.Future[Turn] | None = None
        self._is_dropped = False
        self._given_up = 0
        self._ended: Future[None] = Future()

    async def start(self, program: Callable[[], Turn]) -> Turn:
        """Run a program up to its first wait; what it returns is its last turn."""

        def work() -> None:
            try:
                self._work(program)
            except GivenUp:
                pass  # it came late, as an interruption
            finally:
                self._end()

        self._thread = threading.Thread(target=work, name=self._name, daemon=True)
        turn = self._expect()
        self._thread.start()
        return await turn

    async def advance(self, delivery: Delivery) -> Turn:
        """Hand the program what it waits for; returns its next turn."""
        turn = self._expect()
        self._deliveries.put(delivery)
        return await turn

    def pass_on(self, turn: Turn) -> Delivery:
        """Wait, in the program's thread, for the next turn to begin; `GivenUp` if none will."""
        if self._is_dropped:
            self.give_up()
        self._tell(turn)
        delivery = self._deliveries.get()
        if delivery is None:
            self.give_up()
        return delivery

    def give_up(self) -> NoReturn:
        """Raise `GivenUp`, in the program's thread. One that goes on all the same is stopped here.

        It would raise and catch for ever, at the expense of everything else in the process.
        """
        self._given_up += 1
        if self._given_up > PATIENCE:
            self._end()
            threading.Event().wait()
        raise GivenUp

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def drop(self) -> None:
        """Have the program unwind, and wait for that as long as it is reasonable."""
        self._is_dropped = True
        self._deliveries.put(None)
        thread, self._thread = self._thread, None
        if thread is None:
            return
        ended = asyncio.wrap_future(self._ended)
        await asyncio.wait([ended], timeout=ENDING)
        if not ended.done():
            self._interrupt(thread)
            await asyncio.wait([ended], timeout=ENDING)

    def _interrupt(self, thread: threading.Thread) -> None:
        """Raise `GivenUp` wherever the program is: it computes, and asks for nothing.

        One that waits inside of a library, for a lock perhaps, is left behind with its thread.
        """
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(GivenUp)
        )

    def _work(self, program: Callable[[], Turn]) -> None:
        try:
            turn = program()
        except GivenUp:
            return
        except BaseException as error:  # ours: the program's own are part of its turn
            self._tell(error)
        else:
            self._tell(turn)

    def _expect(self) -> "asyncio.Future[Turn]":
        self._loop = asyncio.get_running_loop()
        self._turn = self._loop.create_future()
        return self._turn

    def _tell(self, turn: Turn | BaseException) -> None:
        loop, future = self._loop, self._turn
        assert loop is not None
        assert future is not None

        def settle() -> None:
            if future.done():
                return  # the engine does not wait any more
            if isinstance(turn, BaseException):
                future.set_exception(turn)
            else:
                future.set_result(turn)

        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more
