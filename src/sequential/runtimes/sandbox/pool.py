"""The processes that run task code, shared by all runs of one engine.

The machine's synchronous interface on a few threads costs half of its asyncio one, and is free of
an abort at interpreter exit that the asyncio one has (pydantic-monty 1.4.0).
"""

import asyncio
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

from pydantic_monty import Monty, MontyError, MontySession, OSPolicy, ResourceLimits

from sequential.core.model import Limits
from sequential.errors import RuntimeDiedError
from sequential.runtimes.sandbox.modules import external_modules
from sequential.runtimes.sandbox.prelude import IMPORT_SERVICES, SOURCE
from sequential.runtimes.sandbox.threads import Threads

T = TypeVar("T")
Checkout = contextlib.AbstractContextManager[MontySession]

VERSION = f"pydantic-monty {version('pydantic-monty')}"
_MOST_PRELUDES = 64  # sets of services whose beginning is kept: 8 KB, and 128 bytes a method
LONGEST_TURN = 60.0  # seconds; a task's limit may be lower
POLICY: OSPolicy = {"datetime": "call_host", "sleep": "call_host", "random_start": "call_host"}

# A dump keeps the limits it was made under and later ones can only be tighter, so the prelude is
# dumped under these.
_WIDEST: ResourceLimits = {
    "max_memory": 4 << 30,
    "max_turn_duration_secs": LONGEST_TURN,
    "max_feed_duration_secs": 1e6,
    "max_recursion_depth": 2000,
    "max_suspensions": 10**9,
}


class SandboxPool:
    """Hands out sessions, each a process of its own while it lasts.

    Who wants one takes a place in `room` first and keeps it until the session is closed.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.room = asyncio.Semaphore(processes)
        self._monty: Monty | None = None
        self._starting = threading.Lock()
        self._threads = Threads(processes, "sandbox")
        self._preludes: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._open: set[Checkout] = set()
        self._closed = False

    async def run(self, function: Callable[[], T]) -> T:
        """Run blocking work with a session on one of the pool's threads.

        When this is cancelled it first waits for work that has begun, which a turn's time limit
        bounds: nobody may close a session, or forget one, while it is being worked with.
        """
        if self._closed:
            raise RuntimeDiedError("the sandbox processes were ended")
        job = self._threads.submit(function)
        try:
            return await job.done
        except asyncio.CancelledError:
            if not job.cancel():
                await _until(job.ended)
            raise

    def checkout(self, limits: Limits, methods: tuple[str, ...]) -> Checkout:
        """A fresh session under a task's limits; blocks while all processes are in use."""
        checkout = self._machine().checkout(
            limits={
                "max_memory": limits.memory_mb << 20,
                "max_turn_duration_secs": min(limits.turn_seconds, LONGEST_TURN),
                "max_feed_duration_secs": limits.cpu_seconds,
                "max_recursion_depth": limits.recursion,
                "max_suspensions": 10**9,
            },
            external_modules=external_modules(methods),
        )
        self._open.add(checkout)
        return checkout

    def give_back(self, checkout: Checkout) -> None:
        """End a session, whatever state it is in."""
        self._open.discard(checkout)
        with contextlib.suppress(MontyError):
            checkout.__exit__(None, None, None)

    def prelude(self, methods: tuple[str, ...]) -> bytes:
        """The state every run with these services starts from."""
        known = self._preludes.get(methods)
        if known is None:
            with self._machine().checkout(
                limits=_WIDEST, os_policy=POLICY, external_modules=external_modules(methods)
            ) as session:
                session.feed_run(SOURCE + IMPORT_SERVICES)
                known = self._preludes[methods] = session.dump()
            with contextlib.suppress(KeyError):  # another thread may have been quicker
                while len(self._preludes) > _MOST_PRELUDES:
                    self._preludes.popitem(last=False)
        return known

    async def close(self) -> None:
        """End all processes; sessions that still exist are lost."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._closed = True
        self._threads.close()
        while self._open:
            self.give_back(next(iter(self._open)))
        if self._monty is not None:
            with contextlib.suppress(MontyError):
                self._monty.__exit__(None, None, None)

    def _machine(self) -> Monty:
        with self._starting:
            if self._monty is None:
                monty = Monty(
                    min_processes=1,
                    max_processes=self.processes,
                    request_timeout=LONGEST_TURN + 10,
                )
                monty.__enter__()
                self._monty = monty
            return self._monty


async def _until(ended: asyncio.Event) -> None:
    """Wait for work to end, however often this is cancelled."""
    while not ended.is_set():
        try:
            await ended.wait()
        except asyncio.CancelledError:
            continue
