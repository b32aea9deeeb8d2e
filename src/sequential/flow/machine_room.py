"""The sandbox processes of `SequentialFlow`, kept warm from one call to the next.

They belong to the process, and to one event loop at a time: a handler that calls `asyncio.run` for
each request finds them again, since the loop before it is closed.
"""

import asyncio
import threading

import msgspec

from sequential.runner.slots import Slots
from sequential.runtimes.registry import Runtimes

PROGRAMS = 4  # advanced at a time by one event loop; others wait some milliseconds


class MachineRoom(msgspec.Struct, frozen=True, eq=False):
    """What the programs of one event loop run on."""

    loop: asyncio.AbstractEventLoop
    runtimes: Runtimes
    slots: Slots  # as many as there are processes, so nobody ever waits inside of `runtimes`


_rooms: list[MachineRoom] = []
_lock = threading.Lock()  # event loops of several threads


def machine_room() -> MachineRoom:
    """The room of the running event loop: its own, one that a closed loop left, or a new one."""
    loop = asyncio.get_running_loop()
    with _lock:
        for room in _rooms:
            if room.loop is loop:
                return room
        left = next((room for room in _rooms if room.loop.is_closed()), None)
        if left is not None:
            _rooms.remove(left)
        runtimes = Runtimes(PROGRAMS) if left is None else left.runtimes
        room = MachineRoom(loop, runtimes, Slots(PROGRAMS))
        _rooms.append(room)
        return room


async def close_room() -> None:
    """End the sandbox processes of the running event loop; the next call starts others."""
    room = machine_room()
    with _lock:
        _rooms.remove(room)
    await room.runtimes.close()
