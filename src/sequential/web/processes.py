"""Several server processes on one port: started, watched, started again, and ended together.

The parent has the socket and answers nothing. Each child accepts from that socket; it ends when its
standard input does, so that none is left behind when the parent is killed.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence

FIRST_DELAY = 0.2  # seconds until a process that died is started again; doubled each time
LONGEST_DELAY = 30.0
WELL = 10.0  # seconds after which a process counts as one that works
REFUSED = 2  # the exit code of a process that cannot work as it was started, nor can the others


class Processes:
    """Keeps `count` processes of `command` running; each gets the socket's number as last argument.

    `tell` is given a line when one has died.
    """

    def __init__(
        self,
        command: Sequence[str],
        listener: socket.socket,
        count: int,
        tell: Callable[[str], None],
    ) -> None:
        self._command = [*command, str(listener.fileno())]
        self._listener = listener
        self._number = listener.fileno()
        self._count = count
        self._tell = tell
        self._running: set[Process] = set()
        self._ending = asyncio.Event()
        self._refused = False

    async def run(self) -> int:
        """Return when they have ended, after `stop` or because they refuse to work; an exit code.

        Whatever happens here, none of them goes on.
        """
        try:
            await asyncio.gather(*(self._keep() for _ in range(self._count)))
        finally:
            self.kill()
        return REFUSED if self._refused else 0

    def stop(self) -> None:
        """Let them finish what they are doing, and end; nobody else is let in."""
        self._ending.set()
        self._listener.close()
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End them now, which loses nothing."""
        self._ending.set()
        self._listener.close()
        self._send(signal.SIGKILL)

    async def _keep(self) -> None:
        delay = FIRST_DELAY
        while not self._ending.is_set():
            begun = time.monotonic()
            code = await self._run_one()
            if code == REFUSED:
                self._refused = True
                self.stop()
            if self._ending.is_set():
                return
            delay = FIRST_DELAY if time.monotonic() - begun > WELL else delay
            self._tell(f"A server process ended with {_named(code)}: another one in {delay:g} s.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._ending.wait()
            delay = min(delay * 2, LONGEST_DELAY)

    async def _run_one(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=DEVNULL,
            pass_fds=[self._number],
            start_new_session=True,  # Ctrl-C is for the parent, which passes it on
        )
        self._running.add(process)
        try:
            if self._ending.is_set():
                process.send_signal(signal.SIGTERM)
            return await process.wait()
        finally:
            self._running.discard(process)

    def _send(self, number: signal.Signals) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


def command_of_this_process() -> list[str]:
    """What starts this program again, in the same way."""
    return [sys.executable, "-P", "-c", "from sequential.cli import main; main()", *sys.argv[1:]]


def inherited(number: int) -> socket.socket:
    """The socket that the parent has handed down."""
    made = socket.socket(proto=socket.IPPROTO_TCP, fileno=number)
    made.setblocking(False)
    os.set_inheritable(number, False)  # not by the processes of the sandbox
    return made


async def parent_is_gone() -> None:
    """Return when the parent, which holds the other end of standard input, has ended."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def allow_many_files() -> None:
    """Let this process have as many connections as the machine allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
