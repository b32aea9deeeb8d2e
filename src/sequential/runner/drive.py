"""Driving one run: deliver outcomes, advance, commit, perform the new calls, and again.

Three kinds of things happen at the same time: the program advances, calls are performed, and other
runs do the same. All of it is on one event loop, so plain attributes are safe between awaits; the
order of the commits of a run is kept by a lock.

What must be on disk before what: the commit of a turn holds the outcomes that were delivered and
the calls asked for; only then are these performed. An outcome that cannot be delivered at once is
committed by itself, so it survives whatever happens until the program can take it.
"""

import asyncio
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from sequential.core import journal, times
from sequential.core.lapse import expired, timed_out
from sequential.core.model import (
    Call,
    CallStatus,
    Commit,
    Failure,
    Raised,
    Snapshot,
    StackRun,
    Status,
    TaskRun,
    Turn,
    Waiting,
    evolve,
)
from sequential.core.transitions import Event, Happening, apply
from sequential.errors import (
    InvalidTaskError,
    LeaseLostError,
    NonDeterminismError,
    RuntimeDiedError,
)
from sequential.runner import turns
from sequential.runner.cancelling import cancel
from sequential.runner.child_runs import child_of
from sequential.runner.clock import Clock
from sequential.runner.live_program import LiveProgram
from sequential.runner.open_calls import CHILD, OpenCalls, cancelled, earliest
from sequential.runner.progress import Observer, Progress, Step
from sequential.runner.service_client import ServiceClient
from sequential.runner.settings import RunnerSettings
from sequential.storage.base import StorageAdapter

T = TypeVar("T")

GRACE = 0.005  # seconds a program keeps its room in any case: many calls are answered by then
ORPHAN_LOOK = 3600.0  # seconds; usually who ends a parent ends its children
RECENT = 3  # turns in which a child may have been given up that goes on all the same
MANY = 5  # child runs that are looked at together
LINGER = 5.0  # seconds that a program goes on computing after its run was to stop
REPLAY_COST = 150e-6  # seconds to replay a turn, about; compared with the cost of a snapshot


class Drive:
    """One run from a claim to its end, or to a wait long enough to park it."""

    def __init__(
        self,
        run: TaskRun,
        program: LiveProgram,
        *,
        storage: StorageAdapter,
        client: ServiceClient,
        clock: Clock,
        settings: RunnerSettings,
        observer: Observer,
        abandon: Callable[[Collection[str]], Awaitable[None]],
        until: float | None = None,
        left_off_at: int | None = None,
    ) -> None:
        """`until`, on the monotonic clock: park after the first turn that ends later than this.

        `left_off_at` is the turn at which this process parked the run, having given up no child.
        """
        assert run.lease_token
        self._until = until
        self._abandon = abandon  # ends child runs that nobody waits for any more
        self.run = run
        self._token = run.lease_token
        self.held_until = run.lease_until or ""  # until then nobody else can have taken the run
        self._program = program
        self._storage = storage
        self._client = client
        self._clock = clock
        self._settings = settings
        self._observer = observer
        self._calls = OpenCalls(
            clock,
            perform=lambda call: client.perform(self.run, call),
            record=self._record,
            taken_at_once=self._takes_at_once,
            tell=self._tell,
            fail=self.stop,
        )
        self._changed = self._calls.changed
        self._commit_order = asyncio.Lock()
        self._look_order = asyncio.Lock()
        self._will_look = False  # one that has not begun yet sees what comes until then
        self._advancing = False
        self._turns = 0  # that this drive has committed
        self._stopping = False
        self._is_parking = False  # what comes now has to be seen by who takes the run next
        self._halted = asyncio.Event()
        self._error: BaseException | None = None
        self._calls.offer(run.events)
        self.answers = run.answers  # as many as were offered to the calls
        self.has_children = False  # that are to be cancelled, once the run is over
        self.has_left_children = False  # that were given up while the run goes on
        self._left_off_at = left_off_at

    async def to_rest(self) -> TaskRun:
        """Drive until the run ends or is parked; returns it as it was last committed."""
        try:
            calls = await self._storage.load_calls(self.run.id, self.run.turn)
            self._tell(Step.STARTED)
            self._calls.load(calls)
            if self._calls.has_steps():
                self._advancing = True
                await self._revive()
                self._advancing = False
            if self.run.turn and self._may_forget_children():
                await self._end_forgotten_children()
            if self.run.status is Status.RUNNING and not self._stopping:
                self._calls.attend()
            while self.run.status is Status.RUNNING:
                if self._is_over_budget():
                    await self._finish_calls()
                    self.stop()
                if self.run.turn == 0 and not self._stopping:
                    await self._take_turn([])
                    continue
                ready = await self._next_outcomes()
                if ready is not None:
                    await self._take_turn(ready)
            return self.run
        finally:
            await self._let_go()

    def stop(self, error: BaseException | None = None) -> None:
        """Park as soon as possible; with an error, stop without writing anything more."""
        self._stopping = True
        self._error = self._error or error
        self._changed.set()
        self._halted.set()

    def child_has_ended(self, run_id: str) -> bool:
        """Take notice of the end of a child; False when the store has to be told instead."""
        return not (self._stopping or self._is_parking) and self._calls.child_has_ended(run_id)

    async def look(self) -> None:
        """Something happened to the run in the store: take in what came from outside."""
        if self._will_look or self.run.status is not Status.RUNNING:
            return
        self._will_look = True
        async with self._look_order:
            self._will_look = False
            stored = await self._storage.get_task_run(self.run.id)
            if stored is None or stored.lease_token != self._token:
                if self.run.status is Status.RUNNING:
                    self.stop(LeaseLostError())
            elif stored.answers != self.answers:
                going_on = await self._children_going_on()
                self.answers = stored.answers
                self._calls.offer(stored.events, going_on)

    def _may_forget_children(self) -> bool:
        """Whether the program may give up calls; one in the sandbox waits for each of its own.

        Nobody else has driven a run that is at the turn at which this process left off. It saves a
        look at older calls, for which the folder has to read the whole journal.
        """
        gives_up = self.run.config.runtime == "native" or self.run.config.graph is not None
        return gives_up and self.run.turn != self._left_off_at

    async def _end_forgotten_children(self) -> None:
        """A process may have died between the turn that gave up a child and the child's end."""
        calls = await self._storage.load_calls(self.run.id, max(0, self.run.turn - RECENT))
        given_up = [call for call in calls if call.operation == CHILD and turns.is_given_up(call)]
        children = [await self._storage.get_task_run(child_of(call)) for call in given_up]
        await self._abandon([one.id for one in children if one and not one.status.is_final])

    async def _children_going_on(self) -> set[str]:
        """The child runs that need no look, when looking at all of them would take long."""
        if self._calls.children < MANY:
            return set()
        going_on = await self._storage.query_task_runs(
            parent_run_id=self.run.id, status=[one for one in Status if not one.is_final]
        )
        return {child.id for child in going_on}

    def _takes_at_once(self, sequence: int) -> bool:
        """Whether the program waits in memory for just this: the next commit has the outcome."""
        is_waiting = self._program.is_live and not self._advancing
        return is_waiting and sequence in (self._program.waiting or ())

    async def _record(self, call: StackRun) -> None:
        async with self._commit_order:
            taken = self._calls.taken((call,))
            await self._storage.commit(Commit(self.run, self._token, updated=(call,), taken=taken))

    def _is_over_budget(self) -> bool:
        """Whether to park although the run could go on; one that only waits is parked anyway."""
        if self._until is None or self._until > time.monotonic() or not self._turns:
            return False
        return bool(self._ready()) or not self._calls.is_quiet_for(self._settings.park_after)

    async def _finish_calls(self) -> None:
        """Begin no more calls, and wait for those in progress, which would be performed again."""
        await self._calls.begin_no_more()
        while self._calls.is_performing and not self._stopping:
            self._changed.clear()
            await self._clock.wait(self._changed, None)

    # --- waiting ---------------------------------------------------------------------------------

    async def _next_outcomes(self) -> list[StackRun] | None:
        """Wait for outcomes the program can take; None when the run was parked or ended instead."""
        while True:
            if self._error is not None:
                raise self._error
            if self._stopping:
                await self._park()
                return None
            if self.run.deadline and self._seconds_until(self.run.deadline) <= 0:
                await self._end(timed_out(self.run))
                return None
            if self._ready():
                self._advancing = True
                if not self._program.is_live and not await self._revive():
                    self._advancing = False
                    if self.run.status is not Status.RUNNING:
                        return None
                    continue
                if ready := self._ready():
                    return ready
                self._advancing = False
            if self._calls.is_quiet_for(self._settings.park_after):
                expires_at = self._expires_at()
                if expires_at and self._seconds_until(expires_at) <= 0:
                    await self._end(expired(self.run))
                else:
                    await self._park()
                return None
            await self._idle()

    def _ready(self) -> list[StackRun]:
        return self._calls.ready(self._program.waiting)

    async def _idle(self) -> None:
        """Wait until something changes; a program that waits long leaves memory."""
        self._changed.clear()
        remaining = self._seconds_until(self.run.deadline) if self.run.deadline else None
        if not self._program.is_live or self._program.stays:
            await self._clock.wait(self._changed, remaining)
            return
        await asyncio.sleep(0)  # what a local service answers is there by then, without a timer
        if self._changed.is_set() or await self._wait(GRACE, remaining):
            return
        self._program.lend(self._changed)
        if not self._program.is_unwanted:
            await self._wait(self._settings.idle_after, remaining)
        self._program.keep(self._changed)
        if not self._ready() and self._error is None:
            await self._leave_memory()

    async def _wait(self, seconds: float, most: float | None) -> bool:
        """Wait for a change; False when the time has passed without one."""
        await self._clock.wait(self._changed, seconds if most is None else min(seconds, most))
        return self._changed.is_set()

    async def _leave_memory(self) -> None:
        """Give the program's room to others; its state goes to storage."""
        self._advancing = True  # an outcome that arrives meanwhile is committed by itself
        try:
            if self._program.tail:
                snapshot = await self._program.snapshot(self.run, self.run.turn)
                if snapshot is None:
                    return
                async with self._commit_order:
                    await self._storage.store_snapshot(snapshot)
            await self._program.close()
        except RuntimeDiedError as error:
            await self._died(error)
        finally:
            self._advancing = False

    async def _revive(self) -> bool:
        try:
            replayed = await self._in_time(self._program.revive(self.run))
        except RuntimeDiedError as error:
            await self._died(error)
            return False
        except (NonDeterminismError, InvalidTaskError) as error:
            await self._end(Failure(type="RuntimeError", message=str(error), code=error.code))
            return False
        if replayed is None:
            return False
        if replayed:
            turns = "1 turn" if replayed == 1 else f"{replayed} turns"
            self._tell(Step.REPLAYED, text=f"{turns} replayed from the journal")
        return True

    # --- turns -----------------------------------------------------------------------------------

    async def _take_turn(self, batch: Sequence[StackRun]) -> None:
        """Hand over outcomes, advance, and commit all that followed from it."""
        self._advancing = True
        try:
            now = self._now() if self.run.turn else (self.run.started_at or self._now())
            outcomes = [(call.sequence, journal.outcome_of(call)) for call in batch]
            advancing = self._program.advance(self.run, outcomes, times.from_text(now))
            turn = await self._in_time(advancing)
            if turn is not None:
                await self._commit_turn(turn, batch, now)
                self._turns += 1
        except RuntimeDiedError as error:
            await self._died(error)
        except (NonDeterminismError, InvalidTaskError) as error:
            await self._end(Failure(type="RuntimeError", message=str(error), code=error.code))
        finally:
            self._advancing = False

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What the program does now; None if it was given up, for a stop or the run's deadline.

        A sandbox has limits of its own. A native program may compute for as long as the run may
        take; when the run is stopped, what it did since its last call is done again later.
        """
        if not self._program.may_linger(self.run):
            return await work
        working = asyncio.create_task(work)
        halted = asyncio.create_task(self._halted.wait())
        try:
            most = self._seconds_until(self.run.deadline) if self.run.deadline else None
            await asyncio.wait([working, halted], timeout=most, return_when=FIRST_COMPLETED)
            if halted.done() and not working.done():
                await asyncio.wait([working], timeout=LINGER)
            if working.done():
                return working.result()
        finally:
            await cancel([working, halted])
        if not self._stopping:
            await self._end(timed_out(self.run))
        return None

    async def _commit_turn(self, turn: Turn, batch: Sequence[StackRun], now: str) -> None:
        number = self.run.turn + 1
        waits = isinstance(turn.state, Waiting)
        delivered = turns.delivered(batch, number, now)
        notes = set(turn.notes)
        requested = [
            self._request(call, number, now, wanted=waits and call.sequence not in notes)
            for call in turn.calls
        ]
        self._calls.give_back(turn.dropped)
        left_alone = self._calls.children_of(turn.dropped)
        dropped = turns.drop(turn.dropped, requested, self._calls.without(()), number, now)
        turns.settle_notes(turn.notes, requested, number, now)
        left = [*self._calls.without([*delivered, *dropped]), *requested]
        run = evolve(self.run, turn=number, crashes=0, where=turns.place(turn, left))
        if waits:
            run, _ = apply(run, Happening(Event.ADVANCE, wake_at=earliest(left)), now)
            snapshot, given_up = await self._due_snapshot(number), []
        else:
            run, _ = apply(run, turns.ending(turn.state), self._now())
            failed_turn = number if isinstance(turn.state, Raised) else None
            run = evolve(run, failed_turn=failed_turn, expires_at=None)
            self.has_children = self._calls.has_children()
            snapshot, given_up = None, cancelled(self._calls.without([*delivered, *dropped]), now)
        updated = (*delivered, *dropped, *given_up)
        await self._commit(Commit(run, self._token, tuple(requested), updated, turn.log, snapshot))
        if turn.log:
            self._tell(Step.PRINTED, text=turn.log)
        if waits:
            self.has_left_children = self.has_left_children or bool(left_alone)
            await self._calls.drop(dropped)
            await self._abandon(left_alone)
            self._calls.follow(delivered, requested)
        else:
            self._tell(Step.ENDED)

    def _request(self, call: Call, turn: int, now: str, *, wanted: bool) -> StackRun:
        """The record of a new call; one that the program did not wait for is never performed."""
        record = journal.stack_run(self.run.id, call, turn, now)
        if not wanted:
            return evolve(record, status=CallStatus.CANCELLED)
        due = self._client.due_at(record, self.run.config.allow, now)
        status = CallStatus.IN_PROGRESS if due is None else CallStatus.PENDING
        return evolve(record, status=status, due_at=due)

    async def _due_snapshot(self, turn: int) -> Snapshot | None:
        """A snapshot, when replaying the turns since the last one would cost more than it."""
        tail = self._program.tail
        if tail < self._settings.snapshot_every or tail * REPLAY_COST < self._program.snapshot_cost:
            return None
        return await self._program.snapshot(self.run, turn)

    async def _commit(self, commit: Commit) -> None:
        async with self._commit_order:
            taken = self._calls.taken(commit.updated)
            await self._storage.commit(evolve(commit, taken=taken) if taken else commit)
            self.run = commit.run

    # --- ends ------------------------------------------------------------------------------------

    async def _park(self) -> None:
        """Give the run back to storage; calls in progress will be performed again."""
        self._is_parking = True
        # What comes from now on was not considered, and the commit must not say that it was.
        seen = evolve(self.run, answers=self.answers, expires_at=self._expires_at())
        wake_at = None if self._stopping else self._calls.earliest()
        await self._calls.cancel()
        now = self._now()
        wake_at = now if self._stopping else wake_at
        look_up = self._parent_look(now) if self.run.parent_run_id else None
        known = (wake_at, seen.deadline, seen.expires_at, look_up)
        moments = [moment for moment in known if moment]
        snapshot = await self._last_snapshot()
        happening = Happening(Event.PARK, wake_at=min(moments, default=None))
        run, _ = apply(seen, happening, now)
        unrecorded = self._calls.unrecorded()
        await self._commit(Commit(run, self._token, updated=unrecorded, snapshot=snapshot))
        if not self._stopping:
            await self._program.put_aside(run)
        self._tell(Step.PARKED)

    def _parent_look(self, now: str) -> str:
        """When a child that nothing else wakes is claimed, and ended if its parent has."""
        age = times.seconds_between(self.run.created_at, now)
        return times.after(now, max(ORPHAN_LOOK, age))

    async def _last_snapshot(self) -> Snapshot | None:
        if not (self._program.is_live and self._program.tail):
            return None
        try:
            return await self._program.snapshot(self.run, self.run.turn)
        except RuntimeDiedError:
            return None  # the journal has it all

    async def _end(self, failure: Failure) -> None:
        """The engine gives up on behalf of the program."""
        self.has_children = self._calls.has_children()
        await self._calls.cancel()
        now = self._now()
        run, _ = apply(self.run, Happening(Event.FAIL, error=failure), now)
        given_up = cancelled(self._calls.without(()), now)
        await self._commit(Commit(run, self._token, updated=tuple(given_up)))
        self._tell(Step.ENDED)

    async def _died(self, error: RuntimeDiedError) -> None:
        """The runtime ended under the program: take the turn again, but not for ever."""
        await self._program.close()
        deaths = self.run.crashes + 1
        self._tell(Step.RUNTIME_DIED, text=str(error))
        if deaths >= self._settings.deaths:
            message = (
                f"this run ended its sandbox process {deaths} times at the same place: {error}"
            )
            await self._end(Failure(type="RuntimeError", message=message, code=error.code))
        else:
            run = evolve(self.run, crashes=deaths, updated_at=self._now())
            await self._commit(Commit(run, self._token))

    def _expires_at(self) -> str | None:
        """When the run has waited long enough for the answers that its program waits for."""
        if (ttl := self.run.config.ttl) is None:
            return None
        asked = [times.after(call.updated_at, ttl) for call in self._calls.unanswered()]
        return min(asked, default=None)

    async def _let_go(self) -> None:
        try:
            await self._calls.cancel()
        finally:
            await self._program.close()

    # --- small things ----------------------------------------------------------------------------

    def _now(self) -> str:
        """The time, never earlier than the run's last change: clocks are set back, journals not."""
        return max(times.to_text(self._clock.now()), self.run.updated_at)

    def _seconds_until(self, moment: str | None) -> float:
        if moment is None:
            return 0.0
        return times.seconds_between(times.to_text(self._clock.now()), moment)

    def _tell(self, step: Step, call: StackRun | None = None, text: str = "") -> None:
        self._observer(Progress(step, self.run, call, text))
