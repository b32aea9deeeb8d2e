"""The processes that run task code, shared by all runs of one engine.

The machine's synchronous interface on a few threads costs half of its asyncio one, and is free of
an abort at interpreter exit that the asyncio one has (pydantic-monty 1.4.0).
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TypeVar

from pydantic_monty import Monty, MontyError, MontySession, OSPolicy, ResourceLimits

from sequential.core.model import Limits
from sequential.runtimes.sandbox.modules import external_modules
from sequential.runtimes.sandbox.prelude import IMPORT_SERVICES, SOURCE

T = TypeVar("T")

VERSION = f"pydantic-monty {version('pydantic-monty')}"
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
    """Hands out sessions, each a process of its own while it lasts."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._monty: Monty | None = None
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="sandbox")
        self._preludes: dict[tuple[str, ...], bytes] = {}

    async def run(self, function: Callable[[], T]) -> T:
        """Run blocking work with a session on one of the pool's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def checkout(
        self, limits: Limits, methods: tuple[str, ...]
    ) -> contextlib.AbstractContextManager[MontySession]:
        """A fresh session under a task's limits; blocks while all processes are in use."""
        return self._machine().checkout(
            limits={
                "max_memory": limits.memory_mb << 20,
                "max_turn_duration_secs": min(limits.turn_seconds, LONGEST_TURN),
                "max_feed_duration_secs": limits.cpu_seconds,
                "max_recursion_depth": limits.recursion,
                "max_suspensions": 10**9,
            },
            external_modules=external_modules(methods),
        )

    def prelude(self, methods: tuple[str, ...]) -> bytes:
        """The state every run with these services starts from."""
        if methods not in self._preludes:
            with self._machine().checkout(
                limits=_WIDEST, os_policy=POLICY, external_modules=external_modules(methods)
            ) as session:
                session.feed_run(SOURCE + IMPORT_SERVICES)
                self._preludes[methods] = session.dump()
        return self._preludes[methods]

    async def close(self) -> None:
        """End all processes; sessions that still exist are lost."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown(wait=True)
        if self._monty is not None:
            with contextlib.suppress(MontyError):
                self._monty.__exit__(None, None, None)

    def _machine(self) -> Monty:
        if self._monty is None:
            monty = Monty(
                min_processes=1,
                max_processes=self.processes,
                request_timeout=LONGEST_TURN + 10,
            )
            monty.__enter__()
            self._monty = monty
        return self._monty
