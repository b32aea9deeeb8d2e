"""Room for programs in memory. Who waits for nothing gives its room to who can go on."""

import asyncio
from collections import OrderedDict


class Slots:
    """A number of slots. A holder that idles lends its slot: it is told when somebody wants it."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._queue: OrderedDict[int, asyncio.Future[None]] = OrderedDict()
        self._idle: OrderedDict[asyncio.Event, None] = OrderedDict()
        self._tickets = 0

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._queue)

    async def acquire(self) -> None:
        """Wait for a slot, in the order of asking."""
        if self._free and not self._queue:
            self._free -= 1
            return
        self._tickets += 1
        ticket, turn = self._tickets, asyncio.get_running_loop().create_future()
        self._queue[ticket] = turn
        self._ask_idle()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise
        finally:
            self._queue.pop(ticket, None)

    def release(self) -> None:
        """Give a slot back."""
        for ticket, turn in self._queue.items():
            if not turn.done():
                del self._queue[ticket]
                turn.set_result(None)
                return
        self._free += 1

    def lend(self, wake: asyncio.Event) -> None:
        """Say that the holder idles; `wake` is set when its slot is wanted."""
        self._idle[wake] = None
        if self._queue:
            self._ask_idle()

    def keep(self, wake: asyncio.Event) -> None:
        """Say that the holder does not idle any more."""
        self._idle.pop(wake, None)

    def _ask_idle(self) -> None:
        if self._idle:
            wake, _ = self._idle.popitem(last=False)
            wake.set()
