"""The program of one run: in memory, or not, and how it comes back.

It comes back from its newest snapshot and the turns of the journal since then, or, if there is no
snapshot that can be used, from the whole journal. Both give the same program.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

from sequential.core import journal, times
from sequential.core.model import Outcome, Snapshot, TaskRun, Turn, Waiting
from sequential.core.snapshot import Head, seal, source_hash, unseal
from sequential.errors import NonDeterminismError
from sequential.runner.aside import Aside
from sequential.runner.slots import Slots
from sequential.runtimes.base import Program, Runtime, SnapshotRefusedError, Step
from sequential.runtimes.registry import Runtimes
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter


class LiveProgram:
    """Advances the program of one run, reviving it when it is not in memory."""

    def __init__(
        self,
        storage: StorageAdapter,
        runtimes: Runtimes,
        services: Services,
        slots: Slots,
        aside: Aside,
        secret: bytes,
    ) -> None:
        self._storage = storage
        self._runtimes = runtimes
        self._services = services
        self._slots = slots
        self._aside = aside
        self._secret = secret
        self._runtime: Runtime | None = None
        self.waiting: tuple[int, ...] | None = None  # None: not known before the first revival
        self.tail = 0  # turns since the newest snapshot: what a revival would have to replay
        self.snapshot_cost = 0.0  # seconds the last snapshot took

    @property
    def is_live(self) -> bool:
        return self._runtime is not None

    async def revive(self, run: TaskRun) -> int:
        """Bring the program to `run.turn`; returns how many turns had to be replayed.

        Raises `NonDeterminismError` when the journal does not fit the source, and
        `RuntimeDiedError` when the runtime ended under it.
        """
        if self.is_live:
            return 0
        if resting := await self._aside.take(run):
            self._runtime, self.waiting = resting.runtime, resting.waiting
            return 0
        runtime = self._runtimes.create(_runtime_of(run))
        if not runtime.stays:
            await self._slots.acquire()
        self._runtime = runtime
        try:
            return await self._restore(self._runtime, run) if run.turn else 0
        except BaseException:
            await self.close()
            raise

    async def advance(
        self, run: TaskRun, outcomes: Sequence[tuple[int, Outcome]], now: datetime
    ) -> Turn:
        """Take the turn after `run.turn`; raises what `revive` raises."""
        await self.revive(run)
        assert self._runtime is not None
        try:
            if run.turn == 0:
                turn = await self._runtime.start(self._program(run), run.input, now)
            else:
                turn = await self._runtime.resume(outcomes, now)
        except BaseException:
            await self.close()
            raise
        self.waiting = turn.state.calls if isinstance(turn.state, Waiting) else ()
        self.tail += 1
        return turn

    async def snapshot(self, run: TaskRun, turn: int) -> Snapshot | None:
        """The sealed state after `turn`; None when the runtime has none to give."""
        assert self._runtime is not None
        started = time.perf_counter()
        state = await self._runtime.snapshot()
        if state is None:
            return None
        sealed = seal(self._head(self._runtime, run, turn), state, self._secret)
        self.snapshot_cost = time.perf_counter() - started
        self.tail = 0
        return Snapshot(run.id, turn, sealed)

    async def close(self) -> None:
        """Leave memory."""
        runtime, self._runtime = self._runtime, None
        if runtime is None:
            return
        try:
            await runtime.close()
        finally:
            if not runtime.stays:
                self._slots.release()

    async def put_aside(self, run: TaskRun) -> None:
        """Keep a program that stays in memory for the time when its run is driven again."""
        if self.stays and self.waiting is not None:
            runtime, self._runtime = self._runtime, None
            assert runtime is not None
            await self._aside.put(run, runtime, self.waiting)

    @property
    def stays(self) -> bool:
        """Whether it is in memory and takes no room that others need."""
        return self._runtime is not None and self._runtime.stays

    def may_linger(self, run: TaskRun) -> bool:
        """Whether nothing but this process limits how long a turn takes."""
        return run.config.runtime == "native"

    def step(self, sequence: int) -> Step:
        """The function of a call of the service `step`; `KeyError` if it has none."""
        if self._runtime is None:
            raise KeyError(sequence)
        return self._runtime.step(sequence)

    @property
    def is_unwanted(self) -> bool:
        """Whether another program waits for the room of this one."""
        return self._slots.wanted

    def lend(self, wake: asyncio.Event) -> None:
        self._slots.lend(wake)

    def keep(self, wake: asyncio.Event) -> None:
        self._slots.keep(wake)

    async def _restore(self, runtime: Runtime, run: TaskRun) -> int:
        position, waiting = await self._from_snapshot(runtime, run)
        calls = await self._storage.load_calls(run.id, position)
        entries = journal.entries(calls, run.started_at or run.created_at, position)
        for entry in entries:
            waiting = await self._replay(runtime, run, entry, waiting)
        self.waiting = waiting
        self.tail = run.turn - position
        return len(entries)

    async def _from_snapshot(self, runtime: Runtime, run: TaskRun) -> tuple[int, tuple[int, ...]]:
        snapshot = await self._storage.get_snapshot(run.id)
        if snapshot is None or snapshot.turn > run.turn:
            return 0, ()
        head = self._head(runtime, run, snapshot.turn)
        state = unseal(snapshot.data, head, self._secret)
        if state is None:
            return 0, ()
        try:
            return snapshot.turn, (await runtime.restore(self._program(run), state)).calls
        except SnapshotRefusedError:
            return 0, ()

    async def _replay(
        self, runtime: Runtime, run: TaskRun, entry: journal.Entry, waiting: tuple[int, ...]
    ) -> tuple[int, ...]:
        now = times.from_text(entry.clock)
        if entry.turn == 1:
            turn = await runtime.start(self._program(run), run.input, now)
        else:
            journal.check_delivery(entry, waiting)
            turn = await runtime.resume(entry.outcomes, now)
        journal.check_turn(entry, turn)
        if not isinstance(turn.state, Waiting):
            raise NonDeterminismError(
                f"the program ended in turn {entry.turn}, the journal says that it went on: "
                "the journal does not fit this source"
            )
        return turn.state.calls

    def _program(self, run: TaskRun) -> Program:
        return Program(
            run_id=run.id,
            task=run.task_identifier,
            source=run.code,
            filename=run.filename,
            input_names=tuple(field.name for field in run.config.inputs),
            methods=self._services.methods(run.config.allow, run.code),
            limits=run.config.limits,
            graph=run.config.graph,
            handler=run.config.handler,
        )

    def _head(self, runtime: Runtime, run: TaskRun, turn: int) -> Head:
        return Head(
            run=run.id,
            turn=turn,
            runtime=_runtime_of(run),
            version=runtime.version,
            source=source_hash(run.code),
        )


def _runtime_of(run: TaskRun) -> str:
    return "graph" if run.config.graph is not None else run.config.runtime
