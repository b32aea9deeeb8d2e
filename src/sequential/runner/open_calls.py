"""The open calls of a run: those whose outcome the program has not been given yet.

Each is attended by an asyncio task of its own, from the moment it may be performed to its outcome.
An outcome that the program cannot take at once is committed by itself before anything else happens
with it, so it survives whatever comes next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from sequential.core import journal, times
from sequential.core.model import CallStatus, StackRun, evolve
from sequential.runner.clock import Clock
from sequential.runner.progress import Step


class OpenCalls:
    """Performs calls and collects their outcomes, in the order in which they arrive.

    `perform` makes one attempt, `record` commits a call by itself, `taken_at_once` says whether the
    program waits in memory for the outcome of a call, `fail` is told what went wrong beyond the
    call itself. `changed` is set whenever there is something new.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        perform: Callable[[StackRun], Awaitable[StackRun]],
        record: Callable[[StackRun], Awaitable[None]],
        taken_at_once: Callable[[int], bool],
        tell: Callable[[Step, StackRun], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.changed = asyncio.Event()
        self._clock = clock
        self._perform = perform
        self._record = record
        self._taken_at_once = taken_at_once
        self._tell = tell
        self._fail = fail
        self._calls: dict[int, StackRun] = {}
        self._arrived: list[int] = []  # the settled ones, in the order of arrival
        self._recorded: set[int] = set()  # of these, the ones whose outcome is committed
        self._performing: set[int] = set()  # handed to their service, outcome not noted yet
        self._attending: dict[int, asyncio.Task[None]] = {}

    def load(self, calls: Iterable[StackRun]) -> None:
        """Begin with what the store has: settled calls wait for delivery, others are performed."""
        for call in sorted(calls, key=lambda call: (call.updated_at, call.sequence)):
            self._calls[call.sequence] = call
            if call.status.is_settled:
                self._arrived.append(call.sequence)
                self._recorded.add(call.sequence)
        self._attend()

    def follow(self, delivered: Iterable[StackRun], requested: Iterable[StackRun]) -> None:
        """Go on after a committed turn. Others may have been settled during the commit."""
        for call in delivered:
            del self._calls[call.sequence]
            self._arrived.remove(call.sequence)
            self._recorded.discard(call.sequence)
            self._attending.pop(call.sequence, None)
        self._calls.update((call.sequence, call) for call in requested)
        self._attend()

    def without(self, delivered: Iterable[StackRun]) -> list[StackRun]:
        """The calls that stay open once these are delivered."""
        given = {call.sequence for call in delivered}
        return [call for call in self._calls.values() if call.sequence not in given]

    def ready(self, waiting: tuple[int, ...] | None) -> list[StackRun]:
        """Settled calls the program can take; it waits for `waiting`, None: that is not known."""
        arrived = [self._calls[sequence] for sequence in self._arrived]
        return arrived if waiting is None else journal.deliverable(arrived, waiting)

    def unrecorded(self) -> tuple[StackRun, ...]:
        """Settled calls whose outcome is not committed yet."""
        return tuple(self._calls[s] for s in self._arrived if s not in self._recorded)

    def earliest(self) -> str | None:
        """When the first of them is due; None when one is due already, or all are settled."""
        return earliest(self._calls.values())

    def is_quiet_for(self, seconds: float) -> bool:
        """Whether nothing is being performed and nothing will be due for so long."""
        unsettled = [call for call in self._calls.values() if not call.status.is_settled]
        return not self._performing and all(self._until(call) > seconds for call in unsettled)

    async def cancel(self) -> None:
        """Stop performing; calls in progress will be performed again, or never."""
        tasks = list(self._attending.values())
        self._attending.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _attend(self) -> None:
        for sequence, call in self._calls.items():
            if not call.status.is_settled and sequence not in self._attending:
                if self._until(call) > 0:
                    self._tell(Step.CALL_WAITING, call)
                self._attending[sequence] = asyncio.create_task(self._carry_out(sequence))

    async def _carry_out(self, sequence: int) -> None:
        """One call, all its attempts."""
        never = asyncio.Event()
        try:
            while not self._calls[sequence].status.is_settled:
                while (seconds := self._until(self._calls[sequence])) > 0:
                    await self._clock.wait(never, seconds)
                self._performing.add(sequence)
                try:
                    await self._attempt(sequence)
                finally:
                    self._performing.discard(sequence)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)

    async def _attempt(self, sequence: int) -> None:
        call = self._calls[sequence]
        self._tell(Step.CALL_STARTED, call)
        call = await self._perform(call)
        taken_at_once = self._taken_at_once(sequence)
        self._calls[sequence] = call
        if not call.status.is_settled:
            await self._record(call)
            self._tell(Step.CALL_RETRYING, call)
        else:
            if not taken_at_once:
                await self._record(call)
                self._recorded.add(sequence)
            self._arrived.append(sequence)
            self._tell(Step.CALL_SETTLED, call)
        self.changed.set()

    def _until(self, call: StackRun) -> float:
        """Seconds until a call may be performed."""
        if call.due_at is None:
            return 0.0
        return times.seconds_between(times.to_text(self._clock.now()), call.due_at)


def earliest(calls: Iterable[StackRun]) -> str | None:
    """When the first of some calls is due; None when one is due already, or all are settled."""
    unsettled = [call for call in calls if not call.status.is_settled]
    moments = [call.due_at for call in unsettled if call.due_at is not None]
    return min(moments) if moments and len(moments) == len(unsettled) else None


def cancelled(calls: Iterable[StackRun], now: str) -> list[StackRun]:
    """Open calls as they are written down when their run is over."""
    return [
        call
        if call.status.is_settled
        else evolve(call, status=CallStatus.CANCELLED, due_at=None, updated_at=now)
        for call in calls
    ]
