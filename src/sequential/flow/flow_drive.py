"""Driving a program whose requests its caller performs: from one answer to the next request.

It takes the turns that a worker takes, on the same parts and with the same commits. Only the calls
differ: a `fetch` stays open until the caller brings the answer, a sleep until its time has come,
and everything else is refused inside of the program. No open call is ever due for a worker that
shares the store (`NEVER`), and the run's policy lets it reach nothing.
"""

import asyncio
import math
import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from sequential.core import journal, times
from sequential.core.model import (
    Allow,
    Commit,
    Failure,
    Finished,
    Raised,
    Snapshot,
    StackRun,
    Status,
    TaskRun,
    Waiting,
    evolve,
)
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    LeaseLostError,
    NonDeterminismError,
    RunBusyError,
    RuntimeDiedError,
)
from sequential.flow.fetch_answer import outcome_of
from sequential.flow.flow_calls import (
    FETCH,
    arguments,
    arrived,
    asked,
    ends_at,
    requests,
    settled,
    why_not,
)
from sequential.flow.machine_room import machine_room
from sequential.flow.script import service_methods
from sequential.runner.aside import Aside
from sequential.runner.clock import Clock
from sequential.runner.live_program import LiveProgram
from sequential.runner.open_calls import cancelled
from sequential.services.registry import Services
from sequential.storage.base import StorageAdapter

NEVER = "9999-12-31T23:59:59.999Z"
LEASE = 30.0  # seconds; if this process dies in a step, others may go on after so long
PATIENCE = 5.0  # seconds that a step may take in all, short sleeps included
IDLE = 0.25  # seconds; for a longer sleep a program leaves its process to others
DEATHS = 3  # a program that ends its sandbox process so often in one step has failed


class Answer(msgspec.Struct, frozen=True):
    """What the caller brings: the answer to a request, to the first one if `request_id` is None."""

    response: Any
    request_id: str | None = None


class Refusing(Services):
    """No services, though the names that a program uses are known, so that it is told why."""

    def __init__(self, code: str) -> None:
        super().__init__(())
        self._names = service_methods(code)

    def methods(self, allow: Allow, source: str = "") -> tuple[str, ...]:
        return self._names


class FlowDrive:
    """One step of one flow: from a claim of its run to the next pause, or to the end."""

    def __init__(self, storage: StorageAdapter, clock: Clock, secret: bytes, flow_id: str) -> None:
        self._storage = storage
        self._clock = clock
        self._secret = secret
        self._flow_id = flow_id
        self._token = secrets.token_hex(8)
        self._calls: dict[int, StackRun] = {}  # all that are not delivered
        self._deaths = 0
        self._end = time.monotonic() + PATIENCE
        self.log = ""  # what the program has printed

    @property
    def calls(self) -> list[StackRun]:
        """The calls that are not delivered."""
        return list(self._calls.values())

    async def step(self, run_id: str, answer: Answer | None) -> TaskRun:
        """Claim the run, hand it the answer, and advance it as far as it goes.

        Raises `RunBusyError` when somebody else does so at this moment, `InvalidTransitionError`
        for a request that was answered already and for a sleep that is not over, and
        `InvalidInputError` for an answer that cannot be handed over; the run is then as it was.
        """
        now = times.to_text(self._clock.now())
        run = await self._storage.claim(run_id, self._token, now, times.after(now, LEASE))
        room = machine_room()
        services = Refusing(run.code)
        program = LiveProgram(
            self._storage, room.runtimes, services, room.slots, Aside(), self._secret
        )
        try:
            calls = await self._storage.load_calls(run.id, run.turn)
            self._calls = {call.sequence: call for call in calls}
            self._take(run, answer)
            return await self._to_rest(run, program)
        except BaseException:
            await self._storage.release(run_id, self._token)
            raise
        finally:
            await program.close()

    def _take(self, run: TaskRun, answer: Answer | None) -> None:
        """Settle the call that the answer is for."""
        now = self._now(run)
        if answer is not None:
            call = asked(self._flow_id, self._calls.values(), answer.request_id)
            outcome = outcome_of(answer.response, arguments(call)["url"])
            self._calls[call.sequence] = settled(call, outcome, now)
        elif run.turn and not any(arrived(call, now) for call in self._calls.values()):
            raise InvalidTransitionError(why_not(self._flow_id, self._calls.values()))

    async def _to_rest(self, run: TaskRun, program: LiveProgram) -> TaskRun:
        while run.status is Status.RUNNING:
            try:
                if run.turn:
                    await program.revive(run)
                if run.turn and not self._ready(run, program):
                    run = await self._wait(run, program)
                else:
                    run = await self._take_turn(run, program)
            except RuntimeDiedError as error:
                await program.close()
                self._deaths += 1
                if self._deaths == DEATHS:
                    message = f"the program ended its sandbox process {DEATHS} times: {error}"
                    run = await self._give_up(run, Failure("RuntimeError", message, error.code))
            except (NonDeterminismError, InvalidTaskError) as error:
                run = await self._give_up(run, Failure("RuntimeError", str(error), error.code))
        return run

    def _ready(self, run: TaskRun, program: LiveProgram) -> list[StackRun]:
        """The calls whose outcome the program can take now, in the order in which it came."""
        now = self._now(run)
        ready = [found for call in self._calls.values() if (found := arrived(call, now))]
        ready.sort(key=lambda call: (call.updated_at, call.sequence))
        return journal.deliverable(ready, program.waiting or ())

    def _nap(self, run: TaskRun, program: LiveProgram) -> float | None:
        """Seconds until a sleep is over that is worth waiting for, rather than to pause."""
        waiting = [self._calls[number] for number in program.waiting or ()]
        if any(call.operation == FETCH for call in waiting):
            return None
        now = self._now(run)
        moments = [times.seconds_between(now, end) for call in waiting if (end := ends_at(call))]
        seconds = min(moments, default=math.inf)
        return seconds if seconds <= self._end - time.monotonic() else None

    def _goes_on(self, run: TaskRun, program: LiveProgram) -> bool:
        is_in_time = time.monotonic() < self._end
        return is_in_time and bool(self._ready(run, program) or self._nap(run, program) is not None)

    async def _wait(self, run: TaskRun, program: LiveProgram) -> TaskRun:
        """Wait for a short sleep, or pause."""
        seconds = self._nap(run, program)
        if seconds is None:
            return await self._pause(run, program)
        if seconds > IDLE:
            await program.close()
        await self._clock.wait(asyncio.Event(), max(seconds, 0.0))
        return run

    async def _take_turn(self, run: TaskRun, program: LiveProgram) -> TaskRun:
        """Hand over what is ready, advance, and commit all that followed from it."""
        batch, number = self._ready(run, program), run.turn + 1
        now = self._now(run) if run.turn else (run.started_at or self._now(run))
        outcomes = [(call.sequence, journal.outcome_of(call)) for call in batch]
        turn = await program.advance(run, outcomes, times.from_text(now))
        delivered = [
            evolve(call, delivered_turn=number, delivered_order=order, delivered_at=now)
            for order, call in enumerate(batch)
        ]
        requested = [
            evolve(journal.stack_run(run.id, call, number, now), due_at=NEVER)
            for call in turn.calls
        ]
        for call in delivered:
            del self._calls[call.sequence]
        self._calls.update((call.sequence, call) for call in requested)
        self.log += turn.log
        step = Commit(evolve(run, turn=number), self._token, log=turn.log)
        if not isinstance(turn.state, Waiting):
            return await self._end_with(turn.state, step, requested, delivered)
        place = self._calls[turn.state.calls[0]].where
        run, _ = apply(evolve(step.run, where=place), Happening(Event.ADVANCE), now)
        step = evolve(step, run=run, requested=tuple(requested), updated=tuple(delivered))
        if self._goes_on(run, program):
            return await self._commit(step)
        return await self._pause(run, program, step)

    async def _pause(
        self, run: TaskRun, program: LiveProgram, step: Commit | None = None
    ) -> TaskRun:
        """Put the run away, in one commit with `step`; nobody wakes it before its time is over."""
        step = step or Commit(run, self._token)
        kept = tuple(call for call in self._calls.values() if call.status.is_settled)
        now = self._now(run)
        expires_at = times.after(self._resumable(now), run.config.timeout or 0.0)
        snapshot = await self._snapshot(run, program)
        run, _ = apply(run, Happening(Event.PARK, wake_at=expires_at), now)
        run = evolve(run, deadline=expires_at)
        return await self._commit(
            evolve(step, run=run, updated=(*step.updated, *kept), snapshot=snapshot)
        )

    async def _snapshot(self, run: TaskRun, program: LiveProgram) -> Snapshot | None:
        if not program.is_live:
            return None
        try:
            return await program.snapshot(run, run.turn)
        except RuntimeDiedError:
            return None  # the journal has it all

    def _resumable(self, now: str) -> str:
        """When the task can be resumed: now, or when the first sleep is over."""
        if requests(self._calls.values()):
            return now
        ends = [end for call in self._calls.values() if (end := ends_at(call))]
        return max(now, min(ends, default=now))

    async def _end_with(
        self,
        state: Finished | Raised,
        step: Commit,
        requested: Sequence[StackRun],
        delivered: Sequence[StackRun],
    ) -> TaskRun:
        now = self._now(step.run)
        run = step.run
        if isinstance(state, Finished):
            run, _ = apply(run, Happening(Event.COMPLETE, result=state.value), now)
        else:
            run, _ = apply(run, Happening(Event.FAIL, error=state.error), now)
            run = evolve(run, failed_turn=run.turn)
        new = {call.sequence for call in requested}
        given_up = cancelled([c for c in self._calls.values() if c.sequence not in new], now)
        updated = (*delivered, *given_up)
        never_made = tuple(cancelled(requested, now))
        return await self._commit(evolve(step, run=run, requested=never_made, updated=updated))

    async def _give_up(self, run: TaskRun, failure: Failure) -> TaskRun:
        """The engine ends the run on behalf of the program."""
        now = self._now(run)
        run, _ = apply(run, Happening(Event.FAIL, error=failure), now)
        given_up = tuple(cancelled(self._calls.values(), now))
        return await self._commit(Commit(run, self._token, updated=given_up))

    async def _commit(self, commit: Commit) -> TaskRun:
        try:
            await self._storage.commit(commit)
        except LeaseLostError as error:
            raise RunBusyError(
                f"task {self._flow_id} was taken over by another process: look at it again"
            ) from error
        return commit.run

    def _now(self, run: TaskRun) -> str:
        """The time, never earlier than the run's last change."""
        return max(times.to_text(self._clock.now()), run.updated_at)
