"""The open calls of a run: those whose outcome the program has not been given yet.

Each is attended by an asyncio task of its own, from the moment it may be performed to its outcome.
An outcome that the program cannot take at once is committed by itself before anything else happens
with it, so it survives whatever comes next.

Some calls wait for something from outside: an event, or the end of a child run. They are looked at
when they are asked for, when the run is claimed, and when news comes (`offer`). An event survives
in the store as it is: it is taken in the commit of the turn that gives it to the program, and not
before, since the program may have given up waiting for it in the meantime.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from sequential.core import journal, times, values
from sequential.core.model import CallStatus, RunEvent, StackRun, evolve
from sequential.runner.cancelling import cancel
from sequential.runner.child_runs import child_of
from sequential.runner.clock import Clock
from sequential.runner.progress import Step

STEP = "step"
EVENT = "events.wait"
CHILD = "tasks.run"


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
        self._events: list[RunEvent] = []  # not taken yet
        self._offered: set[str] = set()
        self._taken: dict[int, str] = {}  # the event that settled a call
        self._told: dict[int, asyncio.Event] = {}  # of the calls that wait for news
        self._children: dict[str, int] = {}  # child run -> the call that waits for its end
        self._unanswered: set[int] = set()  # of these, the ones that wait for nothing else

    @property
    def children(self) -> int:
        """How many of the calls wait for the end of a child run."""
        return sum(self._calls[sequence].operation == CHILD for sequence in self._told)

    def offer(self, events: Sequence[RunEvent], going_on: Collection[str] = ()) -> None:
        """Something has come from outside: `events` among them, or the end of a child run.

        `going_on` are ids of child runs that are known not to have ended.
        """
        for event in events:
            if event.id not in self._offered:
                self._events.append(event)
        # What is in the store no more has been taken, and cannot come again.
        known = [*events, *self._events]
        self._offered = {event.id for event in known}.union(self._taken.values())
        for sequence, told in self._told.items():
            call = self._calls[sequence]
            if not (going_on and call.operation == CHILD and child_of(call) in going_on):
                told.set()
        self.changed.set()

    def child_has_ended(self, run_id: str) -> bool:
        """Have the call look at its child run; False when no call waits for this one."""
        told = self._told.get(self._children.get(run_id, -1))
        if told is None:
            return False
        told.set()
        self.changed.set()
        return True

    def taken(self, calls: Iterable[StackRun]) -> tuple[str, ...]:
        """The ids of the events that settled these calls."""
        found = [self._taken.get(call.sequence) for call in calls]
        return tuple(event for event in found if event is not None)

    def load(self, calls: Iterable[StackRun]) -> None:
        """Take in what the store has: settled calls wait for delivery, others to be attended.

        Of several whose time came while nobody drove the run, the earliest is attended first.
        """
        for call in sorted(calls, key=_came_at):
            self._calls[call.sequence] = call
            if call.status.is_settled:
                self._arrived.append(call.sequence)
                self._recorded.add(call.sequence)

    def follow(self, delivered: Iterable[StackRun], requested: Iterable[StackRun]) -> None:
        """Go on after a committed turn. Others may have been settled during the commit."""
        for call in delivered:
            del self._calls[call.sequence]
            self._arrived.remove(call.sequence)
            self._recorded.discard(call.sequence)
            self._attending.pop(call.sequence, None)
            self._taken.pop(call.sequence, None)
        self._calls.update(
            (call.sequence, call) for call in requested if call.delivered_turn is None
        )
        self.attend()

    def give_back(self, dropped: Collection[int]) -> None:
        """An event that has come for a call nobody wants is there for the next that waits."""
        for sequence in sorted(dropped, reverse=True):
            taken = self._taken.pop(sequence, None)
            if taken is not None:
                call = self._calls[sequence]
                _, arguments = values.arguments_from_json(call.input)
                named = {"name": arguments.get("name"), "data": call.result}
                named = call.result if arguments.get("any") else named
                event = RunEvent(taken, named["name"], call.updated_at, named["data"])
                self._events.insert(0, event)
                self._calls[sequence] = evolve(call, result=None, parent_stack_run_id=None)

    async def drop(self, dropped: Iterable[StackRun]) -> None:
        """Forget calls that the program does not want any more, and stop performing them."""
        tasks = []
        for call in dropped:
            del self._calls[call.sequence]
            if call.sequence in self._arrived:
                self._arrived.remove(call.sequence)
            self._recorded.discard(call.sequence)
            self._unanswered.discard(call.sequence)
            if task := self._attending.pop(call.sequence, None):
                tasks.append(task)
        await cancel(tasks)

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
        known = self._recorded.union(self._taken)
        return tuple(self._calls[s] for s in self._arrived if s not in known)

    def earliest(self) -> str | None:
        """When the first of them is due; None when one is due already, or none ever will be."""
        return earliest(call for s, call in self._calls.items() if s not in self._unanswered)

    def unanswered(self) -> list[StackRun]:
        """The calls for events that may never come.

        A graph mostly takes events while it does something else; it waits for them only while no
        handler and no time can move it on.
        """
        is_alone = len(self._calls) == 1
        waits = [self._calls[s] for s in self._unanswered if self._calls[s].operation == EVENT]
        return [call for call in waits if is_alone or not _is_of_graph(call)]

    def has_steps(self) -> bool:
        """Whether functions of the program are to be called, which has to be in memory for that."""
        calls = self._calls.values()
        return any(call.service == STEP and not call.status.is_settled for call in calls)

    def children_of(self, numbers: Iterable[int] | None = None) -> list[str]:
        """The ids of the child runs that these calls wait for, or all of them do."""
        known = self._calls if numbers is None else [n for n in numbers if n in self._calls]
        calls = [self._calls[number] for number in known]
        return [child_of(c) for c in calls if c.operation == CHILD and not c.status.is_settled]

    def has_children(self) -> bool:
        """Whether child runs go on at this moment, or may do so."""
        calls = self._calls.values()
        return any(call.operation == CHILD and not call.status.is_settled for call in calls)

    def is_quiet_for(self, seconds: float) -> bool:
        """Whether nothing is being performed and nothing will be due for so long."""
        if self._performing or any(told.is_set() for told in self._told.values()):
            return False
        unsettled = [call for call in self._calls.values() if not call.status.is_settled]
        return all(
            self._until(call) > seconds and self._event_for(call.sequence) is None
            for call in unsettled
        )

    @property
    def is_performing(self) -> bool:
        """Whether a service has been handed a call and its outcome is not noted yet."""
        return bool(self._performing)

    async def begin_no_more(self) -> None:
        """Leave alone what was not handed to its service yet."""
        waiting = [sequence for sequence in self._attending if sequence not in self._performing]
        await cancel([self._attending.pop(sequence) for sequence in waiting])

    async def cancel(self) -> None:
        """Stop performing; calls in progress will be performed again, or never."""
        tasks = list(self._attending.values())
        self._attending.clear()
        await cancel(tasks)

    def attend(self) -> None:
        """Perform what is due, and wait for what is not."""
        for sequence, call in self._calls.items():
            if not call.status.is_settled and sequence not in self._attending:
                if self._until(call) > 0:
                    self._tell(Step.CALL_WAITING, call)
                self._attending[sequence] = asyncio.create_task(self._carry_out(sequence))

    async def _carry_out(self, sequence: int) -> None:
        """One call, all its attempts."""
        news, child = asyncio.Event(), ""
        if self._calls[sequence].operation in (EVENT, CHILD):
            self._told[sequence] = news
        if self._calls[sequence].operation == CHILD:
            child = child_of(self._calls[sequence])
            self._children[child] = sequence
        try:
            while not self._calls[sequence].status.is_settled:
                has_come = await self._wait_until_due(sequence, news)
                self._performing.add(sequence)
                try:
                    if event := self._event_for(sequence):
                        await self._take(sequence, event)
                    elif not has_come or self._calls[sequence].operation == CHILD:
                        await self._attempt(sequence)
                finally:
                    self._performing.discard(sequence)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)
        finally:
            self._told.pop(sequence, None)
            self._children.pop(child, None)

    async def _wait_until_due(self, sequence: int, news: asyncio.Event) -> bool:
        """Wait until a call may be performed; True if news has come before that."""
        while self._event_for(sequence) is None:
            seconds = self._until(self._calls[sequence])
            if seconds <= 0:
                break
            await self._clock.wait(news, None if math.isinf(seconds) else seconds)
            if news.is_set():
                news.clear()
                return True
        news.clear()
        return False

    def _event_for(self, sequence: int) -> RunEvent | None:
        call = self._calls[sequence]
        if call.operation != EVENT:
            return None
        if _is_of_graph(call):
            return next(iter(self._events), None)
        _, arguments = values.arguments_from_json(call.input)
        return next((e for e in self._events if e.name == arguments.get("name")), None)

    async def _take(self, sequence: int, event: RunEvent) -> None:
        """Settle a call with an event; the commit that writes the outcome removes the event."""
        self._events.remove(event)
        self._taken[sequence] = event.id
        call = self._calls[sequence]
        _, arguments = values.arguments_from_json(call.input)
        data = {"name": event.name, "data": event.data} if arguments.get("any") else event.data
        call = evolve(
            call,
            status=CallStatus.COMPLETED,
            result=data,
            size=len(values.dumps(data)),
            attempts=call.attempts + 1,
            due_at=None,
            updated_at=max(times.to_text(self._clock.now()), call.updated_at),
            parent_stack_run_id=event.id,  # so that a second delivery is known as such
        )
        await self._settle(sequence, call)

    async def _attempt(self, sequence: int) -> None:
        asked = self._calls[sequence]
        self._tell(Step.CALL_STARTED, asked)
        call = await self._perform(asked)
        if call.status.is_settled:
            await self._settle(sequence, call)
            return
        self._calls[sequence] = call
        if sequence in self._told:
            if call.error != asked.error:  # a retry went on to the child: once is enough
                await self._record(evolve(call, due_at=asked.due_at))
            if call.due_at is None:
                self._unanswered.add(sequence)
            self._tell(Step.CALL_WAITING, call)
        else:
            await self._record(call)
            self._tell(Step.CALL_RETRYING, call)
        self.changed.set()

    async def _settle(self, sequence: int, call: StackRun) -> None:
        """Note an outcome; it is committed now, unless the next turn does that at once."""
        taken_at_once = self._taken_at_once(sequence)
        self._calls[sequence] = call
        self._unanswered.discard(sequence)
        if not taken_at_once and sequence not in self._taken:
            await self._record(call)
            self._recorded.add(sequence)
        self._arrived.append(sequence)
        self._tell(Step.CALL_SETTLED, call)
        self.changed.set()

    def _until(self, call: StackRun) -> float:
        """Seconds until a call may be performed."""
        if call.due_at is None:
            return math.inf if call.sequence in self._unanswered else 0.0
        return times.seconds_between(times.to_text(self._clock.now()), call.due_at)


def _is_of_graph(call: StackRun) -> bool:
    """Whether a call for events takes each that comes, as that of a graph does."""
    return bool(values.arguments_from_json(call.input)[1].get("any"))


def _came_at(call: StackRun) -> tuple[str, int]:
    """What puts calls in the order in which their outcomes came, or are to come."""
    is_timed = not call.status.is_settled and call.due_at is not None
    return (call.due_at or "" if is_timed else call.updated_at), call.sequence


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
        else evolve(call, status=CallStatus.CANCELLED, updated_at=now)
        for call in calls
    ]
