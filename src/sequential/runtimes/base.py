"""What a runtime is: it advances one program, and does nothing else.

A runtime performs no I/O for the task, never sees storage and has no clock: what time it is comes
with each turn, random bytes are derived from the run's id.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from sequential.core.model import Limits, Outcome, Turn, Waiting


class Program(msgspec.Struct, frozen=True):
    """What a runtime needs to know of a run."""

    run_id: str  # random numbers of the task are derived from it
    task: str  # its name in snake_case is the entry function
    source: str
    filename: str = "code.py"  # how tracebacks name the source
    input_names: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()  # "<service>.<method>" the task may call as services.<...>
    limits: Limits = Limits()
    graph: str | None = None  # the text of its graph.json, if it has one
    handler: str | None = None  # the function to call with (input, context), for a state's handler


class Step(NamedTuple):
    """A function of a program, to be called beside it, and again if it raises: `retries` times."""

    work: Callable[[], Any]
    retries: int


class Runtime(Protocol):
    """Drives one run. One instance per run being driven; `RuntimeDiedError` may come any time."""

    version: str  # of the machine that snapshots are tied to, with the number of their format
    stays: bool  # in memory while it waits, and takes no room that others need

    def step(self, sequence: int) -> Step:
        """The function that a call of the service `step` stands for; `KeyError` for others."""
        ...

    async def start(self, program: Program, input: Any, now: datetime) -> Turn:
        """Run from the beginning to the first wait or the end."""
        ...

    async def resume(self, outcomes: Sequence[tuple[int, Outcome]], now: datetime) -> Turn:
        """Hand over outcomes, (sequence of the call, outcome) in this order, and advance."""
        ...

    async def snapshot(self) -> bytes | None:
        """The state between two turns; None: this runtime resumes by replaying the journal."""
        ...

    async def restore(self, program: Program, snapshot: bytes) -> Waiting:
        """Go back to a state; raises `SnapshotRefusedError` if the bytes are not to be used."""
        ...

    async def close(self) -> None:
        """Give up the program; `start` or `restore` may follow."""
        ...


class SnapshotRefusedError(Exception):
    """The runtime cannot use this snapshot: replay the journal instead."""
