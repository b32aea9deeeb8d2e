"""Ctrl-C and SIGTERM: the first stops in an orderly way, the second ends the process at once."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None], leave: Callable[[], None]) -> Iterator[list[int]]:
    """Call `stop` at the first signal; at the second call `leave` and end, which loses nothing.

    Gives the numbers of the signals received so far. To be used on a running event loop.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            leave()
            os._exit(128 + number)
        stop()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, int(number))
    try:
        yield received
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
